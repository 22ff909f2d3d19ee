"""Compiles and runs the C that stands in README.md and docs/, as a reader who copies it would.

    ```c            a whole program where it has `int main`: compiled and run; else it is only shown
    ```c norun      a whole program: compiled, not run (it needs data, or minutes)
    ```c body       statements: compiled as the body of a function

The environment gives SOURCE, CC, CFLAGS and LIBRARY (the shared library's path).
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

FENCE = re.compile(r"^( *)```c( [a-z ]+)?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SOURCE = pathlib.Path(os.environ["SOURCE"])
LIBRARY = pathlib.Path(os.environ["LIBRARY"])
TIMEOUT = 120  # seconds for one program
BODY = """#include <cresset.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void example(void);
void example(void) {
%s}
"""


def blocks_of(page):
    """(place, kind, code) of each block of a page that is to be compiled."""
    text = page.read_text()
    for match in FENCE.finditer(text):
        kind = (match.group(2) or "").strip()
        code = re.sub(rf"^{match.group(1)}", "", match.group(3), flags=re.MULTILINE)
        place = f"{page.relative_to(SOURCE)}:{text.count(chr(10), 0, match.start()) + 1}"
        if kind not in ("", "norun", "body"):
            sys.exit(f"{place}: ```c {kind} is none of c, c norun, c body")
        if kind or "int main" in code:
            yield place, kind, code


def check(block):
    """None where the block is good, else what went wrong."""
    place, kind, code = block
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "example.c"), os.path.join(folder, "example")
        pathlib.Path(source).write_text(BODY % code if kind == "body" else code)
        command = [os.environ["CC"], "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-Wno-unused-variable",
                   "-Wno-unused-function", *shlex.split(os.environ.get("CFLAGS", "")), "-isystem",
                   str(SOURCE / "include"), source]
        if kind == "body":
            command += ["-c", "-o", program]
        else:
            command += ["-o", program, str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}", "-lm"]
        compiled = subprocess.run(command, capture_output=True, text=True)
        if compiled.returncode:
            return f"{place}: does not compile\n{compiled.stderr}"
        if kind:
            return None
        try:
            run = subprocess.run([program], cwd=folder, capture_output=True, text=True, timeout=TIMEOUT,
                                 stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return f"{place}: still running after {TIMEOUT} s"
        return f"{place}: exit status {run.returncode}\n{run.stdout}{run.stderr}" if run.returncode else None


def main():
    pages = [SOURCE / "README.md", *sorted((SOURCE / "docs").rglob("*.md"))]
    blocks = [block for page in pages if page.exists() for block in blocks_of(page)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = [problem for problem in pool.map(check, blocks) if problem]
    print("\n".join(problems))
    print(f"{len(blocks) - len(problems)} passed, {len(problems)} failed")
    return 1 if problems or not blocks else 0


sys.exit(main())
