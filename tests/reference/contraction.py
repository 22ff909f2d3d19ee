"""PyTorch's counterparts of the contractions."""
import torch
import torch.nn.functional as F

from registry import op

op("matmul")(lambda a, b: torch.matmul(a, b))
op("linear")(lambda x, weight, bias: F.linear(x, weight, bias))
op("narrow_linear")(lambda x, weight, bias: F.linear(x, weight.to(x.dtype), bias))
op("einsum")(lambda *operands, equation: torch.einsum(equation, *operands))


def masked_scores(q, k, mask, is_causal, scale):
    scores = q @ k.transpose(-1, -2) * scale
    if is_causal:
        scores = scores + torch.full(scores.shape[-2:], float("-inf"), dtype=q.dtype).triu(1)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    return scores


@op("attention")
def _(q, k, v, mask, is_causal=False, scale=0, dropout_p=0):
    return torch.softmax(masked_scores(q, k, mask, is_causal, scale or q.shape[-1] ** -0.5), -1) @ v


@op("flash_attention")
def _(q, k, v, mask, is_causal=False, scale=1):
    return torch.softmax(masked_scores(q, k, mask, is_causal, scale), -1) @ v


@op("cached_attention")
def _(q, k, v, keys, values, position, scale=0):
    begin, length = int(position), q.shape[-2]
    keys, values = keys.clone(), values.clone()
    keys[..., begin : begin + length, :], values[..., begin : begin + length, :] = k, v
    seen = torch.arange(keys.shape[-2]) <= begin + torch.arange(length)[:, None]
    scores = masked_scores(q, keys, seen, False, scale or q.shape[-1] ** -0.5)
    return [torch.softmax(scores, -1) @ values, keys, values, position + length]
