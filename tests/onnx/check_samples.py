#!/usr/bin/env python3
"""Runs the models that `op_samples export FOLDER` wrote under ONNX Runtime, and compares with what Cresset gave.

    check_samples.py FOLDER [--minimum N] [--show refused]

Each model must pass onnx.checker's full check. Exits 77 without onnx and onnxruntime.
"""
import argparse
import collections
import json
import pathlib
import sys

try:
    import numpy
    import onnx
    import onnxruntime
except ImportError as error:
    print(f"{error}: skipped")
    sys.exit(77)

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("folder", type=pathlib.Path)
arguments.add_argument("--minimum", type=int, default=0)
arguments.add_argument("--show", default="failed")
given = arguments.parse_args()
onnxruntime.set_default_logger_severity(4)

DTYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "i2", "I32": "i4", "I64": "i8", "F16": "f2", "F32": "f4", "F64": "f8"}


def read_file(path):
    """Tensors of a safetensors file by name (bf16 as float32, with a mark), and its metadata."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata, tensors = header.pop("__metadata__", {}), {}
    for name, entry in header.items():
        begin, end = (8 + length + at for at in entry["data_offsets"])
        if entry["dtype"] == "BF16":
            tensors[name] = None
        else:
            tensors[name] = numpy.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def differs(have, want, tolerance):
    if have.dtype != want.dtype or have.shape != want.shape:
        return f"{have.dtype}{list(have.shape)} in place of {want.dtype}{list(want.shape)}"
    if want.dtype.kind != "f":
        wrong = have != want
    else:
        have, want = have.astype("f8"), want.astype("f8")
        with numpy.errstate(all="ignore"):
            finite = numpy.abs(want[numpy.isfinite(want)])
            scale = max(1, finite.max() / 20) if finite.size else 1  # sums of large terms that cancel
            wrong = ~(numpy.abs(have - want) <= tolerance * numpy.maximum(scale, numpy.abs(want)))
        wrong &= ~((have == want) | (numpy.isnan(have) & numpy.isnan(want)))
    if not wrong.any():
        return None
    at = tuple(index[0] for index in numpy.nonzero(numpy.atleast_1d(wrong)))
    return f"{wrong.sum()} of {wrong.size} elements, first {numpy.atleast_1d(have)[at]} in place of {numpy.atleast_1d(want)[at]}"


tensors, metadata = read_file(given.folder / "data.safetensors")
counts, refused, absent = collections.Counter(), collections.defaultdict(set), collections.Counter()
for number, text in metadata.items():
    if not number.isdigit():
        continue
    op, line, numbers, *models = text.split("\n")
    inputs, outputs, is_random, tolerance = numbers.split()
    operands = [tensors[f"{number}.in{i}"] for i in range(int(inputs))]
    results = [tensors[f"{number}.out{i}"] for i in range(int(outputs))]
    for entry in models:
        opset, state = entry.split(" ", 1)
        if state != "written":
            counts["refused"] += 1
            refused[op].add(f"{opset}: {state[:160]}")
            continue
        path = given.folder / f"{number}_{opset}.onnx"
        try:
            onnx.checker.check_model(onnx.load(path), full_check=True)
        except Exception as error:
            counts["failed"] += 1
            print(f"failed: {line} (opset {opset}): checker: {str(error)[:300]}")
            continue
        if op in ("argmax", "argmin", "max_pool", "remainder", "floor_divide", "hypot", "atan2") and ":special" in line or (
            op in ("amin", "amax") and ":special" in line and operands[0].size > 256  # it loses the NaN of a long row
        ):
            counts["of NaN and infinities, left open"] += 1
            continue
        if op == "lstm_sequence" and any(t is not None and t.size == 0 for t in operands):
            counts["that would end ONNX Runtime's process"] += 1  # LSTM of nothing
            continue
        if any(t is None for t in operands + results):
            counts["no bf16 in NumPy"] += 1
            continue
        try:
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            have = session.run(None, dict(zip([i.name for i in session.get_inputs()], operands)))
        except Exception as error:
            if "NOT_IMPLEMENTED" in str(error) or "is not supported with" in str(error) or (
                op == "convolution" and "output_paddings" in line and "INVALID_ARGUMENT" in str(error)  # below the stride only
            ):
                counts["no kernel in ONNX Runtime"] += 1
                absent[str(error).split("implementation for ")[-1][:60]] += 1
                continue
            counts["failed"] += 1
            print(f"failed: {line} (opset {opset}): runtime: {str(error)[:300]}")
            continue
        counts["models"] += 1
        for i, want in enumerate(results):
            counts["comparisons"] += 1
            limit = 3e-3 if want.dtype == "f2" else max(1e-5, float(tolerance))
            wrong = (have[i].shape != want.shape and "another shape") if is_random == "1" else differs(have[i], want, limit)
            if wrong:
                counts["failed"] += 1
                print(f"failed: {line} (opset {opset}): output {i}: {wrong}")
if given.show == "refused":
    for op, why in sorted(refused.items()):
        print(f"refused: {op}: {'; '.join(sorted(why))}")
    print(absent)
print(", ".join(f"{count} {what}" for what, count in counts.items()))
sys.exit(counts["failed"] > 0 or counts["comparisons"] < given.minimum)
