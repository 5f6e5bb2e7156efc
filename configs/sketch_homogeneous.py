"""Homogeneous, preconditioned, n = d = 50: (1 - gamma)^k to x_inf; seconds on two cores.

    python -m experiments.sketch --config=configs/sketch_homogeneous.py \\
        --workdir=runs/sketch_homogeneous
    python -m experiments.sketch --config=configs/sketch_homogeneous.py:tiny --workdir=runs/tiny

Source: Shulgin & Richtarik, "Towards a Better Theoretical Understanding of Independent Subnetwork
Training", arXiv:2306.16484, equations (29), (30).
The figure: distance to x_inf = b~ / n^1/2 of Perm-1 with factor n^1/2 on the preconditioned
problem, beside |1 - gamma|^k. Expected: they agree to rounding, and no two runs differ, since
g = x - b~ / n^1/2 in every draw.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "tiny"):
        raise ValueError(
            f"configs/sketch_homogeneous.py has one variant, 'tiny'; found {variant!r}"
        )
    config = ConfigDict()
    config.figure = "homogeneous"
    config.seed = 0
    config.workers = 50  # n = d
    config.condition = 100.0
    config.step_sizes = (0.05, 0.2, 0.5, 0.9, 1.3)
    config.steps = 120
    config.runs = 20
    if variant == "tiny":
        config.workers, config.steps, config.runs = 6, 20, 3
    return config
