"""Quickstart: digits, a net with two hidden layers of 1,024 neurons, 4 workers, about a minute.

    python -m experiments.main --config=configs/quickstart.py --workdir=runs/quickstart
    python -m experiments.main --config=configs/quickstart.py:tiny --workdir=runs/tiny   # seconds

Claim: IST stays within a point of ordinary training while each worker trains a net of 1/13 of the
parameters; subnets that are drawn once and never mix (the ensemble) fall behind.
Paper: Yuan et al., PVLDB 15(8), 2022: plain SGD, standardised layers, statistics recomputed.
Expected (3 seeds, 480 steps a worker): docs/results/quickstart.md.
Every other key, what it means, and what it is here: ist_jax/run/schema.py.
"""

from ml_collections import ConfigDict

from ist_jax.run import schema


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "tiny"):
        raise ValueError(f"configs/quickstart.py has one variant, 'tiny'; found {variant!r}")
    config = schema.default()
    config.data.name = "digits"
    config.model.widths = ConfigDict({"hidden0": 1024, "hidden1": 1024})
    config.workers = 4
    config.local_steps = 8
    config.rounds = 60
    if variant == "tiny":
        config.seeds = (0,)
        config.rounds = 6
        config.eval_every = 2
        config.model.widths = ConfigDict({"hidden0": 64, "hidden1": 64})
    return config
