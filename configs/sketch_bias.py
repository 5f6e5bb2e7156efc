"""The bias of IST on quadratics, by share q/d and by mask scale; a minute on two cores.

    python -m experiments.sketch --config=configs/sketch_bias.py --workdir=runs/sketch_bias
    python -m experiments.sketch --config=configs/sketch_bias.py:tiny --workdir=runs/tiny

Source: Shulgin & Richtarik, "Towards a Better Theoretical Understanding of Independent Subnetwork
Training", arXiv:2306.16484; the mean fixed point of
Perm-q with masks of scale s, (1/s) [(d-q)/(d-1) Dbar + (q-1)/(d-1) Lbar]^-1 bbar.
The figure: |x_inf - x*| / |x*| (median and quartiles over problems), with runs beside it for one
problem (all iterates of their second half). Expected: with scale 1 the bias is largest where
workers have one loss. Where each has its own, more workers make Lbar more like a multiple of the
identity, and the bias falls. Runs lie on the prediction, and no scale removes the bias.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "tiny"):
        raise ValueError(f"configs/sketch_bias.py has one variant, 'tiny'; found {variant!r}")
    config = ConfigDict()
    config.figure = "bias"
    config.seed = 0
    config.dimension = 60  # d; workers are all its divisors from 2 on
    config.condition = 10.0
    config.heterogeneities = (0.0, 0.5, 1.0)
    config.problems = 20
    config.workers = (2, 6, 60)  # of the right panel
    config.scales = (0.25, 8.0)  # the least and the largest of the right panel
    config.step_size = 0.2  # of the runs
    config.steps = 1000
    config.every = 20
    config.runs = 100
    if variant == "tiny":
        config.dimension, config.problems, config.steps, config.runs = 6, 3, 100, 10
        config.workers = (2, 6)
    return config
