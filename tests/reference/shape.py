"""PyTorch's counterparts of the shape ops."""
import torch
import torch.nn.functional as F

from registry import op

op("view")(lambda x, shape: x.reshape(shape))
op("permute")(lambda x, dims: x.permute(dims))
op("expand")(lambda x, shape: x.expand(shape))
op("to_device")(lambda x, **_: x.clone())


@op("slice")
def _(x, dim=0, start=0, end=None, step=1):
    where = [slice(None)] * x.dim()
    where[dim] = slice(start, end, step)
    return x[tuple(where)]


op("select")(lambda x, dim=0, index=0: x.select(dim, index))
op("diagonal")(lambda x, offset=0, dim1=0, dim2=1: x.diagonal(offset, dim1, dim2))
op("as_strided")(lambda x, shape, strides, offset=0: x.as_strided(shape, strides, offset))


@op("as_strided_scatter")
def _(x, source, shape, strides, offset=0):  # PyTorch 1.13's own gives the wrong gradient
    result = x.clone()
    result.as_strided(shape, strides, offset).copy_(source)
    return result


op("cat")(lambda *tensors, dim=0: torch.cat(tensors, dim))
op("flip")(lambda x, dims: x.flip(dims))
op("tril")(lambda x, diagonal=0: x.tril(diagonal))
op("triu")(lambda x, diagonal=0: x.triu(diagonal))
op("full")(lambda dtype, shape, value: torch.full(shape, value, dtype=dtype))
op("sequence")(lambda dtype, start, step, count: (start + torch.arange(count, dtype=torch.float64) * step).to(dtype))


@op("pad")
def _(x, before, after, value=0):
    amounts = [n for pair in zip(reversed(before), reversed(after)) for n in pair]
    return F.pad(x, amounts, value=value)


op("unfold")(lambda x, window, dim=0, step=1: x.unfold(dim, window, step))
op("linspace")(lambda dtype, start, end, count: torch.linspace(start, end, count, dtype=dtype))
op("eye")(lambda dtype, rows, columns: torch.eye(rows, columns, dtype=dtype))


@op("pad_around")
def _(x, before, after, mode):  # F.pad wants a batch and channels in front, and floats
    amounts = [n for pair in zip(reversed(before), reversed(after)) for n in pair]
    batched = x.reshape([1] * (len(before) + 2 - x.dim()) + list(x.shape))
    dtype = x.dtype if x.is_floating_point() else torch.float64
    padded = F.pad(batched.to(dtype), amounts, mode=mode).to(x.dtype)
    return padded.reshape(padded.shape[batched.dim() - x.dim():])
