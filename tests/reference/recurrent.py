"""PyTorch's LSTM, one layer and direction."""
import torch

from registry import op


@op("lstm_layer")
def _(x, h, c, w, u, b, d, reverse=False):
    biases = [torch.zeros_like(w[:, 0]) if t is None else t for t in (b, d)]
    weights = [w, u] + (biases if b is not None or d is not None else [])
    y, h_n, c_n = torch.lstm(x.flip(0) if reverse else x, (h[None], c[None]), weights, len(weights) > 2, 1, 0.0, True, False, False)
    return y.flip(0) if reverse else y, h_n[0], c_n[0]
