"""The other sides of benchmarks/cresset-bench, each a process that speaks as bench_worker does:

    opponents.py NAME THREADS FOLDER            NAME: torch, onnxruntime, openvino, jax
    opponents.py NAME THREADS first MODEL.onnx  loads, runs once, and ends

Each runs as its best user would: inference mode, its own best layout, the number of threads that it is given.
"""
import json
import os
import re
import resource
import sys
import time

name, threads, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(threads)
os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} intra_op_parallelism_threads={threads}"

import numpy


class NotOffered(Exception):
    pass


def numbers(shape, seed):
    """Between -1 and 1: the hash of each element's index that bench_worker makes."""
    count = int(numpy.prod(shape))
    hashed = numpy.arange(count, dtype="u4") * numpy.uint32(2654435761) + numpy.uint32(seed * 40503 % 2**32)
    return ((hashed >> 8).astype("f4") / 8388608 - 1).reshape(shape)


def operands(row):
    """Inputs of the rows that are functions of arrays."""
    if row.startswith("matmul"):
        n = int(row.split(", ")[1])
        return [numbers((n, n), 1), numbers((n, n), 2)]
    if row.startswith("chain"):
        return [numbers((16 << 20,), seed) for seed in (1, 2, 3, 4)]
    if row.startswith("sum"):
        return [numbers((16 << 20,), 1)]
    if row.startswith(("softmax", "layer norm")):
        return [numbers((4096, 1024), 1)]
    if row.startswith("attention"):
        return [numbers((8, 8, 512, 64), seed) for seed in (1, 2, 3)]
    raise NotOffered("no such work here")


# Batch, input and output channels, side, kernel, stride, padding, groups, transposed: those of benchmarks/worker/layers.c.
CONVOLUTIONS = {"conv, ResNet-50 first 7x7": (1, 3, 64, 224, 7, 2, 3, 1, False),
                "conv, ResNet-50 3x3 of 28": (1, 128, 128, 28, 3, 1, 1, 1, False),
                "conv, ResNet-50 1x1 of 14": (1, 1024, 256, 14, 1, 1, 0, 1, False),
                "conv, MobileNet depthwise of 56": (1, 144, 144, 56, 3, 1, 1, 144, False),
                "conv, DCGAN down 4x4": (64, 64, 128, 32, 4, 2, 1, 1, False),
                "conv, DCGAN up 4x4": (64, 256, 128, 8, 4, 2, 1, 1, True)}


def model_file(row):
    model, size = re.fullmatch(r"(.*?)(?:, (?:batch )?(\d+)(?: steps)?)?", row).groups()
    return os.path.join(folder, f"{model}-{size}.onnx")


