"""IST on a heterogeneous quadratic, d = 1000, n = 10: it stops at the predicted point; TIME.

    python -m experiments.sketch --config=configs/sketch_heterogeneous.py \\
        --workdir=runs/sketch_heterogeneous
    python -m experiments.sketch --config=configs/sketch_heterogeneous.py:tiny --workdir=runs/tiny

Source: Shulgin & Richtarik, "Towards a Better Theoretical Understanding of Independent Subnetwork
Training", arXiv:2306.16484, the setting of its first experiment.
The figure: squared distance to x*, and to x_inf = [(d-q)/(d-1) Dbar + (q-1)/(d-1) Lbar]^-1 bbar,
for several step sizes (median, smallest and largest of the runs; broken line: |x_inf - x*|^2).
Expected: whatever the step size, the distance to x* ends near the broken line; the distance to
x_inf goes on falling with the step size, which sets how far the iterates scatter.
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
    config.step_sizes = (0.05, 0.2, 0.5, 1.0)
    config.steps = 400
    config.every = 4
    config.runs = 10
    if variant == "tiny":
        config.dimension, config.steps, config.runs = 20, 40, 3
    return config
