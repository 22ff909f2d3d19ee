"""Checks .npy files in both directions against NumPy.

`write FOLDER`: saves arrays in every layout, byte order and version that we read, and beside each NAME.npy its row-major
little-endian bytes as NAME.bin. `check FOLDER`: loads NAME.npy as we saved it and compares it with NAME.bin and FOLDER/list.
"""
import sys

import numpy as np
from numpy.lib import format as npy_format

KINDS = "b1 u1 i1 i2 i4 i8 f2 f4 f8".split()


def write(folder):
    generator, number = np.random.default_rng(0), 0
    listing = open(folder + "/list", "w")
    for kind in KINDS:
        for shape in [(), (1,), (0, 3), (5,), (3, 4), (2, 3, 4), (1, 2, 1, 3, 2)]:
            for order in "CF":
                for endian in "<>":
                    for version in [(1, 0), (2, 0), (3, 0)]:
                        raw = generator.integers(0, 256 if kind != "b1" else 2, size=int(np.prod(shape)) * int(kind[1]), dtype=np.uint8)
                        values = np.frombuffer(raw.tobytes(), dtype="<" + kind).reshape(shape)
                        stored = np.array(values, dtype=endian + kind, order=order)
                        with open(f"{folder}/{number}.npy", "wb") as file:
                            npy_format.write_array(file, stored, version=version)
                        values.tofile(f"{folder}/{number}.bin")
                        sizes = "".join(f"{size}," for size in shape)
                        listing.write(f"{number} {kind} [{sizes[:-1]}]\n")
                        number += 1


def check(folder):
    count = 0
    for line in open(folder + "/list"):
        name, kind, sizes = line.split()
        array = np.load(f"{folder}/{name}.npy")
        assert array.dtype == np.dtype("<" + kind) and array.flags.c_contiguous, line
        assert str(list(array.shape)).replace(" ", "") == sizes, line
        assert array.tobytes() == open(f"{folder}/{name}.bin", "rb").read(), line
        assert open(f"{folder}/{name}.npy", "rb").read().index(b"\n") % 64 == 63, line
        count += 1
    print(f"NumPy read {count} of our files")


dict(write=write, check=check)[sys.argv[1]](sys.argv[2])
