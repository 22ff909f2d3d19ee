#!/usr/bin/env python3
"""Runs the models that `onnx_models FOLDER` wrote under ONNX Runtime at each of their sizes. Exits 77 without it."""
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

folder, minimum = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
onnxruntime.set_default_logger_severity(4)
DTYPES = {"BOOL": "?", "I64": "i8", "F32": "f4"}


def read_file(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + at for at in entry["data_offsets"])
            tensors[name] = numpy.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def nodes_of(graph):
    """What a graph computes, but for names."""
    listed = []
    for node in graph.node:
        attributes = sorted((a.name, str(onnx.helper.get_attribute_value(a))) for a in node.attribute if not a.HasField("g"))
        listed.append((node.op_type, len(node.input), len(node.output), attributes))
        for attribute in node.attribute:
            if attribute.HasField("g"):
                listed += nodes_of(attribute.g)
    return listed


def reads(graph):
    """Names that a graph's nodes and outputs read, those within nodes as well."""
    names = {output.name for output in graph.output}
    for node in graph.node:
        names |= set(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names |= reads(attribute.g)
    return names


def unread(path):
    """Constants without a reader: ONNX Runtime warns of each, whoever loads the model."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return {t.name for t in graph.initializer} - reads(graph)


def is_stable(path):
    """The file that was imported and exported twice against once. A loop's turn and condition go around once more each time."""
    second, third = (onnx.load(f"{path}.{which}", load_external_data=False) for which in ("second", "third"))
    return path.stem == "control" or sorted(map(str, nodes_of(second.graph))) == sorted(map(str, nodes_of(third.graph)))


def is_quantized(path):
    """Left as it is, the runtime quantises, dequantises and multiplies floats between, which is what the nodes mean. Optimised,
    it multiplies bytes whose sums saturate on processors without VNNI."""
    return path.stem.endswith("_int8")


def error_of(have, want, path):
    """A rounding that falls the other way moves a number by a whole step, and others behind it."""
    if have.shape != want.shape:
        return numpy.inf
    if is_quantized(path):
        return numpy.sqrt(((have - want) ** 2).sum() / (want**2).sum()) / 2500
    return numpy.abs(have - want).max() / max(1e-3, numpy.abs(want).max())


comparisons = failed = 0
for path in sorted(folder.glob("*.onnx")):
    try:
        onnx.checker.check_model(str(path), full_check=True)
        if unread(path):
            raise ValueError(f"nobody reads {', '.join(sorted(unread(path)))}")
        options = onnxruntime.SessionOptions()
        if is_quantized(path):
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        failed += 1
        print(f"failed: {path.name}: {str(error)[:400]}")
        continue
    if not is_stable(path):
        failed += 1
        print(f"failed: {path.name} changes each time it is imported and exported")
    tensors, worst = read_file(path.with_suffix(".safetensors")), 0
    for size in sorted({name.split(".")[0] for name in tensors}):
        count = sum(name.startswith(f"{size}.in") for name in tensors)
        operands = {put.name: tensors[f"{size}.in{i}"] for i, put in enumerate(session.get_inputs())}
        try:
            results = session.run(None, operands)
        except Exception as error:
            failed += 1
            print(f"failed: {path.name} at size {size}: {str(error)[:400]}")
            continue
        for i, have in enumerate(results):
            want = tensors[f"{size}.out{i}"]
            comparisons += 1
            error = error_of(have, want, path)
            worst = max(worst, error)
            if not error <= 1e-5:
                failed += 1
                print(f"failed: {path.name} at size {size}, output {i}: {error:.1e} off ({have.shape}, {want.shape})")
    print(f"{path.stem:20} {sum(1 for _ in onnx.load(path, load_external_data=False).graph.node):4} nodes, {worst:.1e} off at most")
print(f"{comparisons} comparisons, {failed} failed")
sys.exit(failed > 0 or comparisons < minimum)
