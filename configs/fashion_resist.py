"""ResIST's ablation on Fashion-MNIST, in small: what makes cutting depth work, one step at a time.

    python -m experiments.main --config=configs/fashion_resist.py --workdir=runs/fashion_resist
    python -m experiments.main --config=configs/fashion_resist.py:naive --workdir=runs/resist_naive

Claim: the steps of the paper's ladder (variants, in order) are together what makes it accurate:
"naive" deals out every block of the net, "strided" shares strided blocks, "stage" cuts the third
stage only, "scaled" also multiplies the branches where all blocks run together, "preactivated"
normalises and activates before convolutions, and "" gives each worker a least number of blocks.
Paper: Dun et al., UAI 2022, ablation on CIFAR10 with 2 workers (66.3, 68.3, 84.3, 91.5, 92.0 %).
Data: Debian's dataset-fashion-mnist, a stand-in. An eighth of the filters, stages of 2, 2, 8, 2.
Expected: docs/results/resist.md.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files

BLOCKS = (2, 2, 8, 2)
EVERY = {"stage1": 2, "stage2": 1, "stage3": 7, "stage4": 1}
STRIDED = {"strided2": 1, "strided3": 1, "strided4": 1}
LADDER = {  # variant: groups, method, preactivated, least number of blocks
    "naive": (EVERY | STRIDED, "ist", False, 0),
    "strided": (EVERY, "ist", False, 0),
    "stage": ({"stage3": 7}, "ist", False, 0),
    "scaled": ({"stage3": 7}, "resist", False, 0),
    "preactivated": ({"stage3": 7}, "resist", True, 0),
    "": ({"stage3": 7}, "resist", True, 5),
}


def get_config(variant: str = "") -> ConfigDict:
    """A variant is a step of the ladder, or "tiny"."""
    if variant not in (*LADDER, "tiny"):
        raise ValueError(
            f"variants are {', '.join([*filter(None, LADDER), 'tiny'])}; found {variant!r}"
        )
    config = config_files.load("quickstart", "tiny" if variant == "tiny" else "", beside=__file__)
    groups, method, preactivated, least = LADDER["" if variant == "tiny" else variant]
    config.methods = (method,)
    if variant in ("", "tiny"):
        config.methods = ("resist", "local_sgd", "shallow_ensemble")
    config.workers = 2
    config.local_steps = 20
    config.epochs = 2.0
    config.eval_every = 12
    if len(groups) > 1:
        config.method_options.ist = ConfigDict({"assignment": "joint"})
    if least:
        config.method_options.resist = ConfigDict({"min_depth": least})
    config.data.name = "fashion_mnist"
    config.data.batch = 64
    config.optimizer.lr = 0.03
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "steps"
    config.checkpoint.every = 0
    config.model.name = "resnet"
    config.model.logits = False
    config.model.widths = ConfigDict(groups)
    config.model.options = ConfigDict(
        {"blocks": BLOCKS, "base": 8, "preactivate": preactivated, "bias": True}
    )
    if variant == "tiny":
        config.epochs, config.rounds, config.local_steps = 0.0, 2, 2
        config.data.batch, config.method_options.resist.min_depth = 8, 2
        config.model.widths = ConfigDict({"stage2": 3})
        config.model.options.blocks, config.model.options.base = (1, 4), 2
    return config
