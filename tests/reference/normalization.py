"""PyTorch's counterparts of softmax and the normalisations."""
import torch
import torch.nn.functional as F

from registry import op

op("softmax")(lambda x, dim=-1: torch.softmax(x, dim))
op("log_softmax")(lambda x, dim=-1: torch.log_softmax(x, dim))
op("softmax_grad")(lambda g, y, dim=-1: torch.ops.aten._softmax_backward_data(g, y, dim, y.dtype))
op("log_softmax_grad")(lambda g, y, dim=-1: torch.ops.aten._log_softmax_backward_data(g, y, dim, y.dtype))


@op("layer_norm")
def _(x, weight, bias, dims=1, eps=1e-5):
    return torch.native_layer_norm(x, x.shape[x.dim() - dims:], weight, bias, eps)[:1]


@op("batch_norm")
def _(x, weight, bias, mean, var, training=False, momentum=0.1, eps=1e-5):
    running = [t.detach().clone() if t is not None else None for t in (mean, var)]
    y = F.batch_norm(x, running[0], running[1], weight, bias, training, momentum, eps)
    written = [t for t in running if t is not None] if training else []
    return [y, None, None, *written]  # our second and third results are kept for the gradient


op("group_norm")(lambda x, weight, bias, groups=1, eps=1e-5: (F.group_norm(x, groups, weight, bias, eps),))
