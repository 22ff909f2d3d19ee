#!/usr/bin/env python3
"""Writes the node cases of the installed `onnx` package, which are newer than the system's, as folders.

    generate_cases.py FOLDER

Does nothing where the folder holds them already. Exits 77 where the package is missing.
"""
import pathlib
import sys
import warnings

try:
    import numpy
    import onnx
    from onnx import numpy_helper
    from onnx.backend.test.case.node import collect_testcases
except ImportError as error:
    print(f"no onnx package ({error}): skipped")
    sys.exit(77)

folder = pathlib.Path(sys.argv[1])
stamp = folder / f"onnx-{onnx.__version__}"
if stamp.exists():
    sys.exit(0)
warnings.simplefilter("ignore")


def write(path, value):
    """Tensors only: cases of sequences and the like stay without data, and count as not supported."""
    if isinstance(value, numpy.ndarray) or numpy.isscalar(value):
        path.write_bytes(numpy_helper.from_array(numpy.asarray(value)).SerializeToString())
    elif isinstance(value, onnx.TensorProto):
        path.write_bytes(value.SerializeToString())


written = 0
for case in collect_testcases(None):
    if case.model is None or not case.data_sets:
        continue
    home = folder / case.name
    home.mkdir(parents=True, exist_ok=True)
    (home / "model.onnx").write_bytes(case.model.SerializeToString())
    for i, (inputs, outputs) in enumerate(case.data_sets):
        data = home / f"test_data_set_{i}"
        data.mkdir(exist_ok=True)
        for kind, values in (("input", inputs), ("output", outputs)):
            for k, value in enumerate(values):
                write(data / f"{kind}_{k}.pb", value)
    written += 1
stamp.touch()
print(f"{written} cases of onnx {onnx.__version__} written")
