"""llama.cpp (ggml): the decoders, from a gguf file with the weights that our side has written, matrices in f32, BF16 or Q8_0. Its cache
is f32; words are vectors, so the table of positions is zeros, and the table of words is the last product's weight, as in GPT-2."""
import ctypes
import os

import gguf
import llama_cpp
import numpy

from common import NotOffered, arrays_of, model_file, numbers
from decoder import CAPACITY, HEADS, LAYERS, PROMPT, WORDS

NAMES = {"norm1.": "attn_norm.", "self_attn.in_proj_": "attn_qkv.", "self_attn.out_proj.": "attn_output.", "norm2.": "ffn_norm.",
         "linear1.": "ffn_up.", "linear2.": "ffn_down."}


def type_of(row):
    types = gguf.GGMLQuantizationType
    return types.BF16 if "bf16" in row else types.Q8_0 if "int8" in row else types.F32


def write_gguf(arrays, path, kind):
    def add(name, array):
        if array.ndim == 2 and name != "position_embd.weight":
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)

    vocabulary, width = arrays[f"{LAYERS + 1}.weight"].shape
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(vocabulary)
    writer.add_context_length(CAPACITY)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(4 * width)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-5)
    add("token_embd.weight", arrays[f"{LAYERS + 1}.weight"])
    add("position_embd.weight", numpy.zeros((CAPACITY, width), "f4"))
    for end in ("weight", "bias"):
        add(f"output_norm.{end}", arrays[f"{LAYERS}.{end}"])
        for layer in range(LAYERS):
            for ours, theirs in NAMES.items():
                add(f"blk.{layer}.{theirs}{end}", arrays[f"{layer}.{ours}{end}"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Ggml:
    def __init__(self, threads, folder):
        self.threads, self.folder, self.version, self.calls, self.result = threads, folder, llama_cpp.__version__, 1, None

    def load(self, arrays, kind):
        path = os.path.join(self.folder, "decoder.gguf")
        write_gguf(arrays, path, kind)
        self.width, self.vocabulary = arrays["0.norm1.weight"].size, arrays[f"{LAYERS + 1}.weight"].shape[0]
        self.silent = llama_cpp.llama_log_callback(lambda level, text, context: None)
        llama_cpp.llama_log_set(self.silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = options.n_ubatch = CAPACITY
        options.n_threads = options.n_threads_batch = self.threads
        options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
        self.context = llama_cpp.llama_init_from_model(self.model, options) if self.model else None
        if not self.context:
            raise ValueError("llama.cpp cannot load the gguf file")

    def batch_of(self, vectors):
        """To compute, with the logits of each."""
        batch = llama_cpp.llama_batch_init(len(vectors), self.width, 1)
        batch.n_tokens = len(vectors)
        ctypes.memmove(batch.embd, vectors.ctypes.data, vectors.nbytes)
        for i in range(len(vectors)):
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, 1
        return batch

    def decode(self, batch, position):
        for i in range(batch.n_tokens):
            batch.pos[i] = position + i
        if llama_cpp.llama_decode(self.context, batch):
            raise ValueError("llama_decode failed")

    def keep(self, words):
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self.context), 0, words, -1)

    def prepare(self, row):
        if row.endswith("word for word"):
            self.load(arrays_of(os.path.join(self.folder, "decoder.safetensors")), type_of(row))
        elif row == "decoder prompt, batch 1":
            self.load(arrays_of(model_file(self.folder, row, "weights.safetensors")), type_of(row))
        else:
            raise NotOffered("decoders only")
        prompt = self.batch_of(numbers((PROMPT, self.width), 1))
        if row.startswith("decoder prompt"):
            def step():
                self.keep(0)
                self.decode(prompt, 0)
        else:
            word, self.calls = self.batch_of(numbers((1, self.width), 2)), WORDS
            self.decode(prompt, 0)

            def step():
                self.keep(PROMPT)
                for i in range(WORDS):
                    self.decode(word, PROMPT + i)
        self.rows, self.step = 1 if self.calls > 1 else PROMPT, step
        step()

    def output(self):
        logits = llama_cpp.llama_get_logits(self.context)
        return numpy.ctypeslib.as_array(logits, (self.rows, self.vocabulary))
