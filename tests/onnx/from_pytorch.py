#!/usr/bin/env python3
"""Models that PyTorch exports, with open sizes, run by the command `cresset` at two sizes each.

    from_pytorch.py CRESSET_COMMAND FOLDER

Exits 77 without PyTorch.
"""
import pathlib
import subprocess
import sys
import warnings

try:
    import numpy
    import torch
except ImportError as error:
    print(f"{error}: skipped")
    sys.exit(77)

command, folder = sys.argv[1], pathlib.Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
warnings.simplefilter("ignore")
torch.manual_seed(0)
functional = torch.nn.functional


class Upsampling(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.norm = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.BatchNorm2d(8)
        self.up, self.out = torch.nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), torch.nn.Conv2d(11, 4, 3, padding=1)

    def forward(self, x):
        y = self.out(torch.cat([self.up(functional.silu(self.norm(self.down(x)))), x], 1))
        y = functional.interpolate(y, size=(x.shape[2] // 2, x.shape[3] // 2), mode="nearest")
        return y.flatten(2).permute(0, 2, 1).softmax(-1)


class Recurrent(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layers, self.out = kind(6, 5, 2, bidirectional=True), torch.nn.Linear(10, 3)

    def forward(self, x):
        return self.out(self.layers(x)[0])


class Language(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.places = torch.nn.Embedding(20, 16), torch.nn.Embedding(64, 16)
        self.attention, self.norm = torch.nn.MultiheadAttention(16, 4, batch_first=True), torch.nn.LayerNorm(16)

    def forward(self, t):
        length = t.shape[1]
        x = self.words(t) + self.places(torch.arange(length))
        mask = torch.triu(torch.full((length, length), float("-inf")), 1)
        y = self.attention(x, x, x, attn_mask=mask, need_weights=False)[0]
        return self.norm(x + y) @ self.words.weight.t()


encoder = torch.nn.TransformerEncoder(torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
cases = [
    ("upsampling", Upsampling(), torch.randn(2, 3, 32, 48), torch.randn(3, 3, 64, 32), {0: "batch", 2: "height", 3: "width"}),
    ("gru", Recurrent(torch.nn.GRU), torch.randn(7, 2, 6), torch.randn(11, 4, 6), {0: "time", 1: "batch"}),
    ("lstm", Recurrent(torch.nn.LSTM), torch.randn(7, 2, 6), torch.randn(9, 5, 6), {0: "time", 1: "batch"}),
    ("encoder", encoder, torch.randn(2, 7, 16), torch.randn(5, 9, 16), {0: "batch", 1: "length"}),
    ("language", Language(), torch.randint(0, 20, (2, 7)), torch.randint(0, 20, (4, 12)), {0: "batch", 1: "length"}),
]
compared = failed = 0
for name, module, first, second, axes in cases:
    module.eval()
    for opset in (11, 17):
        path = folder / f"{name}_{opset}.onnx"
        try:
            torch.onnx.export(module, first, str(path), opset_version=opset, input_names=["x"], output_names=["y"], dynamic_axes={"x": axes})
        except torch.onnx.errors.OnnxExporterError:
            continue  # PyTorch itself cannot: triu before opset 14
        for x in (first, second):
            with torch.no_grad():
                want = module(x).numpy()
            numpy.save(folder / "x.npy", x.numpy())
            ran = subprocess.run([command, "run", path, "--input", folder / "x.npy", "--output", folder / "y.npy"], capture_output=True, text=True)
            have = numpy.load(folder / "y.npy") if ran.returncode == 0 else numpy.empty(0)
            compared += 1
            if have.shape != want.shape or not numpy.abs(have - want).max() < 2e-5:
                failed += 1
                print(f"failed: {name} at opset {opset}, {list(x.shape)}: {ran.stderr.strip()[-300:] or 'other numbers'}")
print(f"{compared} compared, {failed} failed")
sys.exit(failed > 0 or compared < 16)
