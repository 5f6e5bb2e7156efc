"""IST on a heterogeneous quadratic, d = 1000, n = 10: where it stops; a minute on two cores.

    python -m experiments.sketch --config=configs/sketch_heterogeneous.py \\
        --workdir=runs/sketch_heterogeneous
    python -m experiments.sketch --config=configs/sketch_heterogeneous.py:tiny --workdir=runs/tiny

Source: Shulgin & Richtarik, "Towards a Better Theoretical Understanding of Independent Subnetwork
Training", arXiv:2306.16484, the setting of its first experiment.
The figure: squared distance to x*, and to x_inf = [(d-q)/(d-1) Dbar + (q-1)/(d-1) Lbar]^-1 bbar,
for several step sizes (median, smallest and largest of the runs; broken line: |x_inf - x*|^2).
Expected: the smaller the step size, the nearer the iterates come to x_inf, around which they
scatter with a variance in proportion to it; none comes nearer to x* than the broken line.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "tiny"):
        raise ValueError(
            f"configs/sketch_heterogeneous.py has one variant, 'tiny'; found {variant!r}"
        )
    config = ConfigDict()
    config.figure = "heterogeneous"
    config.seed = 0
    config.workers = 10  # n
    config.dimension = 1000  # d
    config.condition = 10.0  # of each worker's matrix; its largest eigenvalue is 1
    config.step_sizes = (0.01, 0.03, 0.1, 0.3)
    config.steps = 2000
    config.every = 10
    config.runs = 10
    if variant == "tiny":
        config.dimension, config.steps, config.runs = 20, 40, 3
    return config
