"""Exchanges memory between PyTorch and libcresset.so (the first argument) through DLPack, both ways, without copies."""
import ctypes
import sys

import torch
from torch.utils import dlpack

library = ctypes.CDLL(sys.argv[1])
library.cr_from_dlpack.restype = library.cr_to_dlpack.restype = library.cr_data.restype = ctypes.c_void_p
library.cr_format.restype = ctypes.c_void_p
for name in "cr_from_dlpack cr_to_dlpack cr_data cr_format cr_discard cr_free".split():
    getattr(library, name).argtypes = [ctypes.c_void_p]

capsule_new = ctypes.pythonapi.PyCapsule_New
capsule_new.restype, capsule_new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
capsule_pointer.restype, capsule_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
capsule_name = ctypes.pythonapi.PyCapsule_SetName
capsule_name.argtypes = [ctypes.py_object, ctypes.c_char_p]
NAME = b"dltensor"
USED = b"used_dltensor"

NAMES = {torch.uint8: "u8", torch.int8: "i8", torch.int16: "i16", torch.int32: "i32", torch.int64: "i64",
         torch.float16: "f16", torch.bfloat16: "bf16", torch.float32: "f32", torch.float64: "f64", torch.bool: "bool"}


def text_of(ours):
    address = library.cr_format(ours)
    text = ctypes.string_at(address).decode()
    library.cr_free(address)
    return text


def exchange(theirs):
    """PyTorch -> Cresset -> PyTorch."""
    capsule = dlpack.to_dlpack(theirs)
    ours = library.cr_from_dlpack(capsule_pointer(capsule, NAME))
    assert ours, theirs.dtype
    capsule_name(capsule, USED)
    expected = str(theirs).replace(str(theirs.dtype), NAMES[theirs.dtype])
    assert text_of(ours).split() == expected.split(), (text_of(ours), expected)
    if theirs.numel():
        assert library.cr_data(ours) == theirs.data_ptr()
    back = dlpack.from_dlpack(capsule_new(library.cr_to_dlpack(ours), NAME, None))
    library.cr_discard(ours)
    assert back.dtype == theirs.dtype and torch.equal(back, theirs)
    if theirs.numel():
        assert back.data_ptr() == theirs.data_ptr() and back.stride() == theirs.stride()
        back.view(-1)[0:1].logical_not_() if back.is_contiguous() else None
        assert torch.equal(back, theirs)


count = 0
for dtype in NAMES:
    base = (torch.arange(24) % 2 if dtype == torch.bool else torch.arange(24)).to(dtype).reshape(2, 3, 4)
    for theirs in [base, base.transpose(0, 2), base[:, 1:, ::2], base[1, 2, 3], base[:0], base[:1].expand(5, 3, 4)]:
        if dtype == torch.bool:  # this release of PyTorch does not export bool
            try:
                dlpack.to_dlpack(theirs)
            except RuntimeError:
                continue
        exchange(theirs)
        count += 1
assert count >= 54, count
print(f"{count} tensors went from PyTorch to Cresset and back")
