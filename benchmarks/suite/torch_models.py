"""The models of benchmarks/worker in PyTorch, under the names that our weights have (torchvision's, where it has the model)."""
import torch
from torch import nn
from torch.nn import functional


# ---------------------------------------------------------------- convolutional nets
class Block(nn.Module):
    """ResNet's: two convolutions of 3x3, or (bottleneck) 1x1, 3x3 with the stride, 1x1."""

    def __init__(self, i, middle, stride, bottleneck):
        super().__init__()
        o = 4 * middle if bottleneck else middle
        sides = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        widths = [i, middle, middle, o] if bottleneck else [i, middle, o]
        self.depth = len(sides)
        for at, (side, step) in enumerate(sides):
            setattr(self, f"conv{at + 1}", nn.Conv2d(widths[at], widths[at + 1], side, step, side // 2, bias=False))
            setattr(self, f"bn{at + 1}", nn.BatchNorm2d(widths[at + 1]))
        plain = stride == 1 and i == o
        self.downsample = None if plain else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = x
        for at in range(1, self.depth + 1):
            y = getattr(self, f"bn{at}")(getattr(self, f"conv{at}")(y))
            y = functional.relu(y, True) if at < self.depth else y
        y += self.downsample(x) if self.downsample else x
        return functional.relu(y, True)


class ResNet(nn.Module):
    def __init__(self, depths, bottleneck):
        super().__init__()
        self.conv1, self.bn1, width = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), 64
        for at, depth in enumerate(depths):
            blocks = []
            for block in range(depth):
                blocks.append(Block(width, 64 << at, 2 if at and not block else 1, bottleneck))
                width = (64 << at) * (4 if bottleneck else 1)
            setattr(self, f"layer{at + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(width, 1000)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x)), True), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


class Vgg16(nn.Module):
    def __init__(self):
        super().__init__()
        layers, width = [], 3
        for o in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
            layers += [nn.Conv2d(width, o, 3, 1, 1), nn.ReLU(True)] if o else [nn.MaxPool2d(2)]
            width = o or width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(512 * 49, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(True),
                                        nn.Dropout(), nn.Linear(4096, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def normalised(i, o, side=3, stride=1, groups=1):
    return nn.Sequential(nn.Conv2d(i, o, side, stride, side // 2, groups=groups, bias=False), nn.BatchNorm2d(o), nn.ReLU6(True))


class Inverted(nn.Module):
    def __init__(self, i, o, stride, factor):
        super().__init__()
        wide, self.plain = i * factor, stride == 1 and i == o
        self.conv = nn.Sequential(*([normalised(i, wide, 1)] if factor > 1 else []), normalised(wide, wide, 3, stride, wide),
                                  nn.Conv2d(wide, o, 1, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        return x + self.conv(x) if self.plain else self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        layers, width = [normalised(3, 32, 3, 2)], 32
        for factor, o, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
                                         (6, 320, 1, 1)):
            for at in range(count):
                layers.append(Inverted(width, o, 1 if at else stride, factor))
                width = o
        self.features = nn.Sequential(*layers, normalised(320, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x)))))


# ---------------------------------------------------------------- transformers
def attention(x, qkv, heads, causal):
    """Of [batch, length, width] and all three projections' product, [batch, length, 3 width]."""
    batch, length, width = x.shape
    q, k, v = qkv.reshape(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    return mixed.transpose(1, 2).reshape(batch, length, width)


class Layer(nn.Module):
    """BERT's (norms behind the sums) or GPT's (norms before the products)."""

    def __init__(self, width, heads, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        if self.causal:
            y = self.norm1(x)
            x = x + self.out(attention(y, self.qkv(y), self.heads, True))
            return x + self.down(functional.gelu(self.up(self.norm2(x))))
        x = self.norm1(x + self.out(attention(x, self.qkv(x), self.heads, False)))
        return self.norm2(x + self.down(functional.gelu(self.up(x))))


class Attention(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.in_proj_weight, self.in_proj_bias = nn.Parameter(torch.empty(3 * width, width)), nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x):
        return self.out_proj(attention(x, functional.linear(x, self.in_proj_weight, self.in_proj_bias), 12, True))


class DecoderLayer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.self_attn, self.linear1, self.linear2 = Attention(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x):
        x = x + self.self_attn(self.norm1(x))
        return x + self.linear2(functional.gelu(self.linear1(self.norm2(x))))


def decoder():
    return nn.Sequential(*(DecoderLayer(768) for _ in range(12)), nn.LayerNorm(768), nn.Linear(768, 50257, bias=False))


def gpt():
    return nn.Sequential(nn.Embedding(512, 256), *(Layer(256, 8, True) for _ in range(4)), nn.LayerNorm(256), nn.Linear(256, 512),
                         nn.Flatten(0, 1))


# ---------------------------------------------------------------- recurrent
class Lstm(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.head = nn.Embedding(512, 512), nn.LSTM(512, 512), nn.Linear(512, 512)

    def forward(self, x):
        return self.head(self.lstm(self.embedding(x))[0]).flatten(0, 1)


MODELS = {"ResNet-50": (lambda: ResNet([3, 4, 6, 3], True), (3, 224, 224)), "ResNet-18": (lambda: ResNet([2, 2, 2, 2], False), (3, 224, 224)),
          "VGG-16": (Vgg16, (3, 224, 224)), "MobileNetV2": (MobileNetV2, (3, 224, 224)),
          "encoder": (lambda: nn.Sequential(*(Layer(768, 12, False) for _ in range(12))), (128, 768)),
          "decoder prompt": (decoder, (128, 768)), "LSTM": (lambda: Lstm(512, 512), (1, 512))}


def load(net, arrays):
    """Our weights; fused projections of a Layer lie as ours do."""
    net.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return net
