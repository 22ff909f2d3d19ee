"""What all other sides of benchmarks/cresset-bench share: the inputs, the rows' shapes, the files that our side writes."""
import json
import os
import re

import numpy


class NotOffered(Exception):
    """This side has no such work; the row is measured without it."""


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
        return [numpy.abs(numbers((16 << 20,), 1))]
    if row.startswith(("softmax", "layer norm")):
        return [numbers((4096, 1024), 1)]
    if row.startswith("attention"):
        return [numbers((8, 8, 512, 64), seed) for seed in (1, 2, 3)]
    raise NotOffered("no such work here")


def dtype_of(row):
    """NumPy's and PyTorch's name of the numbers that a row computes with."""
    return {"bf16": "bfloat16", "f16": "float16", "f64": "float64"}.get(row.split(", ")[-1], "float32")


# Batch, input and output channels, side, kernel, stride, padding, groups, transposed: those of benchmarks/worker/layers.c.
CONVOLUTIONS = {"conv, ResNet-50 first 7x7": (1, 3, 64, 224, 7, 2, 3, 1, False),
                "conv, ResNet-50 3x3 of 28": (1, 128, 128, 28, 3, 1, 1, 1, False),
                "conv, ResNet-50 1x1 of 14": (1, 1024, 256, 14, 1, 1, 0, 1, False),
                "conv, MobileNet depthwise of 56": (1, 144, 144, 56, 3, 1, 1, 144, False),
                "conv, DCGAN down 4x4": (64, 64, 128, 32, 4, 2, 1, 1, False),
                "conv, DCGAN up 4x4": (64, 256, 128, 8, 4, 2, 1, 1, True)}


def model_of(row):
    """The model's name and its batch (of an LSTM: steps): of "ResNet-50, batch 16" "ResNet-50" and 16."""
    model, size = re.fullmatch(r"(.*?)(?:, (?:batch )?(\d+)(?: steps)?)?", row).groups()
    return model, int(size or 1)


def model_file(folder, row, ending):
    model, size = model_of(row)
    return os.path.join(folder, f"{model}-{size}.{ending}")


def is_training(row):
    return " step" in row and "steps" not in row


def arrays_of(path):
    """A safetensors file's arrays by name: eight bytes of length, a header in JSON, the data."""
    data = numpy.memmap(path, "u1", "c")
    length = int(data[:8].view("<u8")[0])
    header = json.loads(data[8:8 + length].tobytes())
    header.pop("__metadata__", None)
    kinds = {"F32": "<f4", "I64": "<i8"}
    return {name: data[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]].view(kinds[entry["dtype"]])
            .reshape(entry["shape"]).copy() for name, entry in header.items()}
