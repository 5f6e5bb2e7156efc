"""All sketches and gradient descent at equal bytes; half a minute on two cores.

    python -m experiments.sketch --config=configs/sketch_equal_bytes.py \\
        --workdir=runs/sketch_equal_bytes
    python -m experiments.sketch --config=configs/sketch_equal_bytes.py:tiny --workdir=runs/tiny

Source: Shulgin & Richtarik, "Towards a Better Theoretical Understanding of Independent Subnetwork
Training", arXiv:2306.16484.
The figure: excess of f over its minimum against the bytes that a worker has sent (8 a number), with
and without a linear term; each steps with a fifth of its own largest stable step, computed.
Expected: without a linear term every sketch converges, with fewer bytes than gradient descent;
with one, all of them stop at their bias and scatter, and gradient descent goes on.
"""

from ml_collections import ConfigDict


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "tiny"):
        raise ValueError(
            f"configs/sketch_equal_bytes.py has one variant, 'tiny'; found {variant!r}"
        )
    config = ConfigDict()
    config.figure = "equal_bytes"
    config.seed = 0
    config.workers = 4  # n
    config.dimension = 40  # d
    config.condition = 10.0
    config.sketches = 7  # the first so many: gradient descent, Perm-q, IST, Rand-q, Bernoulli, ..
    config.share_of_largest = 0.2
    config.numbers_sent = 2400  # by a worker
    config.points = 240  # on a curve
    config.runs = 100
    if variant == "tiny":
        config.numbers_sent, config.points, config.runs, config.sketches = 100, 10, 5, 3
    return config
