"""The training steps of benchmarks/worker/training.c in PyTorch, from the weights and the data that our side has written."""
import torch
from torch import nn
from torch.nn import functional

import torch_models
from common import arrays_of

LOSSES = 5  # of the first steps, compared with ours


def classifier_step(net, data, faster):
    x, y = data["x"], data["y"].long()
    optim = torch.optim.SGD(net.parameters(), 1e-2)
    if x.ndim == 4:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    loss_of, update = faster(lambda: functional.cross_entropy(net(x), y)), faster(optim.step)

    def step():
        loss = loss_of()
        net.zero_grad(set_to_none=True)
        loss.backward()
        update()
        return loss.detach()
    return step


def dcgan():
    def up(i, o, stride=2, padding=1):
        return nn.ConvTranspose2d(i, o, 4, stride, padding, bias=False)

    def down(i, o, stride=2, padding=1):
        return nn.Conv2d(i, o, 4, stride, padding, bias=False)

    generator = nn.Sequential(up(100, 512, 1, 0), nn.BatchNorm2d(512), nn.ReLU(True), up(512, 256), nn.BatchNorm2d(256), nn.ReLU(True),
                              up(256, 128), nn.BatchNorm2d(128), nn.ReLU(True), up(128, 64), nn.BatchNorm2d(64), nn.ReLU(True),
                              up(64, 3), nn.Tanh())
    discriminator = nn.Sequential(down(3, 64), nn.LeakyReLU(0.2, True), down(64, 128), nn.BatchNorm2d(128), nn.LeakyReLU(0.2, True),
                                  down(128, 256), nn.BatchNorm2d(256), nn.LeakyReLU(0.2, True), down(256, 512), nn.BatchNorm2d(512),
                                  nn.LeakyReLU(0.2, True), down(512, 1, 1, 0))
    return generator, discriminator


def dcgan_step(generator, discriminator, data, faster):
    optim_g = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    optim_d = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))
    noise, real, ones, zeros = data["noise"], data["real"], torch.ones(64), torch.zeros(64)
    make, judge = faster(generator), faster(discriminator)
    update_g, update_d = faster(optim_g.step), faster(optim_d.step)

    def verdict(images, truth):
        return functional.binary_cross_entropy_with_logits(judge(images).reshape(64), truth)

    def step():
        fake = make(noise)
        discriminator.zero_grad(set_to_none=True)
        of_real = verdict(real, ones)
        of_real.backward()
        of_fake = verdict(fake.detach(), zeros)
        of_fake.backward()
        update_d()
        generator.zero_grad(set_to_none=True)
        fooled = verdict(fake, ones)
        fooled.backward()
        update_g()
        return (of_real + of_fake + fooled).detach()
    return step


def mlp():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


NETS = {"MLP": mlp, "LeNet": torch_models.LeNet, "ResNet-18": torch_models.MODELS["ResNet-18"][0], "LSTM": torch_models.LanguageModel,
        "GPT": torch_models.gpt}


def training_step(row, stem, faster):
    """A step that gives its loss; `stem`: where our side's files begin; `faster` makes a function of a function."""
    kind = row.split(" step")[0]
    data = {name: torch.from_numpy(array) for name, array in arrays_of(f"{stem}.data.safetensors").items()}
    nets = dcgan() if kind == "DCGAN" else (NETS[kind](),)
    for at, net in enumerate(nets):
        torch_models.load(net, arrays_of(f"{stem}.net{at}.safetensors"))
    return dcgan_step(*nets, data, faster) if kind == "DCGAN" else classifier_step(*nets, data, faster)
