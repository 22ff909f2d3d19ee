"""PyTorch's counterparts of the pointwise ops; most have the same name."""
import torch
import torch.nn.functional as F

from registry import op

for name in """add sub mul atan2 hypot maximum minimum eq ne lt le gt ge logical_and logical_or logical_xor logical_not isnan
        isinf isfinite bitwise_and bitwise_or bitwise_xor bitwise_not neg abs sign floor ceil round trunc frac square
        reciprocal sqrt rsqrt exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh
        erf erfc erfinv relu sigmoid selu pow bitwise_left_shift bitwise_right_shift""".split():
    def simple(*inputs, function=getattr(torch, name), **_):
        return function(*inputs)
    op(name)(simple)



def exactly(function):
    """PyTorch's f32 fmod gives NaN for huge quotients; in f64 it is exact, and so is the result in f32."""
    def wide(a, b, **_):
        if a.dtype != torch.float32 or b.dtype != torch.float32:
            return function(a, b)
        return function(a.double(), b.double()).float()
    return wide


op("fmod")(exactly(torch.fmod))
op("remainder")(exactly(torch.remainder))
op("div")(lambda a, b, **_: torch.div(a, b))
op("floor_divide")(exactly(lambda a, b: torch.div(a, b, rounding_mode="floor")))
op("trunc_divide")(lambda a, b, **_: torch.div(a, b, rounding_mode="trunc"))
op("lerp")(lambda a, b, w, **_: torch.lerp(a, b, w))
op("addcmul")(lambda a, b, c, value: torch.addcmul(a, b, c, value=value))
op("addcdiv")(lambda a, b, c, value: torch.addcdiv(a, b, c, value=value))
op("where")(lambda c, a, b, **_: torch.where(c, a, b) if a.dtype == b.dtype
            else torch.where(c, a.to(torch.promote_types(a.dtype, b.dtype)), b.to(torch.promote_types(a.dtype, b.dtype))))
op("masked_fill")(lambda a, mask, value: torch.broadcast_tensors(a, mask)[0].masked_fill(mask, value))
op("clamp")(lambda a, min, max: torch.clamp(a, int(min), int(max)) if not a.is_floating_point() else torch.clamp(a, min, max))
op("fill")(lambda a, value: torch.full_like(a, value) + 0 * torch.nan_to_num(a, posinf=0, neginf=0) * 0)
op("identity")(lambda a, **_: a.clone())
op("leaky_relu")(lambda a, negative_slope: F.leaky_relu(a, negative_slope))
op("elu")(lambda a, alpha: F.elu(a, alpha))
op("celu")(lambda a, alpha: F.celu(a, alpha))
op("log_sigmoid")(lambda a, **_: F.logsigmoid(a))
op("softplus")(lambda a, beta, threshold: F.softplus(a, beta, threshold))
op("silu")(lambda a, **_: F.silu(a))
op("mish")(lambda a, **_: F.mish(a))
op("gelu")(lambda a, **_: F.gelu(a))
op("gelu_tanh")(lambda a, **_: F.gelu(a, approximate="tanh"))
op("hardtanh")(lambda a, min, max: F.hardtanh(a, min, max))
op("relu6")(lambda a, **_: F.relu6(a))
op("hardsigmoid")(lambda a, **_: F.hardsigmoid(a))
op("hardswish")(lambda a, **_: F.hardswish(a))
op("softsign")(lambda a, **_: F.softsign(a))
op("tanhshrink")(lambda a, **_: F.tanhshrink(a))
op("hardshrink")(lambda a, **_: F.hardshrink(a, _["lambda"]))
op("softshrink")(lambda a, **_: F.softshrink(a, _["lambda"]))
op("threshold")(lambda a, threshold, value: F.threshold(a, threshold, value))
op("cast")(lambda a, dtype=None, **_: a.to(dtype) if dtype else a.clone())


def first_derivative(function):
    """Slope ops are the derivative of another one, which PyTorch's own autograd gives."""
    def slope(g, x, **attributes):
        leaf = x.detach().clone().requires_grad_(True)
        g, leaf = torch.broadcast_tensors(g, leaf)
        (result,) = torch.autograd.grad(function(leaf, **attributes), leaf, g.to(leaf.dtype))
        return result
    return slope


op("relu_grad")(first_derivative(F.relu))
op("leaky_relu_grad")(first_derivative(lambda x, negative_slope: F.leaky_relu(x, negative_slope)))
op("elu_grad")(first_derivative(lambda x, alpha: F.elu(x, alpha)))
op("softplus_grad")(first_derivative(lambda x, beta, threshold: F.softplus(x, beta, threshold)))
op("hardtanh_grad")(first_derivative(lambda x, min, max: F.hardtanh(x, min, max)))
op("clamp_grad")(first_derivative(lambda x, min, max: torch.clamp(x, min, max)))
op("shrink_grad")(first_derivative(lambda x, **a: F.hardshrink(x, a["lambda"])))
op("threshold_grad")(first_derivative(lambda x, threshold: F.threshold(x, threshold, 0.0)))
op("silu_slope")(lambda x, **_: first_derivative(F.silu)(torch.ones_like(x), x))
op("gelu_slope")(lambda x, **_: first_derivative(F.gelu)(torch.ones_like(x), x))
op("gelu_tanh_slope")(lambda x, **_: first_derivative(lambda y: F.gelu(y, approximate="tanh"))(torch.ones_like(x), x))
op("hardswish_slope")(lambda x, **_: first_derivative(F.hardswish)(torch.ones_like(x), x))
op("sigmoid_grad")(lambda g, y, **_: torch.ops.aten.sigmoid_backward(*torch.broadcast_tensors(g, y)))
op("tanh_grad")(lambda g, y, **_: torch.ops.aten.tanh_backward(*torch.broadcast_tensors(g, y)))
op("gaussian")(lambda x, **_: first_derivative(lambda y: 0.5 * torch.erf(y * 0.5 ** 0.5))(torch.ones_like(x), x))
op("one_minus_square")(lambda x, **_: 1 - x * x)
op("select_negative")(lambda x, alpha: torch.where(x > 0, x, x / alpha))
op("pow_grad_base")(lambda a, b, **_: torch.where(b == 0, torch.zeros_like(a), b * torch.pow(a, b - 1)))
op("pow_grad_exponent")(lambda a, b, **_: torch.where((a == 0) & ~b.isinf(), torch.zeros_like(a), b * torch.log(a)))
op("prefer")(lambda a, b, **_: torch.where(a > b, 1.0, torch.where(a == b, 0.5, 0.0)).to(a.dtype))
