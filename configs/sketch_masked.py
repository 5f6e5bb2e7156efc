"""Masked shallow networks: measured errors beside their bounds; a minute on two cores.

    python -m experiments.sketch --config=configs/sketch_masked.py --workdir=runs/sketch_masked
    python -m experiments.sketch --config=configs/sketch_masked.py:tiny --workdir=runs/tiny

Paper: Liao & Kyrillidis, "On the Convergence of Shallow Neural Network Training with Randomly
Masked Neurons", TMLR 2022 (corollary 3, theorem 4).
The figure: the error of the whole network after the last round against xi, p, tau, m and kappa
(marks and bars: median and quartiles over seeds), and what the theorems print for it with every
hidden constant set to 1 (broken lines; shapes, not bounds that were proved: the widths they ask for
are out of reach). The last panel is the distance of the masked tangent kernels from the kernel of
infinite width over rounds. The tiny variant draws the same in seconds, and shows nothing.
Expected: Bernoulli errors fall as p^-0.7 to p^-0.8; categorical errors are zero at p = 1, grow
with p and fall with m, where theorem 4's bound does not. Of xi, tau and kappa nothing is claimed.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "tiny"):
        raise ValueError(f"configs/sketch_masked.py has one variant, 'tiny'; found {variant!r}")
    config = ConfigDict()
    config.figure = "masked"
    config.seed = 0  # of data, starts and masks
    config.seeds = 12  # starts, each with masks of its own

    config.examples = 10  # n
    config.dimension = 8  # d
    config.step = 0.3  # eta; stable up to about 2 / lambda_max = 1.6
    config.rounds = 400  # K

    config.workers = 4  # p, wherever it is not swept
    config.xi = 0.5  # mean of Bernoulli masks; categorical ones have 1/p
    config.local_steps = 1  # tau
    config.width = 512  # m
    config.kappa = 1.0  # standard deviation of the weights at the start

    config.sweep = ConfigDict()
    config.sweep.xi = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 0.95, 1.0)
    config.sweep.workers = (1, 2, 4, 8, 16)
    config.sweep.local_steps = (1, 2, 4, 8)
    config.sweep.width = (64, 128, 256, 512, 1024)
    config.sweep.kappa = (0.125, 0.25, 0.5, 1.0, 2.0)

    config.kernel_widths = (128, 2048)  # of the last panel

    if variant == "tiny":
        config.seeds, config.rounds, config.width = 3, 20, 64
        config.sweep.xi, config.sweep.kappa = (0.5, 1.0), (0.5, 1.0)
        config.sweep.workers, config.sweep.local_steps, config.sweep.width = (1, 4), (1,), (64,)
        config.kernel_widths = (32, 64)
    return config
