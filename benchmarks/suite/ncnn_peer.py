"""ncnn: whole nets of one picture, from the ONNX files that our side has written, by way of pnnx. f32 all through: the options that
store or compute in 16 bits are off."""
import os
import subprocess
import sys

import ncnn
import numpy

from common import NotOffered, is_training, model_file, model_of, numbers

PICTURES = ("ResNet-50", "ResNet-18", "VGG-16", "MobileNetV2")


class Ncnn:
    def __init__(self, threads, folder):
        self.threads, self.folder, self.version, self.calls, self.result = threads, folder, ncnn.__version__, 1, None

    def load(self, path):
        """The ONNX file's net; pnnx writes NAME-1.onnx as NAME_1.ncnn.param and .bin beside it, once."""
        stem = os.path.join(os.path.dirname(path), os.path.basename(path)[:-len(".onnx")].replace("-", "_"))
        if not os.path.exists(stem + ".ncnn.bin"):
            converter = os.path.join(os.path.dirname(sys.executable), "pnnx")
            subprocess.run([converter, path, "fp16=0"], cwd=self.folder, capture_output=True, check=True)
        net = ncnn.Net()
        net.opt.num_threads = self.threads
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage"):
            if hasattr(net.opt, option):
                setattr(net.opt, option, False)
        if net.load_param(stem + ".ncnn.param") or net.load_model(stem + ".ncnn.bin"):
            raise ValueError(f"ncnn cannot load {stem}.ncnn.param")
        return net

    def prepare(self, row):
        model, batch = model_of(row)
        if model not in PICTURES or is_training(row) or "ONNX" in row:
            raise NotOffered("nets of pictures only")
        if batch != 1:
            raise NotOffered("it runs one picture at a time")
        net, x = self.load(model_file(self.folder, row, "onnx")), ncnn.Mat(numbers((3, 224, 224), 1))

        def step():
            with net.create_extractor() as extractor:
                extractor.input("in0", x)
                self.result = extractor.extract("out0")[1]
        self.net, self.step = net, step
        step()

    def output(self):
        return numpy.array(self.result)
