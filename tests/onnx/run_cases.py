#!/usr/bin/env python3
"""Runs ONNX's own test cases, each in a process of its own, and says how many passed, failed, or are not supported.

    run_cases.py PROGRAM FOLDER... [--graph] [--minimum N] [--show failed|unsupported|all] [--table FILE]

FOLDER holds cases (folders with a model.onnx). Exits 1 where a case failed, or fewer than N passed; 77 where there are none.
"""
import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
arguments.add_argument("program")
arguments.add_argument("folders", nargs="+", type=pathlib.Path)
arguments.add_argument("--graph", action="store_true", help="import as graphs (the default: run as modules)")
arguments.add_argument("--minimum", type=int, default=0)
arguments.add_argument("--show", default="failed")
arguments.add_argument("--filter", default="")
given = arguments.parse_args()


# Cases that contradict themselves.
WRONG = {"test_adam_multiple": "its file lacks the epsilon that its outputs were computed with"}


def run(case):
    command = [given.program] + (["--graph"] if given.graph else []) + [str(case)]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, errors="replace")
    except subprocess.TimeoutExpired:
        return case, "failed", "took more than two minutes"
    line = (ended.stdout.strip().splitlines() or ["failed: printed nothing"])[-1]
    if ended.returncode not in (0, 1, 77):
        return case, "failed", f"ended with {ended.returncode}: {ended.stderr.strip()[-300:]}"
    kind, _, why = line.partition(": ")
    return case, kind, why


cases = sorted(path.parent for folder in given.folders for path in folder.glob("*/model.onnx"))
cases = [case for case in cases if re.search(given.filter, case.name) and case.name not in WRONG]
if not cases:
    print("no cases here: skipped")
    sys.exit(77)
counts = collections.Counter()
with ThreadPoolExecutor(os.cpu_count()) as pool:
    for case, kind, why in pool.map(run, cases):
        counts[kind] += 1
        if kind != "passed" and given.show in (kind, "all"):
            print(f"{kind}: {case.name}: {why}")
print(f"{len(cases)} cases: {counts['passed']} passed, {counts['failed']} failed, {counts['unsupported']} not supported")
sys.exit(counts["failed"] > 0 or counts["passed"] < given.minimum)
