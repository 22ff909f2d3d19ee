"""ONNX Runtime and OpenVINO: whole models, from the ONNX files that our side has written."""
import os

import numpy

from common import NotOffered, is_training, model_file, numbers


class OnnxRuntime:
    def __init__(self, threads, folder):
        import onnxruntime
        self.runtime, self.version = onnxruntime, onnxruntime.__version__
        self.threads, self.folder, self.calls, self.result = threads, folder, 1, None

    def options(self):
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        return options

    def load(self, path, options=None):
        session = self.runtime.InferenceSession(path, options or self.options(), providers=["CPUExecutionProvider"])
        put = session.get_inputs()[0]
        return lambda x: session.run(None, {put.name: x}), put.shape

    def prepare(self, row):
        if row.endswith("ONNX file to session"):
            path = os.path.join(self.folder, "ResNet-50-1.onnx")
            self.step = lambda: self.load(path)
            return
        if row.endswith("export"):
            raise NotOffered("it reads models, and writes none")
        path = model_file(self.folder, row, "onnx")
        if is_training(row) or not os.path.exists(path):
            raise NotOffered("not a model")
        run, shape = self.load(path)
        x = numbers(shape, 1)

        def step():
            self.result = run(x)[0]
        self.step = step
        step()

    def ready(self, path):
        """Keeps the optimised model, and its weights as its kernels read them: as in our prepared programs."""
        options = self.options()
        options.optimized_model_filepath = path + ".ready"
        for key, value in (("session.optimized_model_external_initializers_file_name", os.path.basename(path) + ".ready.data"),
                           ("session.optimized_model_external_initializers_min_size_in_bytes", "1024"),
                           ("session.save_external_prepacked_constant_initializers", "1")):
            options.add_session_config_entry(key, value)
        self.load(path, options)

    def load_ready(self, path):
        options = self.options()
        options.graph_optimization_level = self.runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return self.load(path, options)

    def first(self, path):
        run, shape = self.load_ready(path) if path.endswith(".ready") else self.load(path)
        return float(run(numpy.ones(shape, "f4"))[0].sum())

    def output(self):
        return None if self.result is None else numpy.asarray(self.result)


class OpenVino(OnnxRuntime):
    def __init__(self, threads, folder):
        import openvino
        self.openvino, self.version = openvino, openvino.__version__
        self.threads, self.folder, self.calls, self.result = threads, folder, 1, None

    def load(self, path, cache=None):
        core = self.openvino.Core()
        if cache:
            core.set_property({"CACHE_DIR": cache})
        compiled = core.compile_model(path, "CPU", {"INFERENCE_NUM_THREADS": self.threads, "PERFORMANCE_HINT": "LATENCY",
                                                    "INFERENCE_PRECISION_HINT": "f32"})
        request = compiled.create_infer_request()
        return lambda x: list(request.infer({0: x}, share_inputs=True).values()), [int(d) for d in compiled.inputs[0].shape]

    def ready(self, path):
        self.load_ready(path + ".ready")

    def load_ready(self, path):
        return self.load(path.removesuffix(".ready"), path + ".cache")
