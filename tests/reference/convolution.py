"""PyTorch's counterparts of convolution and pooling."""
import torch
import torch.nn.functional as F

from registry import op

CONVOLUTIONS = {False: (F.conv1d, F.conv2d, F.conv3d), True: (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)}


def settings(spatial, strides=(), paddings=(), dilations=(), output_paddings=()):
    def full(values, standard):
        return list(values) * (spatial // len(values)) if values else [standard] * spatial
    return full(strides, 1), full(paddings, 0), full(dilations, 1), full(output_paddings, 0)


def convolve(x, w, b, groups=1, transposed=False, **lists):
    stride, padding, dilation, output_padding = settings(w.dim() - 2, **lists)
    function = CONVOLUTIONS[transposed][w.dim() - 3]
    if transposed:
        return function(x, w, b, stride, padding, output_padding, groups, dilation)
    return function(x, w, b, stride, padding, dilation, groups)


@op("convolution")
def _(x, w, b=None, **attributes):
    return convolve(x, w, b, **attributes)


# The gradients, as PyTorch's own autograd gives them, differentiable again.
@op("convolution_grad_input")
def _(grad, w, sizes, **attributes):
    x = torch.zeros(sizes, dtype=grad.dtype, requires_grad=True)
    return torch.autograd.grad(convolve(x, w, None, **attributes), x, grad, create_graph=True)[0]


@op("convolution_grad_weight")
def _(grad, x, sizes, **attributes):
    w = torch.zeros(sizes, dtype=grad.dtype, requires_grad=True)
    return torch.autograd.grad(convolve(x, w, None, **attributes), w, grad, create_graph=True)[0]


MAX_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
AVG_POOLS = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
ADAPTIVE_MAX_POOLS = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
ADAPTIVE_AVG_POOLS = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)


@op("max_pool")
def _(x, kernel_sizes, strides=(), paddings=(), dilations=(), ceil_mode=False):
    spatial = len(kernel_sizes)
    stride, padding, dilation, _ = settings(spatial, strides or kernel_sizes, paddings, dilations)
    return MAX_POOLS[spatial - 1](x, kernel_sizes, stride, padding, dilation, ceil_mode, return_indices=True)


@op("adaptive_max_pool")
def _(x, sizes):
    whole = [x.shape[i - len(sizes)] if size == -1 else size for i, size in enumerate(sizes)]
    return ADAPTIVE_MAX_POOLS[len(sizes) - 1](x, whole, return_indices=True)


@op("adaptive_avg_pool")
def _(x, sizes):
    whole = [x.shape[i - len(sizes)] if size == -1 else size for i, size in enumerate(sizes)]
    return ADAPTIVE_AVG_POOLS[len(sizes) - 1](x, whole)


def average(x, kernel_sizes, strides=(), paddings=(), ceil_mode=False, count_include_pad=True, divisor_override=0):
    spatial = len(kernel_sizes)
    stride, padding, _, _ = settings(spatial, strides or kernel_sizes, paddings)
    more = [] if spatial == 1 else [divisor_override or None]
    return AVG_POOLS[spatial - 1](x, kernel_sizes, stride, padding, ceil_mode, count_include_pad, *more)


op("avg_pool")(average)


@op("avg_pool_grad")
def _(grad, sizes, **attributes):
    x = torch.zeros(sizes, dtype=grad.dtype, requires_grad=True)
    return torch.autograd.grad(average(x, **attributes), x, grad, create_graph=True)[0]


@op("adaptive_avg_pool_grad")
def _(grad, sizes, spatial=2):
    x = torch.zeros(sizes, dtype=grad.dtype, requires_grad=True)
    return torch.autograd.grad(ADAPTIVE_AVG_POOLS[spatial - 1](x, list(grad.shape[-spatial:])), x, grad, create_graph=True)[0]


def flat(t, spatial):
    return t.reshape(*t.shape[:-spatial], -1)


@op("max_pool_grad")
def _(grad, indices, sizes, spatial=2):
    zeros = torch.zeros(sizes, dtype=grad.dtype)
    return flat(zeros, spatial).scatter_add(-1, flat(indices, spatial), flat(grad, spatial)).reshape(sizes)


@op("max_pool_gather")
def _(x, indices, spatial=2, **_):
    return flat(x, spatial).gather(-1, flat(indices, spatial)).reshape(indices.shape)
