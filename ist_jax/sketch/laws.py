"""Moments that follow from who holds what: E Bbar, E Cb, and all second ones, without enumeration.

With C_i = W_i P_i (fixed factors W_i, a random projection P_i on coordinates) put X_i = W_i L_i W_i
and v_i = W_i b_i. Then C_i L_i C_i = P_i X_i P_i and C_i b_i = P_i v_i, and everything up to second
moments follows from the chances that a worker holds given coordinates, and that two workers do
(``supports``). It costs a few matrix products for each worker, whatever the number of outcomes.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ist_jax.sketch.supports import Support

Matrices = Float[np.ndarray, "n d d"]
Matrix = Float[np.ndarray, "d d"]


def first(support: Support, X: Matrices) -> Matrix:
    """E (1/n) sum P_i X_i P_i."""
    mean = X.mean(0)
    on_diagonal = np.diag(np.diag(mean))
    return support.alone(1) * on_diagonal + support.alone(2) * (mean - on_diagonal)


def second(support: Support, X: Matrices, M: Matrix, Y: Matrices) -> Matrix:
    """E [(1/n) sum P_i X_i P_i] M [(1/n) sum P_j Y_j P_j].

    All pairs of workers as if they were two different ones, and what a worker with itself differs
    from that. A vector is a diagonal matrix here, since P_i v_i = P_i diag(v_i) P_i 1.
    """
    n = len(X)

    def itself(k, j, common):
        other = support.together(k, j, common) if n > 1 else 0.0
        return support.alone(k + j - common) - other

    out = np.sum([_expect(itself, x, M, y) for x, y in zip(X, Y, strict=True)], axis=0)
    if n > 1:
        out = out + _expect(support.together, X.sum(0), M, Y.sum(0))
    return out / n**2


def _expect(
    chance: Callable[[int, int, int], float], X: Matrix, M: Matrix, Y: Matrix
) -> np.ndarray:
    """sum_bc P(one holds a, b; the other c, e) X_ab M_bc Y_ce, for all a and e.

    X and Y are parted in diagonal and rest, so that the sizes of the sets are known. Each part
    starts from the chance for sets that have nothing in common, and mends it where indices meet.
    """
    p, s, m = np.diag(X), np.diag(Y), np.diag(M)
    x, y = X - np.diag(p), Y - np.diag(s)
    on_diagonal = lambda A: np.diag(np.diag(A))

    ends = p[:, None] * M * s
    apart, meet = chance(1, 1, 0), chance(1, 1, 1)
    out = apart * ends + (meet - apart) * on_diagonal(ends)
    if y.any():
        My = M @ y
        right = p[:, None] * My
        apart, meet = chance(1, 2, 0), chance(1, 2, 1)
        out += apart * right + (meet - apart) * ((p * m)[:, None] * y + on_diagonal(right))
    if x.any():
        xM = x @ M
        left = xM * s
        apart, meet = chance(2, 1, 0), chance(2, 1, 1)
        out += apart * left + (meet - apart) * (x * (m * s) + on_diagonal(left))
    if x.any() and y.any():
        xMy, xmy = xM @ y, (x * m) @ y
        apart, meet, same = (chance(2, 2, common) for common in range(3))
        once = xmy + x * np.diag(My) + np.diag(xM)[:, None] * y + on_diagonal(xMy)
        twice = on_diagonal(xmy) + x * M.T * y
        out += apart * xMy + (meet - apart) * once + (same - 2 * meet + apart) * twice
    return out
