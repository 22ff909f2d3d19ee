"""Which PyTorch function an op of ours is: @op("sum") registers a mapping.

detached: operands whose gradient PyTorch does not offer; ours is held against differences by op_samples alone."""
OPS = {}
DETACHED = {}


def op(*names, detached=()):
    def register(function):
        for name in names:
            OPS[name] = function
            DETACHED[name] = set(detached)
        return function

    return register
