"""benchmarks/cresset-bench: a quick run, a result that is made wrong, a row that became slower, what --help and --list say.

    check.py CRESSET_BENCH BENCH_WORKER
"""
import json
import pathlib
import subprocess
import sys
import tempfile

bench, worker = sys.argv[1:3]
passed = 0


def run(*words, ends=0):
    global passed
    ended = subprocess.run([sys.executable, bench, "--worker", worker, *words], capture_output=True, text=True)
    if ended.returncode != ends:
        sys.exit(f"{words} ended with {ended.returncode}, not {ends}:\n{ended.stdout}{ended.stderr}")
    passed += 1
    return ended.stdout + ended.stderr


def expect(condition, what):
    global passed
    if not condition:
        sys.exit(f"failed: {what}")
    passed += 1


with tempfile.TemporaryDirectory() as folder:
    numbers, page = pathlib.Path(folder) / "run.json", pathlib.Path(folder) / "run.html"
    rows = run("--list").split("\n")
    expect(len(rows) > 20 and "matmul, 256" in rows, "the list of rows")
    expect("A B A B" in run("--help"), "help that tells how it is measured")
    expect("--list" in run("--filter", "no such work", ends=1), "a hint where nothing matches")
    expect("no such opponent" in run("--opponents", "abacus", ends=2), "an unknown opponent")
    quick = ["--quick", "--opponents", "torch", "--filter", "matmul, 256", "--json", str(numbers)]
    text = run(*quick, "--html", str(page))
    expect("| matmul, 256 |" in text and "measured peak" in text, "the table")
    measured = json.loads(numbers.read_text())
    row = measured["rows"][0]
    expect(row["ours"]["low"] > 0 and row["flops"] == 2 * 256**3, "times and the work behind them")
    expect("<svg" in page.read_text(), "bars")

    def times(factor):
        row["ours"].update(median=row["ours"]["median"] * factor, low=row["ours"]["low"] * factor, high=row["ours"]["high"] * factor)
        numbers.with_name("old.json").write_text(json.dumps(measured))
        return ["--compare", str(numbers.with_name("old.json"))]

    run(*quick, *times(100))
    expect("SLOWER: matmul, 256" in run(*quick, *times(1e-6), ends=1), "a row that is slower than it was")
    if row["peers"]:
        expect(row["compared"] >= 1, "results that were compared")
        expect("WRONG: matmul, 256" in run(*quick, "--spoil", ends=1), "a wrong result")
        print(f"{passed} checks passed")
    else:
        print(f"{passed} checks passed; no peer is installed: wrong results were not tried")
