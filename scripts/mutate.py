#!/usr/bin/env python3
"""Breaks kernels and gradient rules, one small change at a time, and counts what the tests notice.

    scripts/mutate.py [--count 40] [--seed 1] [--minimum 0] [--list] [path …]      also path:line, for one line's changes

A change flips a sign or a comparison, drops a term, moves a bound by one, negates a condition, or swaps two ops of a
gradient. Changes are drawn at random (by --seed) over the given paths; a copy of the tree under build-mutants/ is
changed, built and tested, and put back. The tree itself is never touched. AREAS says which tests a file concerns: only
those are linked again, and they run one by one, the quickest first, until one notices. Each survivor is printed as a
diff: a test to add, or a change without a meaning (docs/mutants.md lists those that were found). A change that leaves
the machine code as it was is not counted, nor is one that does not compile. ccache is used where it is installed.
"""
import argparse
import dataclasses
import difflib
import functools
import hashlib
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORK = ROOT / "build-mutants"
SOURCE, BUILD = WORK / "source", WORK / "build"
DEFAULT_PATHS = ["ops", "autograd", "optim", "jit/passes", "jit/memory.c", "include/cresset/pointwise.def"]
# The first pattern that a path matches names its tests, quickest first: those of CTest by their names.
QUICK = "shapes tensors indexing updates optim nn models autograd random jit_trace jit_save jit_passes dtypes"
AREAS = [
    (r"^jit/", "jit_passes jit_save jit_trace jit_control jit_gradients jit_training jit_hostile samples"),
    (r"^autograd/", "autograd jit_gradients jit_trace nn models jit_training samples samples_reference"),
    (r"^optim/", "optim updates training_reference"),
    (r"update", "updates optim samples samples_reference"),
    (r"convolution|winograd|gemm|product", "convolution samples autograd models samples_reference training_reference"),
    (r"random|philox", "random nn samples"),
    (r"pointwise|math|tile|fused", f"pointwise math {QUICK} samples samples_reference pointwise_on_host codegen"),
    (r"", f"{QUICK} samples convolution samples_reference training_reference"),
]
PROGRAMS = {"samples": "op_samples", "samples_reference": "op_samples", "training_reference": "train_dump",
            "pointwise_on_host": "test_pointwise_on_host"}
NOT_COPIED = {".git", "runs", "__pycache__"}
MEMORY_LIMIT = 8 << 30  # a wrong bound may ask for any amount

# (name, pattern, replacement): each match in the code of a file is a place to change. Binary operators stand between
# spaces here, pointers and signs do not.
OPERAND = r"(?:[A-Za-z_][\w.>-]*|\d[\w.]*)(?:\[[^\[\]]*\])?"
RULES = [
    ("sign", r" \+ ", " - "),
    ("sign", r" - ", " + "),
    ("sign", r" \+= ", " -= "),
    ("sign", r" -= ", " += "),
    ("factor", r" \* ", " / "),
    ("factor", r" / ", " * "),
    ("bound", r" < ", " <= "),
    ("bound", r" <= ", " < "),
    ("bound", r" > ", " >= "),
    ("bound", r" >= ", " > "),
    ("comparison", r" == ", " != "),
    ("comparison", r" != ", " == "),
    ("logic", r" && ", " || "),
    ("logic", r" \|\| ", " && "),
    ("drop a term", rf" [+-] {OPERAND}(?=[;,)\]])(?!\()", ""),
    ("drop a factor", rf" [*/] {OPERAND}(?=[;,)\]])(?!\()", ""),
    ("constant", r"(?<![\w.\[{])0(?![\w.])", "1"),
    ("constant", r"(?<![\w.])1(?![\w.])", "0"),
    ("constant", r"(?<![\w.])([2-9])(?![\w.])", lambda match: str(int(match.group(1)) + 1)),
    ("constant", r"(?<![\w.])(?!0\.0f?\b)(\d+\.\d+(?:e[-+]?\d+)?f?)\b", r"(\1 * 1.01f)"),
    ("condition", r"\bif \((?!!)", "if (!"),
    ("negation", r"\bif \(!", "if ("),
    ("gradient op", r"\bcr_neg\(", "cr_positive_("),
    ("gradient op", r"\bcr_add\(", "cr_sub("),
    ("gradient op", r"\bcr_sub\(", "cr_add("),
    ("gradient op", r"\bcr_mul\(", "cr_div("),
    ("gradient op", r"\bcr_div\(", "cr_mul("),
]
# Lines whose change no result could show: messages, sizes of allocations, declarations, what only costs time.
SKIPPED_LINE = re.compile(r"cr_fail\(|cr_record_error\(|sizeof|^\s*#|cr_malloc|cr_calloc|cr_free|\bgrain\b|GRAIN|"
                          r"^(static )?(const )?\w[\w ]*\*?\w+\([^;]*\);|__builtin|_Static_assert|^\s*case |enum ")


