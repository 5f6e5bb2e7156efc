"""ResNet18 with narrow convolutions on Fashion-MNIST: the paper's CIFAR10 workload, in small.

    python -m experiments.main --config=configs/fashion_resnet18.py --workdir=runs/fashion_resnet18

Claim: the convolutions have most of the parameters and nearly all of the arithmetic here, so that
cutting the dense part saves little, and IST can lose to local SGD, as it does in the paper (CIFAR10
to 0.90 on 8 machines).
Paper: Yuan et al., PVLDB 15(8), 2022, section 3 (ResNet18 on CIFAR10: configs/cifar10_resnet18.py).
Data: Debian's dataset-fashion-mnist, a stand-in. Eighteen layers, a sixteenth of the filters.
Expected: docs/results/vldb.md.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files


def get_config(variant: str = "") -> ConfigDict:
    config = config_files.load("fashion_vgg12", variant, beside=__file__)
    config.model.name = "resnet"
    config.model.widths = ConfigDict({"hidden0": 16 if variant == "tiny" else 512})
    config.model.options = ConfigDict({"base": 4})
    config.data.batch = 8 if variant == "tiny" else 32
    if variant == "tiny":
        config.model.options = ConfigDict({"base": 2, "blocks": (1, 1)})
    return config
