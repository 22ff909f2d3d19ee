"""Which PyTorch function an op of ours is: @op("sum") registers a mapping."""
OPS = {}


def op(*names):
    def register(function):
        for name in names:
            OPS[name] = function
        return function

    return register
