"""Amazon-670K: 135,909 features, 670,091 labels; table 4, for those who have the data.

    python -m experiments.main --config=configs/amazon670k.py --config.data.path=FOLDER \\
        --workdir=runs/amazon670k
    python -m experiments.main --config=configs/amazon670k.py:2560 --config.data.path=FOLDER \\
        --config.mesh.workers=8 --workdir=runs/amazon670k_2560

Claim: precision grows with the hidden width, 512 to 2,560; a worker of 8 holds an eighth of it,
where data parallel training needs all of it on every worker (its memory: docs/results/vldb.md).
Paper: Yuan et al., PVLDB 15(8), 2022, table 4; the optimizer and the loss are not printed.
Data: the folder of the Extreme Classification Repository with train.txt and test.txt, in its sparse
text format.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files


def get_config(variant: str = "") -> ConfigDict:
    """A variant is the hidden width, or "tiny"."""
    config = config_files.load("debian_packages", variant, beside=__file__)
    config.workers = 8
    config.data.name = "xmc"
    config.data.options.most_features = 256
    config.task.options.propensity = (0.6, 2.6)
    config.task.options.sampled = 20_000
    config.checkpoint.every = 50
    config.checkpoint.last = 1
    if variant != "tiny" and config.model.widths.hidden0 > 512:
        config.methods = ("ist",)  # data parallel training would need all of it on every worker
    return config
