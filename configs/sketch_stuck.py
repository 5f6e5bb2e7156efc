"""Naive IST is stuck where preconditioned IST goes on; half a minute on two cores.

    python -m experiments.sketch --config=configs/sketch_stuck.py --workdir=runs/sketch_stuck
    python -m experiments.sketch --config=configs/sketch_stuck.py:tiny --workdir=runs/tiny

Source: Shulgin & Richtarik, "Towards a Better Theoretical Understanding of Independent Subnetwork
Training", arXiv:2306.16484, (12) and (34).
The figure: coordinates are scaled so that diagonals go from 1 to 10,000; excess of f over its
minimum for Perm-1 with n P_i and with the preconditioned factors
(median, smallest and largest of the runs; broken: the exact mean). Expected: without a linear term
the naive step, held down by the largest diagonal, leaves most of the excess after hundreds of
steps, and the preconditioned one falls as (1 - gamma)^2k; with one, that ends at its bias.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "tiny"):
        raise ValueError(f"configs/sketch_stuck.py has one variant, 'tiny'; found {variant!r}")
    config = ConfigDict()
    config.figure = "stuck"
    config.seed = 0
    config.workers = 30  # n = d
    config.condition = 3.0  # before the coordinates are scaled
    config.spread = 1e4  # largest over smallest diagonal, by scaling
    config.step_size = 0.05  # of the preconditioned sketch
    config.steps = 400
    config.every = 4
    config.runs = 20
    if variant == "tiny":
        config.workers, config.steps, config.runs = 5, 40, 3
    return config
