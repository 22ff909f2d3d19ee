"""PyTorch's counterparts of the losses."""
import torch.nn.functional as F

from registry import op


def named(reduction):
    return ["none", "mean", "sum"][reduction]


op("mse_loss")(lambda x, y, reduction=1, **_: F.mse_loss(x, y, reduction=named(reduction)))
op("l1_loss")(lambda x, y, reduction=1, **_: F.l1_loss(x, y, reduction=named(reduction)))
op("smooth_l1_loss")(lambda x, y, reduction=1, beta=1, **_: F.smooth_l1_loss(x, y, reduction=named(reduction), beta=beta))
op("huber_loss")(lambda x, y, reduction=1, beta=1, **_: F.huber_loss(x, y, reduction=named(reduction), delta=beta))


@op("bce", detached=(1, 2))
def _(x, y, weight, reduction=1, **_):
    return F.binary_cross_entropy(x, y, weight, reduction=named(reduction))


@op("bce_with_logits", detached=(2, 3))
def _(x, y, weight, positive, reduction=1, **_):
    return F.binary_cross_entropy_with_logits(x, y, weight, pos_weight=positive, reduction=named(reduction))


@op("nll_loss", detached=(2,))
def _(x, target, weight, reduction=1, ignore_index=-100, **_):
    return F.nll_loss(x, target, weight, ignore_index=ignore_index, reduction=named(reduction))


@op("cross_entropy", detached=(2,))
def _(x, target, weight, reduction=1, ignore_index=-100, label_smoothing=0, **_):
    return F.cross_entropy(x, target, weight, ignore_index=ignore_index,
                           reduction=named(reduction), label_smoothing=label_smoothing)


op("kl_div")(lambda x, y, reduction=1, **_: F.kl_div(x, y, reduction=named(reduction)))

# terms of losses, element by element
op("bce_terms")(lambda a, b, **_: F.binary_cross_entropy(*broadcast(a, b), reduction="none"))
op("bce_logits_terms")(lambda a, b, **_: F.binary_cross_entropy_with_logits(*broadcast(a, b), reduction="none"))
op("smooth_l1_terms")(lambda d, beta: F.smooth_l1_loss(d, d.new_zeros(d.shape), reduction="none", beta=beta))
op("huber_terms")(lambda d, delta: F.huber_loss(d, d.new_zeros(d.shape), reduction="none", delta=delta))
op("kl_terms")(lambda a, b, **_: F.kl_div(*broadcast(a, b), reduction="none"))


def broadcast(a, b):
    import torch
    return torch.broadcast_tensors(a, b)
