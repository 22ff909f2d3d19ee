"""The decoder of benchmarks/worker/decoder.c in PyTorch, with the weights that our side has written."""
import os

from common import arrays_of

HEADS, LAYERS, PROMPT, CAPACITY, WORDS = 12, 12, 128, 256, 8


class Decoder:
    def __init__(self, torch, weights):
        self.functional, self.weights = torch.nn.functional, weights
        width = weights["0.norm1.weight"].numel()
        self.width, self.past = width, 0
        self.keys, self.values = (torch.zeros(LAYERS, 1, HEADS, CAPACITY, width // HEADS) for _ in range(2))

    def linear(self, x, name):
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


def decoder_step(torch, folder, numbers):
    """How many words a step runs behind the prompt, and the step."""
    weights = arrays_of(os.path.join(folder, "decoder.safetensors"))
    net = Decoder(torch, {name: torch.from_numpy(array) for name, array in weights.items()})
    prompt, word = (torch.from_numpy(numbers((1, length, net.width), seed)) for length, seed in ((PROMPT, 1), (1, 2)))

    def run():
        net.past = PROMPT
        for _ in range(WORDS):
            result = net(word)
        return result

    with torch.inference_mode():
        net(prompt)
    return WORDS, run
