"""A step of GraphSAGE in PyTorch Geometric, whenever a line says so (``benchmarks.graph``)."""

import sys

import numpy as np
import torch
from torch_geometric.nn import SAGEConv


class Net(torch.nn.Module):
    """As ``ist_jax.models.gcn`` of kind ``sage``: the means of neighbours, and the nodes."""

    def __init__(self, features: int, widths: list[int]):
        super().__init__()
        sizes = [features, *widths]
        self.layers = torch.nn.ModuleList(
            SAGEConv(a, b, bias=b == widths[-1]) for a, b in zip(sizes, widths, strict=False)
        )

    def forward(self, x, edges):
        for layer in self.layers[:-1]:
            x = layer(x, edges)
            x = torch.relu(torch.nn.functional.layer_norm(x, x.shape[1:]))
        return self.layers[-1](x, edges)


def main() -> None:
    with np.load(sys.argv[1]) as found:
        x = torch.from_numpy(found["features"])
        edges = torch.from_numpy(found["edges"]).long()
        labels, train = (torch.from_numpy(found[key]).long() for key in ("labels", "train"))
        net = Net(x.shape[1], found["widths"].tolist())
        optimizer = torch.optim.Adam(net.parameters(), float(found["rate"]))
    if "--sparse" in sys.argv:
        from torch_geometric.utils import to_torch_csr_tensor

        edges = to_torch_csr_tensor(edges, size=(len(x), len(x)))
    for _ in sys.stdin:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x, edges)[train], labels[train])
        loss.backward()
        optimizer.step()
        print(loss.item(), flush=True)


if __name__ == "__main__":
    main()
