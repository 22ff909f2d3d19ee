"""quantize and dequantize by PyTorch's quantised tensors where it has them (u8, i8), else by their formula."""
import torch

from registry import op

QUANTISED = {torch.uint8: torch.quint8, torch.int8: torch.qint8}
LIMITS = {torch.uint8: (0, 255), torch.int8: (-128, 127), torch.int16: (-32768, 32767)}


def laid_out(t, x, axis):
    return t.reshape([]) if t.numel() == 1 else t.reshape([-1 if d == axis % x.dim() else 1 for d in range(x.dim())])


@op("quantize")
def _(x, scale, zero=None, axis=1, dtype=torch.uint8):
    to = dtype if zero is None else zero.dtype
    zero = torch.zeros_like(scale, dtype=torch.int64) if zero is None else zero.long()
    least, most = LIMITS[to]
    wide = torch.float64 if scale.dtype == torch.float64 else torch.float32
    steps = torch.round(x.to(wide) / laid_out(scale.to(wide), x, axis))
    return (steps + laid_out(zero, x, axis)).clamp(least, most).to(to)


@op("dequantize")
def _(q, scale, zero=None, axis=1):
    if q.dtype in QUANTISED and scale.numel() == 1 and scale.dtype == torch.float32 and not scale.requires_grad:
        shift = 0 if zero is None else zero.item()
        return torch._make_per_tensor_quantized_tensor(q, scale.item(), shift).dequantize()
    shift = 0 if zero is None else laid_out(zero.to(scale.dtype), q, axis)
    return (q.to(scale.dtype) - shift) * laid_out(scale, q, axis)
