#!/usr/bin/python3
"""Holds dumped samples (op_samples dump) against PyTorch: results, and gradients for the same output gradients.

usage: check.py DUMP.safetensors [--minimum COMPARISONS]
Ends with 77 where PyTorch is not installed. NaN matches NaN only; a comparison of nothing counts for nothing."""
import argparse
import importlib
import json
import pathlib
import struct
import sys

try:
    import torch
except ImportError:
    print("PyTorch is not installed: nothing was compared")
    sys.exit(77)

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from registry import DETACHED, OPS  # noqa: E402

NOT_MAPPINGS = {"check", "registry"}
DTYPES = {"F32": torch.float32, "F64": torch.float64, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
          "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool}
NAMES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64,
         "i32": torch.int32, "i16": torch.int16, "i8": torch.int8, "u8": torch.uint8, "bool": torch.bool, "default": None}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 3e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def load(path):
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__")
    tensors = {}
    for name, row in header.items():
        begin, end = row["data_offsets"]
        raw = bytearray(data[8 + length + begin:8 + length + end])
        dtype = DTYPES[row["dtype"]]
        tensors[name] = (torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)).reshape(row["shape"])
    return metadata, tensors


def read_value(text):
    if text.startswith("["):
        return [int(x) for x in text[1:-1].split(",") if x]
    if text.startswith("'"):
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    if text in NAMES:
        return NAMES[text]
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            return text


def read_attributes(text):
    values, at = {}, 0
    while at < len(text):
        while at < len(text) and text[at] == " ":
            at += 1
        if at == len(text):
            break
        equal = text.index("=", at)
        end, quoted = equal + 1, False
        while end < len(text) and (quoted or text[end] != " "):
            quoted ^= text[end] == "'"
            end += 1
        values[text[at:equal]] = read_value(text[equal + 1:end])
        at = end
    return values


def widest(inputs):
    """16-bit floats are computed in f32 and rounded once by us: so must the reference be."""
    return any(t is not None and t.dtype in (torch.float16, torch.bfloat16) for t in inputs)


def run(function, inputs, attributes):
    if not widest(inputs):
        result = function(*inputs, **attributes)
    else:
        wide = [t.float() if t is not None and t.is_floating_point() else t for t in inputs]
        result = function(*wide, **attributes)
    return list(result) if isinstance(result, (tuple, list)) else [result]


def difference(ours, theirs, tolerance):
    if ours.shape != theirs.shape:
        return f"shape {list(ours.shape)}, PyTorch {list(theirs.shape)}"
    a, b = ours.double(), theirs.double()
    same = (a == b) | (a.isnan() & b.isnan())
    close = (a - b).abs() <= tolerance * torch.maximum(torch.ones_like(a), torch.maximum(a.abs(), b.abs()))
    bad = ~(same | (close & a.isfinite() & b.isfinite()))
    if not bad.any():
        return None
    where = tuple(bad.nonzero()[0].tolist())
    return f"{int(bad.sum())} of {bad.numel()} differ; at {where} {a[where].item():.9g}, PyTorch {b[where].item():.9g}"


class Totals:
    comparisons = elements = passed = failed = unmapped = 0


def compare(totals, what, where, ours, theirs, tolerance, check_dtype=True):
    if check_dtype and ours.dtype != theirs.dtype:
        theirs_name = str(theirs.dtype)
        if not (ours.dtype in (torch.float16, torch.bfloat16) and theirs.dtype == torch.float32):
            totals.failed += 1
            print(f"FAILED {where} {what}: dtype {ours.dtype}, PyTorch {theirs_name}")
            return
        theirs = theirs.to(ours.dtype)
    problem = difference(ours, theirs, tolerance)
    if problem:
        totals.failed += 1
        print(f"FAILED {where} {what}: {problem}")
        return
    totals.passed += 1
    if ours.numel():
        totals.comparisons += 1
        totals.elements += ours.numel()


def check(totals, key, text, tensors, missing):
    name, attributes_text, place, line, rest = text.split("\n")
    count, tolerance, exact = rest.split()
    where = f"{place} {line}"
    if name not in OPS:
        missing.add(name)
        totals.unmapped += 1
        return
    inputs = [tensors.get(f"{key}.in{i}") for i in range(int(count))]
    wants = [f"{key}.grad{i}" in tensors and i not in DETACHED[name] for i in range(int(count))]
    leaves = [t.clone().requires_grad_(True) if t is not None and want else t for t, want in zip(inputs, wants)]
    try:
        results = run(OPS[name], leaves, read_attributes(attributes_text))
    except Exception as problem:  # a mapping that fails is a failed comparison
        totals.failed += 1
        print(f"FAILED {where}: PyTorch's side raised {type(problem).__name__}: {problem}")
        return
    ours = [tensors[f"{key}.out{i}"] for i in range(20) if f"{key}.out{i}" in tensors]
    if len(results) < len(ours):
        ours = ours[:len(results)]

    def limit(dtype):
        if exact == "1":
            return 0.0
        return max(float(tolerance), TOLERANCE.get(dtype, 0.0)) if dtype.is_floating_point else 0.0

    for i, (mine, theirs) in enumerate(zip(ours, results)):
        if theirs is not None:
            compare(totals, f"output {i}", where, mine, theirs.detach(), limit(mine.dtype))
    roots = [(r, tensors[f"{key}.cot{i}"]) for i, r in enumerate(results)
             if f"{key}.cot{i}" in tensors and r is not None and r.requires_grad]
    wanted = [i for i, want in enumerate(wants) if want]
    if not roots or not wanted:
        return
    try:
        found = torch.autograd.grad([r for r, _ in roots], [leaves[i] for i in wanted], [c.to(r.dtype) for r, c in roots],
                                    allow_unused=True)
    except RuntimeError as problem:
        totals.failed += 1
        print(f"FAILED {where}: PyTorch's gradient raised {problem}")
        return
    for i, theirs in zip(wanted, found):
        mine = tensors[f"{key}.grad{i}"]
        if theirs is None:
            theirs = torch.zeros_like(mine)
        compare(totals, f"gradient of input {i}", where, mine, theirs.to(mine.dtype), limit(mine.dtype) * 4)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dump")
    parser.add_argument("--minimum", type=int, default=1)
    arguments = parser.parse_args()
    for path in pathlib.Path(__file__).parent.glob("*.py"):
        text = path.read_text()
        if path.stem not in NOT_MAPPINGS and "from registry import op" in text:
            importlib.import_module(path.stem)
    torch.set_num_threads(2)
    metadata, tensors = load(arguments.dump)
    totals, missing = Totals(), set()
    for key in sorted(metadata, key=lambda k: int(k) if k.isdigit() else -1):
        if key.isdigit():
            check(totals, key, metadata[key], tensors, missing)
    for name in sorted(missing):
        print(f"no PyTorch counterpart is named for {name}")
    print(f"PyTorch {torch.__version__}: {totals.comparisons} comparisons of tensors ({totals.elements} elements)")
    if totals.comparisons < arguments.minimum:
        print(f"fewer than the {arguments.minimum} comparisons that are expected")
        totals.failed += 1
    print(f"{totals.passed} passed, {totals.failed} failed, {totals.unmapped} skipped")
    sys.exit(1 if totals.failed else 0)


main()
