"""Runs benchmark_eager or benchmark_jit and the same work in PyTorch in turns, A B A B, and prints a table.

    compare.py BENCHMARK_EAGER [--rounds 3] [--threads 1,2] [--part all|small|layers|models]
    compare.py BENCHMARK_JIT --part jit

Each turn is a process of its own. A cell is the median over rounds with the lowest and highest; ratio is PyTorch's median
over ours. Rows "…, eager" and "…, traced" stand beside PyTorch's eager time, and beside torch.jit's where it has one. Small
ops are processor time, best of seven inside a turn; models are wall time, median inside a turn. floor is the share of the
measured peak of multiply-adds that our time means. Without PyTorch, our column stands alone.

Debian's PyTorch multiplies matrices with whatever BLAS the system has; with the reference one it is ten times slower than
it can be. `scripts/setup bench` installs OpenBLAS.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def report(name, seconds):
    print(json.dumps({"name": name, "seconds": seconds}), flush=True)


def torch_small_ops(torch):
    a, b = torch.randn(8), torch.randn(8)
    for suffix in ("", ", recorded"):
        a.requires_grad_(bool(suffix))
        for name, op in (("add", lambda: torch.add(a, b)), ("mul", lambda: torch.mul(a, b)), ("exp", lambda: torch.exp(a))):
            best = 1.0
            for _ in range(7):
                start = time.thread_time()
                for _ in range(10000):
                    op()
                best = min(best, (time.thread_time() - start) / 10000)
            start = time.thread_time()
            for _ in range(10000):
                pass
            report(name + suffix, best - (time.thread_time() - start) / 10000)


def measure(name, step, budget):
    begin, times = time.perf_counter(), []
    step()
    while len(times) < 500 and (len(times) < 3 or time.perf_counter() - begin < budget):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    report(name, sorted(times)[len(times) // 2])


def torch_layers(torch):
    q, k, v = (torch.randn(64, 512, 64) for _ in range(3))

    def attend():
        return torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)) * 0.125, -1), v)

    measure("attention", attend, 1)
    for t in (q, k, v):
        t.requires_grad_(True)
    measure("attention, with gradient", lambda: attend().sum().backward(), 2)

    def lstm_step(net, x):
        def step():
            net.zero_grad(set_to_none=True)
            net(x)[0].sum().backward()
        return step

    for hidden in (128, 256):
        measure(f"LSTM step, hidden {hidden}", lstm_step(torch.nn.LSTM(hidden, hidden), torch.randn(32, 16, hidden)), 1)
    x, weight, bias = torch.randn(16, 64, 32, 32), torch.ones(64), torch.zeros(64)
    for t in (x, weight, bias):
        t.requires_grad_(True)
    measure("group norm, with gradient", lambda: torch.nn.functional.group_norm(x, 8, weight, bias).sum().backward(), 0.5)
    for name, make in (("SGD step", torch.optim.SGD), ("RMSprop step", torch.optim.RMSprop)):
        w = torch.randn(1000000, requires_grad=True)
        w.grad = torch.randn(1000000)
        measure(name, make([w], lr=1e-3, momentum=0.9).step, 0.5)
    numbers = torch.rand(1000000) * 10
    for name in "sin cos tan exp2 log2 log10 log1p expm1 erf atan sinh cosh".split():
        measure(name, lambda f=getattr(torch, name): f(numbers), 0.2)


def torch_models(torch):
    nn, functional = torch.nn, torch.nn.functional

    def classifier_step(net, x, y, optim=None):
        def step():
            loss = functional.cross_entropy(net(x), y)
            net.zero_grad(set_to_none=True)
            loss.backward()
            if optim:
                optim.step()
        return step

    mlp = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    measure("MLP step", classifier_step(mlp, torch.randn(32, 64), torch.randint(10, (32,)), torch.optim.SGD(mlp.parameters(), 1e-3)), 0.5)

    def up(i, o, stride=2, padding=1):
        return nn.ConvTranspose2d(i, o, 4, stride, padding, bias=False)

    def down(i, o, stride=2, padding=1):
        return nn.Conv2d(i, o, 4, stride, padding, bias=False)

    generator = nn.Sequential(up(100, 512, 1, 0), nn.BatchNorm2d(512), nn.ReLU(True), up(512, 256), nn.BatchNorm2d(256), nn.ReLU(True),
                              up(256, 128), nn.BatchNorm2d(128), nn.ReLU(True), up(128, 64), nn.BatchNorm2d(64), nn.ReLU(True),
                              up(64, 3), nn.Tanh())
    discriminator = nn.Sequential(down(3, 64), nn.LeakyReLU(0.2, True), down(64, 128), nn.BatchNorm2d(128), nn.LeakyReLU(0.2, True),
                                  down(128, 256), nn.BatchNorm2d(256), nn.LeakyReLU(0.2, True), down(256, 512), nn.BatchNorm2d(512),
                                  nn.LeakyReLU(0.2, True), down(512, 1, 1, 0))
    optim_g = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    optim_d = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))
    real, ones, zeros = torch.randn(64, 3, 64, 64), torch.ones(64), torch.zeros(64)

    def verdict(images, truth):
        return functional.binary_cross_entropy_with_logits(discriminator(images).reshape(64), truth)

    def dcgan_step():
        fake = generator(torch.randn(64, 100, 1, 1))
        discriminator.zero_grad(set_to_none=True)
        verdict(real, ones).backward()
        verdict(fake.detach(), zeros).backward()
        optim_d.step()
        generator.zero_grad(set_to_none=True)
        verdict(fake, ones).backward()
        optim_g.step()

    measure("DCGAN step", dcgan_step, 10)

    class Block(nn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
            self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
            plain = stride == 1 and i == o
            self.downsample = None if plain else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

        def forward(self, x):
            y = functional.relu_(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            y += self.downsample(x) if self.downsample else x
            return functional.relu_(y)

    resnet = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1),
                           Block(64, 64, 1), Block(64, 64, 1), Block(64, 128, 2), Block(128, 128, 1), Block(128, 256, 2),
                           Block(256, 256, 1), Block(256, 512, 2), Block(512, 512, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                           nn.Linear(512, 1000))
    measure("ResNet-18 forward and backward", classifier_step(resnet, torch.randn(8, 3, 224, 224), torch.randint(1000, (8,))), 8)

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.qkv, self.out = nn.LayerNorm(256), nn.Linear(256, 768), nn.Linear(256, 256)
            self.norm2, self.up, self.down = nn.LayerNorm(256), nn.Linear(256, 1024), nn.Linear(1024, 256)
            self.register_buffer("hidden", torch.full((128, 128), float("-inf")).triu(1))

        def forward(self, x):
            q, k, v = self.qkv(self.norm1(x)).reshape(8, 128, 3, 8, 32).permute(2, 0, 3, 1, 4)
            weights = torch.softmax(q @ k.transpose(-1, -2) * 32 ** -0.5 + self.hidden, -1)
            x = x + self.out((weights @ v).transpose(1, 2).reshape(8, 128, 256))
            return x + self.down(functional.gelu(self.up(self.norm2(x))))

    gpt = nn.Sequential(nn.Embedding(512, 256), *(Layer() for _ in range(4)), nn.LayerNorm(256), nn.Linear(256, 512), nn.Flatten(0, 1))
    measure("GPT step", classifier_step(gpt, torch.randint(512, (8, 128)), torch.randint(512, (1024,)), torch.optim.SGD(gpt.parameters(), 1e-3)), 4)


def torch_jit(torch):
    """What benchmark_jit measures beyond the training steps: each eagerly and by torch.jit."""
    nn = torch.nn

    def chain(a, b, c, d):
        return torch.tanh(a * b + c) * torch.sigmoid(d)

    arrays = [torch.randn(16 << 20) for _ in range(4)]
    with torch.no_grad():
        measure("tanh(a·b + c)·sigmoid(d)", lambda: chain(*arrays), 2)
        traced = torch.jit.trace(chain, arrays)
        measure("tanh(a·b + c)·sigmoid(d), torch.jit", lambda: traced(*arrays), 2)

        class Bottleneck(nn.Module):
            def __init__(self, i, width, stride):
                super().__init__()
                self.body = nn.Sequential(nn.Conv2d(i, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True),
                                          nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(True),
                                          nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width))
                self.shortcut = nn.Identity() if i == 4 * width else nn.Sequential(
                    nn.Conv2d(i, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))

            def forward(self, x):
                return torch.relu(self.body(x) + self.shortcut(x))

        layers, i = [], 64
        for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for k in range(count):
                layers.append(Bottleneck(i, width, stride if k == 0 else 1))
                i = 4 * width
        resnet = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1), *layers,
                               nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)).eval()
        x = torch.randn(1, 3, 224, 224)
        measure("ResNet-50, one image", lambda: resnet(x), 5)
        frozen = torch.jit.freeze(torch.jit.trace(resnet, x))
        frozen(x), frozen(x)
        measure("ResNet-50, one image, torch.jit", lambda: frozen(x), 5)


def run_torch(threads, part):
    import torch
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    parts = {"small": [torch_small_ops], "layers": [torch_layers], "models": [torch_models], "jit": [torch_models, torch_jit]}
    for work in parts.get(part, [torch_small_ops, torch_layers, torch_models]):
        work(torch)


class Progress:
    """One line on a terminal's stderr: which turn runs, what it measured last, and how long the rest will take."""

    def __init__(self, turns):
        self.turns, self.done, self.begin = turns, 0, time.time()

    def show(self, text):
        if sys.stderr.isatty():
            rest = (time.time() - self.begin) / self.done * (self.turns - self.done) if self.done else None
            eta = f"eta {rest // 60:.0f}:{rest % 60:02.0f}" if rest is not None else "eta -:--"
            print(f"\r\033[Kturn {self.done + 1} of {self.turns}  {eta}  {text}", end="", file=sys.stderr, flush=True)

    def end_turn(self):
        self.done += 1
        if self.done == self.turns and sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def lines_of(command, label, progress):
    lines = []
    progress.show(label)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if line.startswith("{"):
                lines.append(json.loads(line))
                progress.show(f"{label}: {lines[-1]['name']}")
    if run.returncode:
        sys.exit(f"{command[0]} ended with {run.returncode}")
    progress.end_turn()
    return lines


