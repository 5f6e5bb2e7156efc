"""Sketches and steps on quadratics in dense NumPy, by enumeration. It imports nothing of the
library.

A sketch is a list of ``(probability, [C_1, .., C_n])`` with full d x d matrices.
"""

import itertools

import numpy as np


def project(ids, d, factors=None):
    C = np.zeros((d, d))
    for a in ids:
        C[a, a] = 1 if factors is None else factors[a]
    return C


def perm(n, d, scale, factors=None):
    """d = q n: slices of every permutation; ``factors [n, d]`` in place of the scale."""
    q = d // n
    orders = list(itertools.permutations(range(d)))
    factors = np.full((n, d), scale) if factors is None else factors
    for order in orders:
        blocks = [order[q * i : q * (i + 1)] for i in range(n)]
        yield 1 / len(orders), [project(ids, d, factors[i]) for i, ids in enumerate(blocks)]


def shuffled(n, d, scale):
    """n = q d: every order of the multiset in which each coordinate stands q times."""
    orders = list(itertools.permutations([a for a in range(d) for _ in range(n // d)]))
    for order in orders:
        yield 1 / len(orders), [scale * project([a], d) for a in order]


def rand(n, d, q, scale):
    sets = list(itertools.combinations(range(d), q))
    for chosen in itertools.product(sets, repeat=n):
        yield len(sets) ** -float(n), [scale * project(ids, d) for ids in chosen]


def bernoulli(n, d, chance, scale):
    for masks in itertools.product((0, 1), repeat=n * d):
        rows = np.reshape(masks, (n, d))
        odds = np.prod(np.where(rows, chance, 1 - chance))
        yield odds, [scale * np.diag(row.astype(float)) for row in rows]


def root(A):
    """The inverse square root of a positive definite matrix."""
    values, vectors = np.linalg.eigh(A)
    return vectors @ np.diag(values**-0.5) @ vectors.T


def blocks_preconditioned(L, n, d):
    for odds, projections in perm(n, d, 1.0):
        matrices = []
        for P, matrix in zip(projections, L, strict=True):
            ids = np.flatnonzero(np.diag(P))
            C = np.zeros((d, d))
            C[np.ix_(ids, ids)] = np.sqrt(n) * root(matrix[np.ix_(ids, ids)])
            matrices.append(C)
        yield odds, matrices


def step(L, b, C, x, step_size, rule="step", local_steps=1, noises=None):
    """x after one step; ``noises[i][t]``: a full vector, added to a local gradient."""
    n = len(L)
    starts = [C[i] @ x for i in range(n)]
    ends = []
    for i in range(n):
        z = starts[i]
        for t in range(local_steps):
            gradient = L[i] @ z - b[i]
            if noises is not None:
                gradient = gradient + noises[i][t]
            z = z - step_size * C[i] @ gradient
        ends.append(z)
    if rule == "merge":
        return sum(ends) / n
    changes = sum(end - start for start, end in zip(starts, ends, strict=True))
    if rule == "step":
        return x + changes / n
    holders = sum((np.abs(C[i]).sum(1) > 0).astype(int) for i in range(n))
    return x + changes / np.maximum(holders, 1)


def gradient_parts(L, b, C):
    """Bbar and Cb of one outcome, (10)."""
    n = len(L)
    return (
        sum(C[i] @ L[i] @ C[i] for i in range(n)) / n,
        sum(C[i] @ b[i] for i in range(n)) / n,
    )


def average(sketch, function):
    """The expectation of ``function(C)``."""
    return sum(odds * function(C) for odds, C in sketch)


def affine(L, b, C, step_size, rule, local_steps):
    d = L.shape[1]
    go = lambda b, x: step(L, b, C, x, step_size, rule, local_steps)
    c = go(b, np.zeros(d))
    A = np.stack([go(np.zeros_like(b), e) for e in np.eye(d)], axis=1)
    return A, c


def moments(L, b, sketch, x0, step_size, steps, rule="step", local_steps=1):
    """Exact mean and covariance of x^0 .. x^steps."""
    maps = [(odds, *affine(L, b, C, step_size, rule, local_steps)) for odds, C in sketch]
    mean, square = x0.astype(float), np.outer(x0, x0).astype(float)
    out = [(mean, square - np.outer(mean, mean))]
    for _ in range(steps):
        new_mean, new_square = np.zeros_like(mean), np.zeros_like(square)
        for odds, A, c in maps:
            Am = A @ mean
            new_mean += odds * (Am + c)
            new_square += odds * (A @ square @ A.T + np.outer(Am, c) + np.outer(c, Am))
            new_square += odds * np.outer(c, c)
        mean, square = new_mean, new_square
        out.append((mean, square - np.outer(mean, mean)))
    return out
