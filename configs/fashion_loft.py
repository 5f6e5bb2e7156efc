"""LoFT on Fashion-MNIST, in small: filters cut, then pruned, then trained on.

    python -m experiments.main --config=configs/fashion_loft.py --workdir=runs/fashion_loft
    python -m experiments.lottery --config=configs/fashion_loft.py --workdir=runs/fashion_loft

Claim: a net whose inner filters are trained in pieces loses nothing where most of them are pruned,
even before it is trained on; one that is trained whole loses much. Trained on, they are alike.
Paper: Dun et al., LoFT (PreResNet-18 and -34 on CIFAR; SGD 0.1, momentum 0.9, decay 1e-5, J = 15;
20 epochs, and 90 of the pruned net, where two cores have time for three, and a half).
Data: Debian's dataset-fashion-mnist, a stand-in. Eighteen layers, an eighth of the filters; variant
"wide" has twice as many between the convolutions of the blocks that are cut.
Expected: docs/results/loft.md.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files


def get_config(variant: str = "") -> ConfigDict:
    """Variants: "", "wide", "tiny"."""
    if variant not in ("", "wide", "tiny"):
        raise ValueError(f"variants are 'wide' and 'tiny'; found {variant!r}")
    config = config_files.load("quickstart", "tiny" if variant == "tiny" else "", beside=__file__)
    config.methods = ("loft", "local_sgd", "data_parallel")
    config.local_steps = 15
    config.epochs = 3.0
    config.eval_every = 16
    config.data.name = "fashion_mnist"
    config.data.batch = 64
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-5
    config.checkpoint.every = 16  # an epoch
    config.checkpoint.last = 100
    config.model.name = "resnet"
    config.model.logits = False
    filters = {"filters2_1": 16, "filters3_1": 32, "filters4_1": 64}
    wide = 2 if variant == "wide" else 1
    config.model.widths = ConfigDict({group: n * wide for group, n in filters.items()})
    config.model.options = ConfigDict({"base": 8, "preactivate": True, "bias": True})
    config.lottery.epochs = 0.5
    if variant == "tiny":
        config.epochs, config.rounds, config.local_steps = 0.0, 2, 2
        config.eval_every = config.checkpoint.every = 1
        config.data.batch = 8
        config.model.widths = ConfigDict({"filters2_1": 8})
        config.model.options = ConfigDict(
            {"blocks": (1, 2), "base": 2, "preactivate": True, "bias": True}
        )
        config.lottery.pruned, config.lottery.epochs = (0.5,), 0.1
    return config
