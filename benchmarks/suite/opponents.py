"""The other sides of benchmarks/cresset-bench, each a process that speaks as bench_worker does:

    opponents.py NAME THREADS FOLDER            NAME: a key of SIDES
    opponents.py NAME THREADS first MODEL.onnx  loads, runs once, and ends
    opponents.py NAME THREADS ready MODEL.onnx  keeps what makes it start faster, as MODEL.onnx.ready, and ends
    opponents.py NAME THREADS FOLDER compile ROW   compiles once, prints the seconds that this took, and ends

Each runs as its best user would: inference mode, its own best layout, the number of threads that it is given.
"""
import importlib
import json
import os
import resource
import sys
import time

SIDES = {"torch": ("torch_peer", "Torch"), "torch.compile": ("torch_peer", "Compiled"), "jax": ("jax_peer", "Jax"),
         "onnxruntime": ("onnx_peers", "OnnxRuntime"), "openvino": ("onnx_peers", "OpenVino"),
         "ncnn": ("ncnn_peer", "Ncnn"), "ggml": ("ggml_peer", "Ggml")}


def set_threads(threads):
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} intra_op_parallelism_threads={threads}"


def times(side, seconds):
    """Of steps for about so long: three at least, where that takes no more than a second, else one."""
    begin, taken = time.perf_counter(), []
    while not taken or len(taken) < 2000 and time.perf_counter() - begin < (seconds if len(taken) >= 3 else max(seconds, 1)):
        start = time.perf_counter()
        side.step()
        taken.append((time.perf_counter() - start) / side.calls)
    return taken


def obey(side, line):
    command, _, rest = line.strip().partition(" ")
    if command == "prepare":
        side.prepare(rest)
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
    name, threads, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    set_threads(threads)  # before any of them is imported
    import numpy

    from common import NotOffered
    module, kind = SIDES[name]
    side = getattr(importlib.import_module(module), kind)(threads, folder)
    if folder in ("ready", "first"):
        print(getattr(side, folder)(sys.argv[4]))
        sys.exit()
    if len(sys.argv) > 5:
        print(side.compile_time(sys.argv[5]))
        sys.exit()
    for line in sys.stdin:
        try:
            answer = obey(side, line)
        except NotOffered as reason:
            answer = {"error": str(reason), "not_offered": True}
        except Exception as problem:  # told, not thrown: the runner goes on with the other rows
            answer = {"error": f"{type(problem).__name__}: {problem}"[:300]}
        print(json.dumps(answer), flush=True)
