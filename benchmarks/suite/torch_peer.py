"""PyTorch: eager, and through torch.compile (inductor's C++ code). Models carry our weights; pictures lie channels-last."""
import os
import time

import torch

from common import CONVOLUTIONS, NotOffered, arrays_of, dtype_of, is_training, model_file, model_of, numbers, operands


def functions(x):
    """The rows that are functions of arrays, by what their names begin with."""
    functional = torch.nn.functional

    def attention(q, k, v):
        if hasattr(functional, "scaled_dot_product_attention"):
            return functional.scaled_dot_product_attention(q, k, v)
        return torch.softmax(q @ k.transpose(-1, -2) * 0.125, -1) @ v
    return {"chain": lambda a, b, c, d: torch.tanh(a * b + c) * torch.sigmoid(d), "sum": lambda a: a.sum(),
            "softmax": lambda a: torch.softmax(a, -1), "layer norm": lambda a: functional.layer_norm(a, (1024,)),
            "matmul": torch.matmul, "attention": attention}


class Torch:
    def __init__(self, threads, folder):
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        self.threads, self.folder, self.version, self.calls, self.result = threads, folder, torch.__version__, 1, None

    def inference(self, function, *inputs):
        """A step that calls the function, and keeps what it gives."""
        call = self.faster(function)

        def step():
            with torch.inference_mode():
                self.result = call(*inputs)
        return step

    def faster(self, function):
        return function

    def prepare(self, row):
        if row.startswith("small add"):
            self.step, self.calls = self.small_add("recorded" in row), 1000
        elif is_training(row):
            self.prepare_training(row)
            return
        elif row.endswith("word for word"):
            from decoder import decoder_step
            self.calls, run = decoder_step(torch, row, self.folder, numbers)
            self.step = self.inference(run)
        elif row.startswith("loader"):
            from loader import PICTURES, loader_step
            self.calls, (self.step, self.result) = PICTURES, loader_step(self.folder, self.threads)
        elif row in CONVOLUTIONS:
            self.step = self.convolution(*CONVOLUTIONS[row])
        elif os.path.exists(model_file(self.folder, row, "weights.safetensors")):
            self.step = self.inference(*self.model(row))
        elif "ONNX" in row:
            raise NotOffered("not a model that it makes")
        else:
            kind = getattr(torch, dtype_of(row))
            x = [torch.from_numpy(array).to(kind) for array in operands(row)]
            self.step = self.inference(functions(x)[row.split(",")[0]], *x)
        self.step()

    def prepare_training(self, row):
        """Our weights and data; the losses of the first steps are what is compared."""
        from training import LOSSES, training_step
        self.step = training_step(row, os.path.join(self.folder, row.split(" step")[0] + " step"), self.faster)
        self.result = torch.tensor([self.step().item() for _ in range(LOSSES)])

    def model(self, row):
        import torch_models
        name, size = model_of(row)
        make, item = torch_models.MODELS[name]
        net = torch_models.load(make(), arrays_of(model_file(self.folder, row, "weights.safetensors"))).eval()
        x = torch.from_numpy(numbers((size, *item), 1))
        if x.ndim == 4:
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        return net, x

    def small_add(self, recorded):
        a, b = torch.randn(8, requires_grad=recorded), torch.randn(8)

        def step():
            for _ in range(1000):
                torch.add(a, b)
        return step

    def convolution(self, batch, channels, features, side, kernel, stride, padding, groups, transposed):
        shape = (channels, features, kernel, kernel) if transposed else (features, channels // groups, kernel, kernel)
        x, w = torch.from_numpy(numbers((batch, channels, side, side), 1)), torch.from_numpy(numbers(shape, 2))
        call = torch.nn.functional.conv_transpose2d if transposed else torch.nn.functional.conv2d
        return self.inference(lambda x, w: call(x, w, stride=stride, padding=padding, groups=groups), x, w)

    def output(self):
        return None if self.result is None else self.result.float().numpy()


def freeze(frozen):
    """Whether weights are constants, for the compiler to pack and fold."""
    from torch._inductor import config
    config.freezing = frozen


class Compiled(Torch):
    """Weights are frozen for inference. What has no loop of its own to fuse is eager PyTorch's row already."""

    def faster(self, function):
        return torch.compile(function)

    def prepare(self, row):
        if not hasattr(torch, "compile") or row.startswith(("small add", "matmul", "conv", "LSTM", "loader")) or "word for word" in row:
            raise NotOffered("nothing here that torch.compile changes")
        freeze(not is_training(row))
        super().prepare(row)

    def compile_time(self, row):
        """Seconds of the first call: of a model's, or of a training step's (forward, backward and update)."""
        begin = time.perf_counter()
        if is_training(row):
            from training import training_step
            step = training_step(row, os.path.join(self.folder, row.split(" step")[0] + " step"), self.faster)
            begin = time.perf_counter()
            step()
        else:
            freeze(True)
            net, x = self.model(row)
            begin = time.perf_counter()
            self.inference(net, x)()
        return time.perf_counter() - begin