@dataclasses.dataclass(frozen=True)
class Mutation:
    path: str
    line: int
    kind: str
    start: int
    end: int
    replacement: str


def blank_out(text):
    """The text with comments, strings and character constants turned to spaces, offsets kept."""
    pattern = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])'", re.DOTALL)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group(0)), text)


@functools.cache
def original(path):
    """A file's text as it was at the start: the tree may be worked on meanwhile."""
    return (ROOT / path).read_text()


def mutations_of(path):
    code = blank_out(original(path))
    in_macro = False
    offset = 0
    found = []
    for number, line in enumerate(code.split("\n"), 1):
        is_directive = line.lstrip().startswith("#")
        is_definition = is_directive and line.rstrip().endswith("\\")
        body = in_macro and not is_directive  # the lines of a macro's body hold kernels, too
        in_macro = (is_definition or in_macro) and line.rstrip().endswith("\\")
        if body or (line.strip() and not SKIPPED_LINE.search(line) and (line[0] == " " or path.endswith(".def"))):
            for kind, pattern, replacement in RULES:
                for match in re.finditer(pattern, line):
                    new = replacement(match) if callable(replacement) else match.expand(replacement)
                    found.append(Mutation(path, number, kind, offset + match.start(), offset + match.end(), new))
        offset += len(line) + 1
    return found


def changed_text(mutation):
    """The file's text with the mutation in it."""
    text = original(mutation.path)
    new = mutation.replacement
    if mutation.kind == "condition":  # if (x) -> if (!(x)): the matching bracket closes both
        depth, end = 0, mutation.end - 1
        while end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
            if depth == 0:
                break
        return f"{text[:mutation.start]}if (!({text[mutation.end:end - 1]})){text[end:]}"
    if new == "cr_positive_(":  # cr_neg(x) -> (x)
        new = "("
    return text[:mutation.start] + new + text[mutation.end:]


def difference(mutation):
    before, after = original(mutation.path).split("\n"), changed_text(mutation).split("\n")
    lines = [line for line in difflib.unified_diff(before, after, lineterm="", n=0)][3:]
    return "\n".join("    " + line for line in lines)


# ---------------------------------------------------------------- the copy, its build and its tests
def copy_tree():
    """Brings SOURCE up to date; files that are equal keep their times, so that little is built again."""
    wanted = set()
    for folder, names, files in os.walk(ROOT):
        names[:] = [name for name in names if name not in NOT_COPIED and not name.startswith("build")]
        for name in files:
            source = pathlib.Path(folder) / name
            relative = source.relative_to(ROOT)
            wanted.add(relative)
            target = SOURCE / relative
            if not target.exists() or target.read_bytes() != source.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    for target in [path for path in SOURCE.rglob("*") if path.is_file()]:
        if target.relative_to(SOURCE) not in wanted:
            target.unlink()


def run(command, timeout=None):
    """(exit code or None after the time limit, output)."""
    def limit():
        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               preexec_fn=limit)
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return None, ""


def tests_of(path):
    return next(tests.split() for pattern, tests in AREAS if re.search(pattern, path))


def build(tests):
    programs = sorted({PROGRAMS.get(name, f"test_{name}") for name in tests})
    return run(["cmake", "--build", str(BUILD), "--parallel", str(os.cpu_count()), "--target", *programs])


def test(name, timeout=None):
    return run(["ctest", "--test-dir", str(BUILD), "-R", f"^{name}$", "--output-on-failure", "--no-tests=error"], timeout)


def machine_code():
    """A hash of the library as it was built."""
    return hashlib.sha256((BUILD / "libcresset.a").read_bytes()).hexdigest()


