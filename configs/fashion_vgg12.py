"""VGG12 with narrow convolutions on Fashion-MNIST: the paper's ImageNet workload, in small.

    python -m experiments.main --config=configs/fashion_vgg12.py --workdir=runs/fashion_vgg12

Claim: where the dense part has most of the parameters, IST sends a fraction of what local SGD
sends, though the convolutions are averaged by all.
Paper: Yuan et al., PVLDB 15(8), 2022, section 3 (full ImageNet: configs/imagenet_vgg12.py).
Data: Debian's dataset-fashion-mnist, a stand-in. Twelve layers, an eighth of the filters.
Expected: docs/results/vldb.md.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files


def get_config(variant: str = "") -> ConfigDict:
    config = config_files.load("quickstart", variant, beside=__file__)
    config.methods = ("ist", "local_sgd", "data_parallel")
    config.seeds = (0,)
    config.data.name = "fashion_mnist"
    config.data.batch = 64
    config.local_steps = 10
    config.rounds = 40
    config.eval_every = 5
    config.optimizer.lr = 0.05
    config.model.name = "vgg"
    config.model.widths = ConfigDict({"hidden0": 1024, "hidden1": 1024})
    config.model.options.stages = ((8,), (16,), (32, 32), (64, 64), (64, 64, 64))
    if variant == "tiny":
        config.local_steps = 2
        config.rounds = 2
        config.data.batch = 8
        config.statistics_examples = 256
        config.model.widths = ConfigDict({"hidden0": 16, "hidden1": 16})
        config.model.options.stages = ((2,), (2,))
    return config
