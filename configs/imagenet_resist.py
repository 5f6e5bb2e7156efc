"""ResIST on ImageNet, for those who have the data: warmed up by local SGD, then cut by depth.

    python -m experiments.main --config=configs/imagenet_resist.py --config.data.path=FOLDER \\
        --config.mesh.workers=4 --workdir=runs/imagenet_resist

Claim: as configs/cifar100_resist.py, on images of 224.
Paper: Dun et al., UAI 2022: a few epochs of local SGD (here 1,000 rounds of 10 steps: 4 epochs),
and no worker with fewer than 10 blocks. The stem is that of He et al.'s nets for ImageNet.
Data: imagenet2012 as TensorFlow Datasets prepares it (file_format="array_record"). GPUs, and days.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files


def get_config(variant: str = "") -> ConfigDict:
    config = config_files.load("cifar100_resist", variant, beside=__file__)
    config.data.name = "imagenet"
    config.model.options.crop = 0
    config.model.options.large = True
    if variant == "tiny":
        config.data.options.size = 16
        config.warm_up = 1
        return config
    config.data.options.size = 224
    config.epochs = 90.0
    config.local_steps = 10
    config.warm_up = 1000
    config.method_options.resist = ConfigDict({"min_depth": 10})
    config.eval_every = 500
    config.statistics_examples = 1024
    return config