def prepare(tests):
    """Builds the unchanged tree; the seconds that each test may take."""
    copy_tree()
    flags = pathlib.Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    variant = "avx2" if " avx2 " in flags and " fma " in flags else "baseline"
    configure = ["cmake", "-S", str(SOURCE), "-B", str(BUILD), f"-DCRESSET_CPU_VARIANTS={variant}",
                 "-DCRESSET_BUILD_EXAMPLES=OFF", "-DCRESSET_BUILD_BENCHMARKS=OFF"]
    if shutil.which("ninja") and not (BUILD / "CMakeCache.txt").exists():
        configure += ["-G", "Ninja"]
    if shutil.which("ccache"):
        configure.append("-DCMAKE_C_COMPILER_LAUNCHER=ccache")
    for code, output in (run(configure), build(tests)):
        if code != 0:
            sys.exit(f"mutate: the unchanged tree does not build\n{output}")
    limits = {}
    for name in tests:
        begin = time.monotonic()
        code, output = test(name)
        if code != 0:
            sys.exit(f"mutate: the test '{name}' does not pass on the unchanged tree\n{output}")
        limits[name] = max(20, 5 * (time.monotonic() - begin))
    return limits


def judge(mutation, limits, original_code):
    """'killed', 'survived', 'same code' or 'does not compile', and by which test."""
    file = SOURCE / mutation.path
    tests = tests_of(mutation.path)
    file.write_text(changed_text(mutation))
    try:
        if build(tests)[0] != 0:
            return "does not compile", ""
        if machine_code() == original_code:
            return "same code", ""
        noticed = next((name for name in tests if test(name, limits[name])[0] != 0), None)
        return ("killed", noticed) if noticed else ("survived", "")
    finally:
        file.write_text(original(mutation.path))


def print_score(results):
    counted = [(mutation, verdict) for mutation, verdict in results if verdict in ("killed", "survived")]
    print(f"\n{'':44} changes  noticed")
    for title, key in (("file", lambda m: m.path), ("kind", lambda m: m.kind)):
        print(title)
        for name in sorted({key(mutation) for mutation, _ in counted}):
            verdicts = [verdict for mutation, verdict in counted if key(mutation) == name]
            print(f"  {name:42} {len(verdicts):7} {verdicts.count('killed'):8}")
    survivors = [mutation for mutation, verdict in counted if verdict == "survived"]
    if survivors:
        print("\nsurvivors: each is a test to add")
        for mutation in survivors:
            print(f"{mutation.path}:{mutation.line} ({mutation.kind})\n{difference(mutation)}")
    killed = len(counted) - len(survivors)
    score = 100 * killed / len(counted) if counted else 0
    print(f"\n{len(results) - len(counted)} not counted (same machine code, or not compiled)")
    print(f"score: {killed} of {len(counted)} noticed, {score:.0f} %")
    return score


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="changes to try (default: 40)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minimum", type=float, default=0, help="fail below this score, in percent")
    parser.add_argument("--list", action="store_true", help="print every change that could be drawn, and stop")
    parser.add_argument("paths", nargs="*", default=DEFAULT_PATHS, help="files or folders to change")
    arguments = parser.parse_args()

    sites = []
    for path in arguments.paths:
        path, _, line = path.partition(":")
        at = ROOT / path
        files = [at] if at.is_file() else sorted([*at.rglob("*.c"), *at.rglob("*.h")])
        found = [mutation for file in files for mutation in mutations_of(str(file.relative_to(ROOT)))]
        sites += [mutation for mutation in found if not line or mutation.line == int(line)]
    if arguments.list:
        for mutation in sites:
            print(f"{mutation.path}:{mutation.line} ({mutation.kind})\n{difference(mutation)}")
        print(len(sites), "places")
        return 0
    chosen = random.Random(arguments.seed).sample(sites, min(arguments.count, len(sites)))
    print(f"{len(chosen)} of {len(sites)} possible changes, seed {arguments.seed}", flush=True)
    concerned = dict.fromkeys(name for mutation in chosen for name in tests_of(mutation.path))
    limits = prepare(list(concerned))
    original_code = machine_code()
    results = []
    for index, mutation in enumerate(chosen, 1):
        verdict, noticed = judge(mutation, limits, original_code)
        results.append((mutation, verdict))
        print(f"{index:4} {verdict:17} {mutation.path}:{mutation.line} ({mutation.kind}) {noticed}", flush=True)
        if verdict == "survived":
            print(difference(mutation), flush=True)
    return 1 if print_score(results) < arguments.minimum else 0


sys.exit(main())
