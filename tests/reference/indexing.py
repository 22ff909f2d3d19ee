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
