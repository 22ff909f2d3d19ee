"""The decoder of benchmarks/worker/decoder.c in PyTorch, with the weights that our side has written. In 8 bits its linear layers are
those of torch.ao's dynamic quantisation, which makes bytes of what they read as well; in bf16 all of it is."""
import os

from common import arrays_of

HEADS, LAYERS, PROMPT, CAPACITY, WORDS = 12, 12, 128, 256, 8


class Decoder:
    def __init__(self, torch, weights, dtype):
        self.functional, self.ops, self.weights, self.dynamic = torch.nn.functional, torch.ops.quantized, weights, {}
        width = weights["0.norm1.weight"].numel()
        self.width, self.past = width, 0
        self.keys, self.values = (torch.zeros(LAYERS, 1, HEADS, CAPACITY, width // HEADS, dtype=dtype) for _ in range(2))

    def quantize(self, torch):
        """All matrices, each output with its scale."""
        for name, weight in self.weights.items():
            if weight.ndim == 2:
                stem = name.removesuffix("weight")
                scale = weight.abs().amax(1).clamp_min(1e-12).double() / 127
                q = torch.quantize_per_channel(weight, scale, torch.zeros_like(scale, dtype=torch.long), 0, torch.qint8)
                self.dynamic[stem] = torch.ops.quantized.linear_prepack(q, self.weights.get(stem + "bias"))

    def linear(self, x, name):
        if name in self.dynamic:
            return self.ops.linear_dynamic(x, self.dynamic[name])
        return self.functional.linear(x, self.weights[name + "weight"], self.weights.get(name + "bias"))

    def norm(self, x, name):
        return self.functional.layer_norm(x, (self.width,), self.weights[name + ".weight"], self.weights[name + ".bias"])

    def attention(self, x, layer):
        length, name = x.shape[1], f"{layer}.self_attn."
        q, k, v = self.linear(x, name + "in_proj_").reshape(1, length, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        end = self.past + length
        self.keys[layer, :, :, self.past:end], self.values[layer, :, :, self.past:end] = k, v
        mixed = self.functional.scaled_dot_product_attention(q, self.keys[layer, :, :, :end], self.values[layer, :, :, :end],
                                                             is_causal=length > 1)
        return self.linear(mixed.transpose(1, 2).reshape(1, length, self.width), name + "out_proj.")

    def __call__(self, x):
        for layer in range(LAYERS):
            x = x + self.attention(self.norm(x, f"{layer}.norm1"), layer)
            up = self.functional.gelu(self.linear(self.norm(x, f"{layer}.norm2"), f"{layer}.linear1."))
            x = x + self.linear(up, f"{layer}.linear2.")
        self.past += x.shape[1]
        return self.linear(self.norm(x, str(LAYERS)), f"{LAYERS + 1}.")


def decoder_step(torch, row, folder, numbers):
    """How many words a step runs behind the prompt, and the step."""
    weights = arrays_of(os.path.join(folder, "decoder.safetensors"))
    dtype = torch.bfloat16 if "bf16" in row else torch.float32
    net = Decoder(torch, {name: torch.from_numpy(array).to(dtype) for name, array in weights.items()}, dtype)
    if "int8" in row:
        net.quantize(torch)
    prompt, word = (torch.from_numpy(numbers((1, length, net.width), seed)).to(dtype) for length, seed in ((PROMPT, 1), (1, 2)))

    def run():
        net.past = PROMPT
        for _ in range(WORDS):
            result = net(word)
        return result

    with torch.inference_mode():
        net(prompt)
    return WORDS, run
