"""A decoder of bytes, trained in pieces: GCIDE, a dictionary of 40 MB; ten minutes on two cores.

    python -m experiments.main --config=configs/gcide.py --workdir=runs/gcide
    python -m experiments.main --config=configs/gcide.py:tiny --workdir=runs/gcide_tiny  # seconds

Needs Debian's ``dict-gcide``. A net of 115,008 parameters; a worker of four holds .57 of them, as
the feed-forward nets are cut (``ffn``), and .36 where heads are cut too.
Claim: none yet; docs/results/language.md will hold the study.
Every other key, what it means, and what it is here: ist_jax/run/schema.py.
"""

from ml_collections import ConfigDict

from ist_jax.run import schema


def get_config(variant: str = "") -> ConfigDict:
    if variant not in ("", "tiny"):
        raise ValueError(f"configs/gcide.py has one variant, 'tiny'; found {variant!r}")
    config = schema.default()
    config.methods = ("ist", "local_sgd", "diloco", "data_parallel")
    config.seeds = (0,)
    config.data.name = "gcide"
    config.data.batch = 8
    config.data.options = ConfigDict({"tokens": 64, "test_examples": 2048})
    config.data.validation = 0.001  # of the training text
    config.model.name = "transformer"
    config.model.widths = ConfigDict({"ffn": 256})
    config.model.options = ConfigDict({"width": 64, "depth": 2, "heads": 8, "head": 8})
    config.normalise = "share"
    config.optimizer.name = "adamw"
    config.optimizer.lr = 8e-3
    config.optimizer.clip = 1.0
    config.optimizer.options = ConfigDict({"b1": 0.9, "b2": 0.95, "weight_decay": 0.1})
    config.optimizer.schedule = "cosine"
    config.optimizer.warm_up_steps = 20
    config.optimizer_state = "keep"
    config.workers = 4
    config.local_steps = 20
    config.rounds = 25
    if variant == "tiny":
        config.data.options.test_examples = 64
        config.data.validation = 0.0001
        config.rounds = 2
        config.local_steps = 4
        config.optimizer.warm_up_steps = 2
        config.eval_every = 1
    return config
