"""Builds libtorch_worker.cpp with the headers and libraries of the PyTorch in build/bench-venv."""
import pathlib
import subprocess


def worker(root):
    """The program's path; None where there is no such PyTorch or no compiler."""
    source, program = root / "benchmarks/suite/libtorch_worker.cpp", root / "build/libtorch_worker"
    found = sorted((root / "build/bench-venv/lib").glob("python3*/site-packages/torch/lib/libtorch_cpu.so"))
    if not found:
        return None
    torch = found[0].parent.parent
    if program.exists() and program.stat().st_mtime > max(source.stat().st_mtime, found[0].stat().st_mtime):
        return program
    words = ["g++", "-O2", "-std=c++20", f"-I{torch}/include", source, f"-L{torch}/lib", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{torch}/lib",
             "-o", program]
    try:
        built = subprocess.run([str(word) for word in words], capture_output=True).returncode == 0
    except FileNotFoundError:
        return None
    return program if built else None
