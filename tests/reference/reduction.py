"""PyTorch's counterparts of the reductions."""
import torch

from registry import op


def all_dims(x, dims):
    return dims or list(range(x.dim()))


op("sum")(lambda x, dims=None, keepdim=False, dtype=None: torch.sum(x, all_dims(x, dims), keepdim=keepdim, dtype=dtype))
op("mean")(lambda x, dims=None, keepdim=False, dtype=None: torch.mean(x, all_dims(x, dims), keepdim=keepdim, dtype=dtype))


@op("prod")
def _(x, dims=None, keepdim=False, dtype=None):
    for dim in sorted(all_dims(x, dims), reverse=True):
        x = torch.prod(x, dim, keepdim=keepdim, dtype=dtype)
    return x


op("amax")(lambda x, dims=None, keepdim=False: torch.amax(x, all_dims(x, dims), keepdim=keepdim))
op("amin")(lambda x, dims=None, keepdim=False: torch.amin(x, all_dims(x, dims), keepdim=keepdim))


def logical(function):
    def reduce(x, dims=None, keepdim=False):
        for dim in sorted(all_dims(x, dims), reverse=True):
            x = function(x, dim, keepdim=keepdim)
        return x.bool()
    return reduce


op("any")(logical(torch.any))
op("all")(logical(torch.all))
op("logsumexp")(lambda x, dims=None, keepdim=False: torch.logsumexp(x, all_dims(x, dims), keepdim=keepdim))
op("var")(lambda x, dims=None, keepdim=False, correction=1: torch.var(x, all_dims(x, dims), correction=correction, keepdim=keepdim))
op("norm")(lambda x, p=2, dims=None, keepdim=False: torch.linalg.vector_norm(x, p, all_dims(x, dims), keepdim=keepdim))
op("argmax")(lambda x, dim=0, keepdim=False: torch.argmax(x, dim, keepdim=keepdim))
op("argmin")(lambda x, dim=0, keepdim=False: torch.argmin(x, dim, keepdim=keepdim))
op("cumsum")(lambda x, dim=0: torch.cumsum(x, dim))
op("cumprod")(lambda x, dim=0: torch.cumprod(x, dim))
