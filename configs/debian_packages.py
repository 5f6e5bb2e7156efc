"""Extreme classification, offline stand-in: Debian's packages, 49,000 labels; table 4.

    python -m experiments.main --config=configs/debian_packages.py --workdir=runs/debian_packages
    python -m experiments.main --config=configs/debian_packages.py:1024 --workdir=runs/debian_1024

Claim: precision grows with the hidden width, of which a worker of IST holds a quarter; from 512 on
P@1, 3 and 5 are above those of nearest neighbours. IST reads and sends only the features and labels
that a round needs.
Paper: Yuan et al., PVLDB 15(8), 2022, table 4 (Amazon-670K: configs/amazon670k.py).
Data: apt's lists of Debian 12, see ist_jax/data/sources/debian.py; --config.data.path=FOLDER.
Expected: docs/results/vldb.md.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files


def get_config(variant: str = "") -> ConfigDict:
    """A variant is the hidden width, or "tiny"."""
    if variant not in ("", "tiny") and not variant.isdecimal():
        raise ValueError(f"a variant is a hidden width, or 'tiny'; found {variant!r}")
    config = config_files.load("quickstart", "tiny" if variant == "tiny" else "", beside=__file__)
    config.methods = ("ist", "data_parallel")
    config.seeds = (0,)
    config.local_steps = 10
    config.epochs = 12.0
    config.eval_every = 27
    config.optimizer_state = "keep"
    config.normalise = "none"
    config.data.name = "debian_packages"
    config.data.batch = 128
    config.data.options.most_features = 128
    config.model.name = "xmc"
    config.model.widths = ConfigDict({"hidden0": int(variant) if variant.isdecimal() else 512})
    config.model.options.drop_inputs = 0.3
    config.optimizer.name = "adam"
    config.optimizer.lr = 0.01
    config.optimizer.schedule = "cosine"
    config.task.options.loss = "softmax"
    config.task.options.sampled = 4000
    config.checkpoint.every = 0
    if variant == "tiny":
        config.epochs = 0.0
        config.rounds = 2
        config.model.widths = ConfigDict({"hidden0": 16})
    return config
