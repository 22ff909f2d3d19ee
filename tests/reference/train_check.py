#!/usr/bin/python3
"""Repeats in PyTorch the 20 steps that train_dump ran, from the same weights and inputs, and compares the losses.

usage: train_check.py DUMP.safetensors"""
import json
import pathlib
import struct
import sys

try:
    import torch
    from torch import nn
except ImportError:
    print("PyTorch is not installed: nothing was compared")
    sys.exit(77)

DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64}
STEPS, LATENT, FEATURES, IMAGE, TOLERANCE = 20, 16, 8, 32, 1e-4


def load(path):
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, row in json.loads(data[8:8 + length]).items():
        if name != "__metadata__":
            begin, end = (8 + length + at for at in row["data_offsets"])
            tensors[name] = torch.frombuffer(bytearray(data[begin:end]), dtype=DTYPES[row["dtype"]]).reshape(row["shape"])
    return tensors


def state(tensors, prefix):
    return {name[len(prefix):]: t for name, t in tensors.items() if name.startswith(prefix)}


def generator():
    width = FEATURES * IMAGE // 8
    layers = [nn.ConvTranspose2d(LATENT, width, 4, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    while width > FEATURES:
        layers += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()]
        width //= 2
    return nn.Sequential(*layers, nn.ConvTranspose2d(FEATURES, 3, 4, 2, 1, bias=False), nn.Tanh())


def discriminator():
    width = FEATURES
    layers = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
    while width < FEATURES * IMAGE // 8:
        layers += [nn.Conv2d(width, width * 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width * 2), nn.LeakyReLU(0.2)]
        width *= 2
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, bias=False))


def dcgan(tensors):
    g, d = generator(), discriminator()
    g.load_state_dict(state(tensors, "dcgan.g."))
    d.load_state_dict(state(tensors, "dcgan.d."))
    g_optim = torch.optim.Adam(g.parameters(), 2e-4, (0.5, 0.999))
    d_optim = torch.optim.Adam(d.parameters(), 2e-4, (0.5, 0.999))
    loss = nn.BCEWithLogitsLoss()
    for step in range(STEPS):
        real, noise = tensors[f"dcgan.real.{step}"], tensors[f"dcgan.noise.{step}"]
        yes = torch.ones(len(real), 1, 1, 1)
        fake = g(noise)
        d_optim.zero_grad()
        loss_d = loss(d(real), yes) + loss(d(fake.detach()), torch.zeros_like(yes))
        loss_d.backward()
        d_optim.step()
        g_optim.zero_grad()
        loss_g = loss(d(fake), yes)
        loss_g.backward()
        g_optim.step()
        yield loss_d.item()
        yield loss_g.item()


def digits(tensors):
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
                        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10))
    net.load_state_dict(state(tensors, "digits.net."))
    optim = torch.optim.Adam(net.parameters(), 1e-3)
    for step in range(STEPS):
        loss = nn.functional.cross_entropy(net(tensors[f"digits.x.{step}"]), tensors[f"digits.y.{step}"])
        optim.zero_grad()
        loss.backward()
        optim.step()
        yield loss.item()


tensors = load(sys.argv[1])
passed = failed = 0
for name, model in ("dcgan", dcgan), ("digits", digits):
    worst = 0.0
    for i, (ours, theirs) in enumerate(zip(tensors[f"{name}.losses"].flatten().tolist(), model(tensors))):
        difference = abs(ours - theirs) / abs(theirs)
        worst = max(worst, difference)
        if difference <= TOLERANCE:
            passed += 1
        else:
            failed += 1
            print(f"FAILED {name} loss {i}: {ours:.9g}, PyTorch {theirs:.9g}")
    print(f"{name}: largest relative difference of a loss over {STEPS} steps {worst:.2g}")
if passed + failed != 3 * STEPS:
    failed += 1
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
