"""The training steps of benchmarks/worker/training.c in PyTorch."""


def classifier_step(torch, net, x, y, optim):
    def step():
        loss = torch.nn.functional.cross_entropy(net(x), y)
        net.zero_grad(set_to_none=True)
        loss.backward()
        optim.step()
    return step


def dcgan_step(torch):
    nn, functional = torch.nn, torch.nn.functional

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
    optim_g = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    optim_d = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))
    real, ones, zeros = torch.randn(64, 3, 64, 64), torch.ones(64), torch.zeros(64)

    def verdict(images, truth):
        return functional.binary_cross_entropy_with_logits(discriminator(images).reshape(64), truth)

    def step():
        fake = generator(torch.randn(64, 100, 1, 1))
        discriminator.zero_grad(set_to_none=True)
        verdict(real, ones).backward()
        verdict(fake.detach(), zeros).backward()
        optim_d.step()
        generator.zero_grad(set_to_none=True)
        verdict(fake, ones).backward()
        optim_g.step()
    return step


def resnet18(torch):
    nn, functional = torch.nn, torch.nn.functional

    class Block(nn.Module):
        def __init__(self, i, o, stride):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
            self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
            plain = stride == 1 and i == o
            self.downsample = None if plain else nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

        def forward(self, x):
            y = functional.relu_(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            y += self.downsample(x) if self.downsample else x
            return functional.relu_(y)

    return nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True), nn.MaxPool2d(3, 2, 1),
                         Block(64, 64, 1), Block(64, 64, 1), Block(64, 128, 2), Block(128, 128, 1), Block(128, 256, 2),
                         Block(256, 256, 1), Block(256, 512, 2), Block(512, 512, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(512, 1000))


def gpt(torch):
    nn, functional = torch.nn, torch.nn.functional

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.qkv, self.out = nn.LayerNorm(256), nn.Linear(256, 768), nn.Linear(256, 256)
            self.norm2, self.up, self.down = nn.LayerNorm(256), nn.Linear(256, 1024), nn.Linear(1024, 256)
            self.register_buffer("hidden", torch.full((128, 128), float("-inf")).triu(1))

        def forward(self, x):
            q, k, v = self.qkv(self.norm1(x)).reshape(8, 128, 3, 8, 32).permute(2, 0, 3, 1, 4)
            if hasattr(functional, "scaled_dot_product_attention"):
                mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            else:
                mixed = torch.softmax(q @ k.transpose(-1, -2) * 32 ** -0.5 + self.hidden, -1) @ v
            x = x + self.out(mixed.transpose(1, 2).reshape(8, 128, 256))
            return x + self.down(functional.gelu(self.up(self.norm2(x))))

    return nn.Sequential(nn.Embedding(512, 256), *(Layer() for _ in range(4)), nn.LayerNorm(256), nn.Linear(256, 512), nn.Flatten(0, 1))


def language_model(torch):
    nn = torch.nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.lstm, self.head = nn.Embedding(512, 512), nn.LSTM(512, 512), nn.Linear(512, 512)

        def forward(self, x):
            return self.head(self.lstm(self.embedding(x))[0]).flatten(0, 1)

    return Model()


def training_step(torch, row):
    nn, kind = torch.nn, row.split(" step")[0]
    if kind == "DCGAN":
        return dcgan_step(torch)
    if kind == "MLP":
        net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        x, y = torch.randn(32, 64), torch.randint(10, (32,))
    elif kind == "LeNet":
        net = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
                            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
        x, y = torch.randn(64, 1, 28, 28), torch.randint(10, (64,))
    elif kind == "ResNet-18":
        net, x, y = resnet18(torch), torch.randn(16, 3, 224, 224), torch.randint(1000, (16,))
    elif kind == "LSTM":
        net, x, y = language_model(torch), torch.randint(512, (32, 32)), torch.randint(512, (1024,))
    else:
        net, x, y = gpt(torch), torch.randint(512, (8, 128)), torch.randint(512, (1024,))
    return classifier_step(torch, net, x, y, torch.optim.SGD(net.parameters(), 1e-3))