class Torch:
    def __init__(self):
        import torch
        self.torch = torch
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.version = torch.__version__

    def prepare(self, row):
        torch = self.torch
        self.calls, self.result = 1, None
        if row.startswith("small add"):
            a, b = torch.randn(8, requires_grad="recorded" in row), torch.randn(8)
            self.calls = 1000

            def step():
                for _ in range(1000):
                    torch.add(a, b)
            self.step = step
        elif " step" in row and "steps" not in row:
            from training import training_step
            self.step = training_step(torch, row)
        elif row == "decoder, word for word":
            from decoder import decoder_step
            self.calls, run = decoder_step(torch, folder, numbers)

            def step():
                with torch.inference_mode():
                    self.result = run()
            self.step = step
        elif row in CONVOLUTIONS:
            self.step = self.convolution(*CONVOLUTIONS[row])
        else:
            functional = torch.nn.functional
            x = [torch.from_numpy(array) for array in operands(row)]
            function = {"chain": lambda: torch.tanh(x[0] * x[1] + x[2]) * torch.sigmoid(x[3]), "sum": lambda: x[0].sum(),
                        "softmax": lambda: torch.softmax(x[0], -1), "layer norm": lambda: functional.layer_norm(x[0], (1024,)),
                        "matmul": lambda: torch.matmul(x[0], x[1]),
                        "attention": lambda: (torch.softmax(x[0] @ x[1].transpose(-1, -2) * 0.125, -1) @ x[2])
                        if not hasattr(functional, "scaled_dot_product_attention")
                        else functional.scaled_dot_product_attention(*x)}[row.split(",")[0]]

            def step():
                with torch.inference_mode():
                    self.result = function()
            self.step = step
        self.step()

    def convolution(self, batch, channels, features, side, kernel, stride, padding, groups, transposed):
        torch = self.torch
        shape = (channels, features, kernel, kernel) if transposed else (features, channels // groups, kernel, kernel)
        x, w = torch.from_numpy(numbers((batch, channels, side, side), 1)), torch.from_numpy(numbers(shape, 2))
        call = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d

        def step():
            with torch.inference_mode():
                self.result = call(x, w, stride=stride, padding=padding, groups=groups)
        return step

    def output(self):
        return None if self.result is None else self.result.numpy()


class Jax:
    def __init__(self):
        import jax
        self.jax, self.version, self.calls = jax, jax.__version__, 1

    def prepare(self, row):
        jax, jnp = self.jax, self.jax.numpy

        def layer_norm(x):
            centred = x - x.mean(-1, keepdims=True)
            return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
        functions = {"chain": lambda a, b, c, d: jnp.tanh(a * b + c) * jax.nn.sigmoid(d), "sum": jnp.sum,
                     "softmax": lambda x: jax.nn.softmax(x, -1), "layer norm": layer_norm, "matmul": jnp.matmul,
                     "attention": lambda q, k, v: jax.nn.softmax(q @ k.swapaxes(-1, -2) * 0.125, -1) @ v}
        kind = row.split(",")[0]
        if kind not in functions:
            raise NotOffered("not written for JAX")
        inputs, function = [jnp.asarray(array) for array in operands(row)], jax.jit(functions[kind])

        def step():
            self.result = function(*inputs).block_until_ready()
        self.step = step
        step()

    def output(self):
        return numpy.asarray(self.result)


class OnnxRuntime:
    def __init__(self):
        import onnxruntime
        self.runtime, self.version, self.calls = onnxruntime, onnxruntime.__version__, 1

    def load(self, path):
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = self.runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        put = session.get_inputs()[0]
        return lambda x: session.run(None, {put.name: x}), put.shape

    def prepare(self, row):
        if row.endswith("ONNX file to session"):
            path, self.result = os.path.join(folder, "ResNet-50-1.onnx"), None
            self.step = lambda: self.load(path)
            return
        if row.endswith("export"):
            raise NotOffered("it reads models, and writes none")
        if " step" in row and "steps" not in row or not os.path.exists(model_file(row)):
            raise NotOffered("not a model")
        run, shape = self.load(model_file(row))
        x = numbers(shape, 1)

        def step():
            self.result = run(x)[0]
        self.step = step
        step()

    def output(self):
        return None if self.result is None else numpy.asarray(self.result)


class OpenVino(OnnxRuntime):
    def __init__(self):
        import openvino
        self.openvino, self.version, self.calls = openvino, openvino.__version__, 1

    def load(self, path):
        core = self.openvino.Core()
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
                                                     "INFERENCE_PRECISION_HINT": "f32"})
        request = compiled.create_infer_request()
        return lambda x: list(request.infer({0: x}, share_inputs=True).values()), [int(d) for d in model.inputs[0].shape]


def times(side, seconds):
    begin, taken = time.perf_counter(), []
    while len(taken) < 3 or (time.perf_counter() - begin < seconds and len(taken) < 2000):
        start = time.perf_counter()
        side.step()
        taken.append((time.perf_counter() - start) / side.calls)
    return taken


def obey(side, line):
    command, _, rest = line.strip().partition(" ")
    if command == "prepare":
        try:
            side.prepare(rest)
        except NotOffered as reason:
            return {"error": str(reason), "not_offered": True}
        return {"ok": True}
    if command == "run":
        return {"seconds": times(side, float(rest))}
    if command == "check":
        output = side.output()
        if output is None:
            return {"error": "nothing to compare"}
        numpy.ascontiguousarray(output, "f4").tofile(rest)
        return {"ok": True}
    if command == "memory":
        return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    if command == "version":
        return {"version": side.version}
    return {"error": f"unknown command {command}"}


if __name__ == "__main__":
    side = {"torch": Torch, "onnxruntime": OnnxRuntime, "openvino": OpenVino, "jax": Jax}[name]()
    if folder == "first":
        run, shape = side.load(sys.argv[4])
        print(float(run(numpy.ones(shape, "f4"))[0].sum()))
        sys.exit()
    for line in sys.stdin:
        try:
            answer = obey(side, line)
        except Exception as problem:  # told, not thrown: the runner goes on with the other rows
            answer = {"error": f"{type(problem).__name__}: {problem}"[:300]}
        print(json.dumps(answer), flush=True)
