"""PyTorch's optimizers as the counterparts of the update ops: one step from a given state. Results are the operands that
our ops write, in their order."""
import torch

from registry import op


def one_step(kind, parameter, gradient, state, **settings):
    """Takes the step; returns the parameter and the state as it then is."""
    parameter = torch.nn.Parameter(parameter.detach().clone())
    parameter.grad = gradient.detach().clone()
    optimizer = kind([parameter], foreach=False, **settings)
    optimizer.state[parameter] = {key: value.detach().clone() for key, value in state.items() if value is not None}
    optimizer.step()
    return parameter.detach(), optimizer.state[parameter]


@op("adam_update")
def _(p, g, average, square, maximum, step, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False,
      maximize=False):
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    state = {"step": step, "exp_avg": average, "exp_avg_sq": square, "max_exp_avg_sq": maximum}
    p, state = one_step(kind, p, g, state, lr=lr.item(), betas=(beta1, beta2), eps=eps, weight_decay=weight_decay,
                        amsgrad=maximum is not None, maximize=maximize)
    return [p] + [state[key] for key in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "step") if key in state]


@op("sgd_update")
def _(p, g, buffer, step, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False, maximize=False):
    state = {"momentum_buffer": buffer if step.item() > 0 else None}
    p, state = one_step(torch.optim.SGD, p, g, state, lr=lr.item(), momentum=momentum, dampening=dampening,
                        weight_decay=weight_decay, nesterov=nesterov, maximize=maximize)
    return [p] + ([state["momentum_buffer"]] if buffer is not None else []) + [step + 1]


@op("rmsprop_update")
def _(p, g, square, mean, buffer, step, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, maximize=False):
    state = {"step": 0, "square_avg": square, "grad_avg": mean, "momentum_buffer": buffer}
    state = {key: torch.as_tensor(value) for key, value in state.items() if value is not None}
    p, state = one_step(torch.optim.RMSprop, p, g, state, lr=lr.item(), alpha=alpha, eps=eps, weight_decay=weight_decay,
                        momentum=momentum if buffer is not None else 0.0, centered=mean is not None, maximize=maximize)
    return [p] + [state[key] for key in ("square_avg", "grad_avg", "momentum_buffer") if key in state] + [step + 1]
