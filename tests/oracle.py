"""A whole round of Independent Subnet Training in NumPy, float64. It imports nothing of the
library.

Net: linear layers without bias; hidden pre-activations standardised over the batch, scaled and
shifted, ReLU; logits standardised; mean softmax cross entropy. Assignments are given.
"""

import numpy as np

EPSILON = 1e-5


def standardise(z):
    mean = z.mean(axis=0)
    factor = 1 / np.sqrt(((z - mean) ** 2).mean(axis=0) + EPSILON)
    return (z - mean) * factor, factor


def standardise_back(dy, y, factor):
    return factor * (dy - dy.mean(axis=0) - y * (dy * y).mean(axis=0))


def loss_and_gradient(net, x, labels):
    """``net``: {"kernels": [W_1, ..], "scales": [..], "shifts": [..]}; so are the gradients."""
    kernels, scales, shifts = net["kernels"], net["scales"], net["shifts"]
    inputs, normal, factors, active = [x], [], [], []
    for kernel, scale, shift in zip(kernels[:-1], scales, shifts, strict=True):
        y, factor = standardise(inputs[-1] @ kernel)
        out = y * scale + shift
        normal.append(y)
        factors.append(factor)
        active.append(out > 0)
        inputs.append(np.maximum(out, 0))
    logits, last = standardise(inputs[-1] @ kernels[-1])
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    loss = -log_p[rows, labels].mean()

    d = np.exp(log_p)
    d[rows, labels] -= 1
    d = standardise_back(d / len(labels), logits, last)
    grads = {"kernels": [inputs[-1].T @ d], "scales": [], "shifts": []}
    d = d @ kernels[-1].T
    for layer in reversed(range(len(scales))):
        d = d * active[layer]
        grads["scales"].insert(0, (d * normal[layer]).sum(axis=0))
        grads["shifts"].insert(0, d.sum(axis=0))
        d = standardise_back(d * scales[layer], normal[layer], factors[layer])
        grads["kernels"].insert(0, inputs[layer].T @ d)
        d = d @ kernels[layer].T
    return loss, grads


def cut(net, who, worker):
    """The subnet of a worker; ``who``: a list over hidden layers of int[S, m]."""
    mine = [ids[worker] for ids in who]
    kernels = []
    for layer, kernel in enumerate(net["kernels"]):
        if layer:
            kernel = kernel[mine[layer - 1]]
        if layer < len(mine):
            kernel = kernel[:, mine[layer]]
        kernels.append(kernel.copy())
    return {
        "kernels": kernels,
        "scales": [s[ids].copy() for s, ids in zip(net["scales"], mine, strict=True)],
        "shifts": [s[ids].copy() for s, ids in zip(net["shifts"], mine, strict=True)],
    }


def paste(net, piece, who, worker):
    mine = [ids[worker] for ids in who]
    for layer, kernel in enumerate(net["kernels"]):
        rows = mine[layer - 1] if layer else np.arange(kernel.shape[0])
        columns = mine[layer] if layer < len(mine) else np.arange(kernel.shape[1])
        kernel[np.ix_(rows, columns)] = piece["kernels"][layer]
    for part in ("scales", "shifts"):
        for vector, ids, new in zip(net[part], mine, piece[part], strict=True):
            vector[ids] = new


def ist(net, rounds, lr, momentum, keep):
    """Runs rounds of ``(who, x [S, J, B, n], y [S, J, B])``: the net, and losses [R, S, J]."""
    net = {part: [a.copy() for a in arrays] for part, arrays in net.items()}
    trace = {part: [np.zeros_like(a) for a in arrays] for part, arrays in net.items()}
    losses = []
    for who, x, y in rounds:
        workers, steps = y.shape[:2]
        losses.append(np.zeros((workers, steps)))
        for worker in range(workers):
            mine, moments = cut(net, who, worker), cut(trace, who, worker)
            if not keep:
                moments = {part: [np.zeros_like(a) for a in v] for part, v in moments.items()}
            for step in range(steps):
                loss, grads = loss_and_gradient(mine, x[worker, step], y[worker, step])
                losses[-1][worker, step] = loss
                for part in mine:
                    for i, g in enumerate(grads[part]):
                        moments[part][i] = momentum * moments[part][i] + g
                        mine[part][i] = mine[part][i] - lr * moments[part][i]
            paste(net, mine, who, worker)
            paste(trace, moments, who, worker)
    return net, np.stack(losses)
