"""ResIST on CIFAR100, for those who have the data: a ResNet of 101 layers, cut by depth.

    python -m experiments.main --config=configs/cifar100_resist.py --dry_run
    python -m experiments.main --config=configs/cifar100_resist.py --config.data.path=FOLDER \\
        --workdir=runs/cifar100_resist

Claim: with 4 workers 71.3 % where local SGD has 71.5 %, for 0.72 in place of 1.32 GB a round (of
all workers, both ways) and a fraction of the time.
Paper: Dun et al., UAI 2022: basic blocks [3, 4, 23, 3], preactivated; SGD 0.03, momentum 0.9, decay
5e-4, J = 50, batch 128, a tenth of the rate at 50 and 75 %; least number of blocks 6 with 4 workers
and 4 with 8 (read off its traffic). Its epochs are divided by the workers, as here.
Data: cifar100 as TensorFlow Datasets prepares it (file_format="array_record"). GPUs.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files

LEAST = {2: 0, 4: 6, 8: 4}


def get_config(variant: str = "") -> ConfigDict:
    """A variant is the number of workers (2, 4 or 8), or "tiny"."""
    if variant not in ("", "tiny", *map(str, LEAST)):
        raise ValueError(f"variants are 2, 4, 8 and 'tiny'; found {variant!r}")
    config = config_files.load("quickstart", "tiny" if variant == "tiny" else "", beside=__file__)
    config.methods = ("resist", "local_sgd")
    config.workers = int(variant) if variant.isdecimal() else 4
    if least := LEAST[config.workers]:
        config.method_options.resist = ConfigDict({"min_depth": least})
    config.local_steps = 50
    config.epochs = 160.0
    config.eval_every = 20
    config.data.name = "cifar100"
    config.data.batch = 128
    config.data.split = "all"
    config.optimizer.lr = 0.03
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-4
    config.optimizer.schedule = "steps"
    config.model.name = "resnet"
    config.model.logits = False
    config.model.widths = ConfigDict({"stage3": 22})
    config.model.options = ConfigDict(
        {"blocks": (3, 4, 23, 3), "base": 64, "preactivate": True, "bias": True, "crop": 4}
    )
    if variant == "tiny":
        config.epochs, config.rounds, config.local_steps = 0.0, 2, 2
        config.data.batch, config.statistics_examples = 4, 256
        config.method_options.resist.min_depth = 2
        config.model.widths = ConfigDict({"stage2": 5})
        config.model.options.blocks, config.model.options.base = (1, 6), 2
    return config
