"""Prints tensors as PyTorch does, to hold cr_format against.

Reads FOLDER/list, a line "NAME DTYPE SIZE,SIZE…" for each tensor; its row-major bytes are in FOLDER/NAME.bin and our
text in FOLDER/NAME.txt. PyTorch's own code lays the text out; only the dtype's name is ours. Exits with 1 at a difference.
"""
import sys

import torch
from torch import _tensor_str as printing

DTYPES = dict(bool=torch.bool, u8=torch.uint8, i8=torch.int8, i16=torch.int16, i32=torch.int32, i64=torch.int64,
              f16=torch.float16, bf16=torch.bfloat16, f32=torch.float32, f64=torch.float64)


def expected_text(tensor, dtype_name):
    suffixes = []
    if tensor.numel() == 0 and tensor.dim() != 1:
        suffixes.append("size=" + str(tuple(tensor.shape)))
    shown = [torch.float32] if tensor.numel() == 0 else [torch.float32, torch.int64, torch.bool]
    if tensor.dtype not in shown:
        suffixes.append("dtype=" + dtype_name)
    body = "tensor(" + printing._tensor_str(tensor, len("tensor("))
    text = printing._add_suffixes(body, suffixes, len("tensor("), force_newline=False)
    assert text.replace("dtype=" + dtype_name, "dtype=" + str(tensor.dtype)).split() == str(tensor).split()
    return text


def main(folder):
    differences = count = 0
    for line in open(folder + "/list"):
        name, dtype, sizes = line.rstrip("\n").split(" ")
        shape = [int(size) for size in sizes.split(",") if size]
        data = bytearray(open(f"{folder}/{name}.bin", "rb").read())
        tensor = torch.frombuffer(data, dtype=DTYPES[dtype]) if data else torch.empty(0, dtype=DTYPES[dtype])
        expected, ours = expected_text(tensor.reshape(shape), dtype), open(f"{folder}/{name}.txt").read()
        count += 1
        if expected != ours:
            differences += 1
            if differences < 5:
                print(f"{name}: {dtype}{shape}\nexpected:\n{expected}\ngot:\n{ours}")
    print(f"{count} tensors printed, {differences} differ from PyTorch")
    return 1 if differences or count == 0 else 0


sys.exit(main(sys.argv[1]))
