"""The neighbourhood of preconditioned Perm-1 against the step size; seconds on two cores.

    python -m experiments.sketch --config=configs/sketch_neighbourhood.py \\
        --workdir=runs/sketch_neighbourhood
    python -m experiments.sketch --config=configs/sketch_neighbourhood.py:tiny --workdir=runs/tiny

Source: Shulgin & Richtarik, "Towards a Better Theoretical Understanding of Independent Subnetwork
Training", arXiv:2306.16484, (18) and (19), and the exact limit.
The figure: the limit of E|grad f(x^k)|^2 in the norm of Lbar^-1, in closed form, which is
|h|^2 + gamma/(2 - gamma) sigma^2, and as the mean of many runs with 4 standard errors. Expected:
they agree.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "tiny"):
        raise ValueError(
            f"configs/sketch_neighbourhood.py has one variant, 'tiny'; found {variant!r}"
        )
    config = ConfigDict()
    config.figure = "neighbourhood"
    config.seed = 0
    config.workers = 20  # n = d
    config.condition = 10.0
    config.step_sizes = (0.05, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.7)
    config.steps = 300
    config.runs = 2000
    if variant == "tiny":
        config.workers, config.steps, config.runs = 4, 100, 50
        config.step_sizes = (0.2, 1.0)
    return config
