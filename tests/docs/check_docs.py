"""Compiles and runs the C that stands in README.md and docs/, as a reader who copies it would, and looks up the names
that the pages mention. coming-from-pytorch.md must name every op that the headers declare. In the headers, every CR_API
declaration needs a comment: above it or its group (no blank line between), or behind it; and some test must call it: itself,
its macro, or its op in tests/samples.

    ```c            a whole program where it has `int main`: compiled and run; else it is only shown
    ```c norun      a whole program: compiled, not run (it needs data, or minutes)
    ```c body       statements: compiled as the body of a function
    ```c internal   a source file of the library or of a plug-in: compiled, with the library's own headers
    ```def          lines that stand in pointwise.def
    `cr_name`       a function, macro or type that a header declares

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

DEF_FENCE = re.compile(r"^```def\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"\b(?:cr|CR)_\w+\b")
FENCE = re.compile(r"^( *)```c( [a-z ]+)?\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
SOURCE = pathlib.Path(os.environ["SOURCE"])
LIBRARY = pathlib.Path(os.environ["LIBRARY"])
DECLARATION = re.compile(r"^CR_API\b[^(;]*?(cr_\w+)\(", re.MULTILINE)
VARIABLE = re.compile(r'"(CR_[A-Z_]+)"')
TIMEOUT = 120  # seconds for one program
PLACEHOLDERS = {"cr_op", "cr_op_scalar", "cr_op_"}  # docs write them for any op
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
        if kind not in ("", "norun", "body", "internal"):
            sys.exit(f"{place}: ```c {kind} is none of c, c norun, c body, c internal")
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
        if kind == "internal":
            command += ["-I", str(SOURCE)]
        if kind in ("body", "internal"):
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


def declared_names():
    """Every word of the headers, what pointwise.def's lines declare, and the environment variables that are read."""
    headers = [*SOURCE.glob("include/**/*.h"), *SOURCE.glob("core/*.h"), *SOURCE.glob("ops/**/*.h")]
    names = {name for header in headers for name in NAME.findall(header.read_text())}
    table = (SOURCE / "include/cresset/pointwise.def").read_text()
    for operands, op in re.findall(r"^CR_POINTWISE_(\d)\w*\((\w+)", table, re.MULTILINE):
        names |= {f"cr_{op}", f"cr_{op}_"} | ({f"cr_{op}_scalar", f"cr_{op}_scalar_"} if operands == "2" else set())
    sources = [*SOURCE.glob("core/*.c"), *SOURCE.glob("jit/**/*.c")]
    return names | {name for source in sources for name in VARIABLE.findall(source.read_text())}


def undocumented(header):
    """The CR_API declarations of a header that no comment stands above, as (line number, name)."""
    in_comment = in_declaration = documented = False
    for number, line in enumerate(header.read_text().splitlines(), 1):
        text = line.strip()
        if in_comment or (text.startswith("/*") and not in_declaration):
            is_rule = text.startswith("/* ---") and text.endswith("*/")  # a heading says nothing of what follows
            in_comment = "*/" not in text
            documented = not in_comment and not is_rule
        elif in_declaration:
            in_declaration = ";" not in text
        elif text.startswith("CR_API "):
            in_declaration = ";" not in text
            if not documented and not re.search(r";\s*/\*", text):
                yield number, re.search(r"(cr_\w+)\(", line).group(1)
        elif not text.startswith("#"):  # a type, a macro's body, or a blank line ends what the comment was for
            documented = False


def untested(declared):
    """The functions that no test names. (tests/hostile_calls calls them all; that is not counted.)"""
    words = {name for source in (SOURCE / "tests").rglob("*.[ch]") for name in NAME.findall(source.read_text())}
    samples = "".join(path.read_text() for path in (SOURCE / "tests/samples").glob("*.samples"))
    words |= {f"cr_{op}" for op in re.findall(r"^[~!]?(\w+)", samples, re.MULTILINE)}
    for name in sorted(declared):
        if not {name, re.sub(r"_(with|of)(_?)$", r"\2", name), re.sub(r"_+$", "", name)} & words:
            yield f"no test calls {name}"


def check_headers():
    headers = sorted((SOURCE / "include/cresset").rglob("*.h"))
    yield from untested({name for header in headers for name in DECLARATION.findall(header.read_text())})
    for header in headers:
        for number, name in undocumented(header):
            yield f"{header.relative_to(SOURCE)}:{number}: {name} has no comment above it"


def check_words(page, names, rows):
    """Problems with the names in a page's prose, and with the table's lines that it shows."""
    text = page.read_text()
    for line in "".join(DEF_FENCE.findall(text)).splitlines():
        if line not in rows:
            yield f"{page.name}: pointwise.def has no such line: {line}"
    prose = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"`([^`]+)`", prose):
        for name in NAME.findall(span):
            if name not in names and name not in PLACEHOLDERS:
                yield f"{page.name}: no header declares {name}"


def check_table():
    """The functions of include/cresset/ops that coming-from-pytorch.md does not name, in any of their forms."""
    page = (SOURCE / "docs/coming-from-pytorch.md").read_text()
    headers = "".join(header.read_text() for header in (SOURCE / "include/cresset/ops").glob("*.h"))
    named, declared = ({re.sub(r"(_with)?_?$", "", name) for name in names}
                       for names in (NAME.findall(page), DECLARATION.findall(headers)))
    for name in sorted(declared - named):
        yield f"coming-from-pytorch.md does not name {name}"


def main():
    pages = [page for page in [SOURCE / "README.md", *sorted((SOURCE / "docs").rglob("*.md"))] if page.exists()]
    names, rows = declared_names(), set((SOURCE / "include/cresset/pointwise.def").read_text().splitlines())
    words = [problem for page in pages for problem in check_words(page, names, rows)]
    words += [*check_table(), *check_headers()]
    blocks = [block for page in pages for block in blocks_of(page)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = [problem for problem in pool.map(check, blocks) if problem]
    print("\n".join(problems + words))
    print(f"{len(blocks) - len(problems)} passed, {len(problems) + len(words)} failed")
    return 1 if problems or words or not blocks else 0


sys.exit(main())
