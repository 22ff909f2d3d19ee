"""The loader of benchmarks/worker/loader.c as PyTorch's users write it: Pillow, NumPy, torch.utils.data. Each worker is a process; with
one processor the program's own loads faster than a single worker beside it."""
import glob
import os
import random

import numpy
import torch
from PIL import Image

PICTURES, BATCH, SHORT_SIDE, SIDE, COMPARED = 64, 32, 256, 224, 4
MEAN, DEVIATION = (numpy.array(values, "f4") for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def resized(path):
    image = Image.open(path).convert("RGB")
    factor = SHORT_SIDE / min(image.size)
    return image.resize(tuple(int(side * factor) for side in image.size), Image.BILINEAR)


def tensor_of(image):
    array = (numpy.asarray(image, "f4") / 255 - MEAN) / DEVIATION
    return torch.from_numpy(numpy.ascontiguousarray(array.transpose(2, 0, 1)))


class Pictures(torch.utils.data.Dataset):
    def __init__(self, folder):
        self.paths = sorted(glob.glob(os.path.join(folder, "pictures", "*.jpg")))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        image = resized(self.paths[index])
        left, top = random.randint(0, image.width - SIDE), random.randint(0, image.height - SIDE)
        image = image.crop((left, top, left + SIDE, top + SIDE))
        if random.random() < 0.5:
            image = image.transpose(Image.FLIP_LEFT_RIGHT)
        return tensor_of(image)


def middle(path):
    image = resized(path)
    left, top = (round((side - SIDE) / 2) for side in image.size)
    return tensor_of(image.crop((left, top, left + SIDE, top + SIDE)))


def loader_step(folder, threads):
    """An epoch, and what is compared: the first pictures, not at random."""
    pictures, workers = Pictures(folder), threads if threads > 1 else 0
    loader = torch.utils.data.DataLoader(pictures, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)

    def step():
        assert sum(len(batch) for batch in loader) == PICTURES
    return step, torch.stack([middle(path) for path in pictures.paths[:COMPARED]])
