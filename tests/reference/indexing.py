"""PyTorch's counterparts of the indexing ops."""
import torch
import torch.nn.functional as F

from registry import op

op("gather")(lambda x, index, dim=0: torch.gather(x, dim, index.long()))
op("scatter")(lambda x, index, source, dim=0: torch.scatter(x, dim, index.long(), source))
op("scatter_add")(lambda x, index, source, dim=0: torch.scatter_add(x, dim, index.long(), source))
op("index_select")(lambda x, index, dim=0: torch.index_select(x, dim, index))
op("index_add")(lambda x, index, source, dim=0: torch.index_add(x, dim, index, source))
op("embedding")(lambda weight, index, padding_idx=-1: F.embedding(index, weight, padding_idx if padding_idx >= 0 else None))
op("nonzero")(lambda x: torch.nonzero(x))
op("argsort")(lambda x, dim=-1, descending=False: torch.sort(x, dim=dim, descending=descending, stable=True)[1])
op("sort")(lambda x, dim=-1, descending=False: tuple(torch.sort(x, dim=dim, descending=descending, stable=True)))
op("topk")(lambda x, k, dim=-1, largest=True: tuple(torch.topk(x, k, dim=dim, largest=largest)))


@op("embedding_grad")
def _(gradient, index, count, padding_idx=-1):
    table = torch.zeros(count, gradient.shape[-1], dtype=gradient.dtype, requires_grad=True)
    rows = F.embedding(index, table, padding_idx if padding_idx >= 0 else None)
    return torch.autograd.grad(rows, table, gradient, create_graph=True)[0]


op("one_hot")(lambda index, classes: F.one_hot(index.long(), classes))
