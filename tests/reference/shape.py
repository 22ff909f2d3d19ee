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
