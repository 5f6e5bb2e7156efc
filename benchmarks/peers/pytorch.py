"""PyTorch over gloo, one process a worker: DistributedDataParallel, local SGD, and IST with a
parameter server that scatters subnets and gathers them, as the method was first released."""

import itertools

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.peers import protocol


def mlp(widths):
    """Linear without bias, batch norm, ReLU; the logits are normalised too, without scale."""
    layers = []
    for inputs, outputs in itertools.pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU()]
    last = nn.Linear(widths[-2], widths[-1], bias=False)
    return nn.Sequential(*layers, last, nn.BatchNorm1d(widths[-1], affine=False))


def train(net, x, y):
    """J local steps of plain SGD."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for inputs, labels in zip(x, y, strict=True):
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(net(inputs), labels).backward()
        optimizer.step()


def main():
    task = protocol.task()
    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    host, port = task.address.split(":")
    meet = {"init_method": f"tcp://{host}:{port}", "world_size": task.workers, "rank": task.rank}
    dist.init_process_group("gloo", **meet)
    widths = protocol.NETS[task.net]
    x = torch.randn(task.local_steps, task.batch, widths[0])
    y = torch.randint(widths[-1], (task.local_steps, task.batch))

    def data_parallel():
        net = nn.parallel.DistributedDataParallel(mlp(widths))
        return lambda: train(net, x, y)

    def local_sgd():
        net = mlp(widths)

        def run():
            train(net, x, y)
            with torch.no_grad():
                flat = nn.utils.parameters_to_vector(net.parameters())
                dist.all_reduce(flat)
                nn.utils.vector_to_parameters(flat / task.workers, net.parameters())

        return run

    def ist():
        """Weights and norms of every layer, scattered from rank 0 and gathered again."""
        cut = [n // task.workers for n in widths[1:-1]]
        subnet = mlp([widths[0], *cut, widths[-1]])
        mine = list(subnet.parameters())
        server = list(mlp(widths).parameters()) if task.rank == 0 else None

        def run():
            who = [torch.randperm(n).reshape(task.workers, -1) for n in widths[1:-1]]
            with torch.no_grad():
                for number, parameter in enumerate(mine):
                    parts = None
                    if server is not None:
                        leaf = server[number]
                        held = held_by(leaf, number, who)
                        parts = [leaf[entries].contiguous() for entries in held]
                    dist.scatter(parameter, parts, src=0)
            train(subnet, x, y)
            with torch.no_grad():
                for number, parameter in enumerate(mine):
                    parts = None
                    if server is not None:
                        parts = [torch.empty_like(parameter) for _ in range(task.workers)]
                    dist.gather(parameter.detach(), parts, dst=0)
                    if server is not None and parts is not None:
                        leaf = server[number]
                        for entries, part in zip(held_by(leaf, number, who), parts, strict=True):
                            leaf[entries] = part

        return run

    def held_by(leaf, number, who):
        """For each worker, which entries of a parameter it holds; weights lie [outputs, inputs]."""
        layer = number // 3  # weight, scale, shift
        if leaf.ndim == 1:
            return who[layer]
        everything = [torch.arange(n)[None].expand(task.workers, n) for n in leaf.shape]
        rows = who[layer] if layer < len(who) else everything[0]
        columns = who[layer - 1] if layer else everything[1]
        return [(r[:, None], c[None, :]) for r, c in zip(rows, columns, strict=True)]

    protocol.serve(
        task,
        {"torch_ist_server": ist, "torch_local_sgd": local_sgd, "torch_ddp": data_parallel},
    )


if __name__ == "__main__":
    main()
