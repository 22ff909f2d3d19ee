#!/usr/bin/env python3
"""The same ONNX files under Cresset and ONNX Runtime in turns, A B A B, each turn a process of its own.

    compare.py BENCHMARK_ONNX [--rounds 3] [--threads 1,2] [--seconds 3]

A cell is the median over rounds (lowest … highest); ratio is ONNX Runtime's median over ours. "to a session" is import and
plan beside InferenceSession; "run" one image, or 128 words. Needs build/onnx-venv (scripts/python-env onnx).
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

RUNTIME = """
import sys, time, json, numpy, onnxruntime
path, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
def report(name, value): print(json.dumps({"name": name, "value": value}))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
begin = time.perf_counter()
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
report("to a session", time.perf_counter() - begin)
put = session.get_inputs()[0]
feed, times = {put.name: numpy.ones(put.shape, "f4")}, []
session.run(None, feed)
end = time.perf_counter() + seconds
while len(times) < 5 or (time.perf_counter() < end and len(times) < 1000):
    begin = time.perf_counter()
    session.run(None, feed)
    times.append(time.perf_counter() - begin)
report("run", sorted(times)[len(times) // 2])
"""

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("program", type=pathlib.Path)
arguments.add_argument("--rounds", type=int, default=3)
arguments.add_argument("--threads", default="1,2")
arguments.add_argument("--seconds", default="3")
given = arguments.parse_args()
python = given.program.resolve().parent.parent / "onnx-venv/bin/python"


def run(command):
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if ended.returncode:
        sys.exit(f"{command[0]} failed: {ended.stderr.strip()[-500:]}")
    return {line["name"]: line["value"] for line in map(json.loads, ended.stdout.splitlines())}


def cell(values):
    return f"{statistics.median(values) * 1e3:8.1f} ms ({min(values) * 1e3:.1f} … {max(values) * 1e3:.1f})"


with tempfile.TemporaryDirectory() as folder:
    for name, value in run([given.program, "write", folder]).items():
        print(f"{name}: {value:.3f}")
    if not python.exists():
        sys.exit(f"{python} is missing: scripts/python-env onnx")
    print(f"\n{'model, threads':28} {'':13} {'Cresset':30} {'ONNX Runtime':30} ratio")
    for threads in map(int, given.threads.split(",")):
        for name in ("resnet50", "mobilenet_v2", "encoder"):
            path, ours, theirs = f"{folder}/{name}.onnx", [], []
            for _ in range(given.rounds):
                ours.append(run([given.program, "run", path, threads, given.seconds]))
                theirs.append(run([python, "-c", RUNTIME, path, threads, given.seconds]))
            sessions = [turn["import"] + turn["plan"] for turn in ours]
            for what, a, b in (("to a session", sessions, [turn["to a session"] for turn in theirs]),
                               ("run", [turn["run"] for turn in ours], [turn["run"] for turn in theirs])):
                ratio = statistics.median(b) / statistics.median(a)
                print(f"{name + ', ' + str(threads):28} {what:13} {cell(a):30} {cell(b):30} {ratio:5.2f}", flush=True)