def cell(times):
    if not times:
        return "-"
    scale, unit = (1e9, "ns") if statistics.median(times) < 1e-5 else (1e6, "µs") if statistics.median(times) < 1e-2 else (1e3, "ms")
    return f"{statistics.median(times) * scale:.0f} ({min(times) * scale:.0f}-{max(times) * scale:.0f}) {unit}"


def table(ours, theirs, work, threads):
    peak = 1 / min(ours.pop("peak_flops", [float("inf")]))
    bandwidth = 1 / min(ours.pop("peak_bandwidth", [float("inf")]))
    print(f"\n{threads} thread{'s' if threads > 1 else ''}", end="")
    print(f"; measured peak {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s\n" if peak else "\n")
    has_jit = any(name.endswith("torch.jit") for name in theirs)
    print(f"| | Cresset | PyTorch | ratio |{' torch.jit | ratio |' if has_jit else ''} floor |\n| --- | --- | --- | --- |"
          f"{' --- | --- |' if has_jit else ''} --- |")
    for name, times in ours.items():
        base = name.removesuffix(", eager").removesuffix(", traced")

        def beside(other):
            ratio = f"{statistics.median(theirs[other]) / statistics.median(times):.2f}" if other in theirs else "-"
            return f"{cell(theirs.get(other))} | {ratio}"
        floor = f"{work[name] / peak / statistics.median(times):.0%} of peak" if work[name] and peak else "-"
        print(f"| {name} | {cell(times)} | {beside(base)} | {beside(base + ', torch.jit') + ' | ' if has_jit else ''}{floor} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--part", choices=["all", "small", "layers", "models", "jit"], default="all")
    parser.add_argument("--torch", type=int, help=argparse.SUPPRESS)  # a turn of PyTorch's
    arguments = parser.parse_args()
    if arguments.torch:
        return run_torch(arguments.torch, arguments.part)
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
    has_torch = subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0
    counts = [int(count) for count in arguments.threads.split(",")]
    progress = Progress(len(counts) * arguments.rounds * (2 if has_torch else 1))
    for threads in counts:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        ours, theirs, work = {}, {}, {}
        for _ in range(arguments.rounds):
            for line in lines_of([arguments.program, str(threads), arguments.part], f"Cresset, {threads} threads", progress):
                ours.setdefault(line["name"], []).append(line["seconds"])
                work[line["name"]] = line["flops"]
            if has_torch:
                turn = [python, __file__, "", "--torch", str(threads), "--part", arguments.part]
                for line in lines_of(turn, f"PyTorch, {threads} threads", progress):
                    theirs.setdefault(line["name"], []).append(line["seconds"])
        table(ours, theirs, work, threads)


main()
