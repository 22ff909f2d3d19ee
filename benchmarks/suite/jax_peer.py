"""JAX: functions of arrays, compiled by XLA."""
import jax
import jax.numpy as jnp
import numpy

from common import NotOffered, dtype_of, operands


def layer_norm(x):
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)


FUNCTIONS = {"chain": lambda a, b, c, d: jnp.tanh(a * b + c) * jax.nn.sigmoid(d), "sum": jnp.sum,
             "softmax": lambda x: jax.nn.softmax(x, -1), "layer norm": layer_norm, "matmul": jnp.matmul,
             "attention": lambda q, k, v: jax.nn.softmax(q @ k.swapaxes(-1, -2) * 0.125, -1) @ v}


class Jax:
    def __init__(self, threads, folder):
        self.version, self.calls, self.result = jax.__version__, 1, None

    def prepare(self, row):
        kind = row.split(",")[0]
        if kind not in FUNCTIONS:
            raise NotOffered("not written for JAX")
        jax.config.update("jax_enable_x64", dtype_of(row) == "float64")
        inputs, function = [jnp.asarray(array, dtype_of(row)) for array in operands(row)], jax.jit(FUNCTIONS[kind])

        def step():
            self.result = function(*inputs).block_until_ready()
        self.step = step
        step()

    def output(self):
        return numpy.asarray(self.result, "f4")
