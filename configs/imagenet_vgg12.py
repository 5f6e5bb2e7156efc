"""VGG12 on full ImageNet (21,841 classes), for those who have the data; tables 1 and 2.

    python -m experiments.main --config=configs/imagenet_vgg12.py --config.data.path=FOLDER \\
        --config.mesh.workers=8 --workdir=runs/imagenet_vgg12

Claim: with all 21,841 classes 95 % of the net is dense; a worker of 8 holds a sixth of it, and
sends a sixth once in J steps, where data parallel training sends all of it at each
(benchmarks/imagenet_head.py).
Paper: Yuan et al., PVLDB 15(8), 2022, section 3; it reports the accuracy of the ten best.
Data: a folder prepared in the manner of TensorFlow Datasets (array_record) with "image" and
"label"; the full set has 14 million images, 1.3 TB, and no published builder. With imagenet2012
(1,000 classes, 150 GB; a worker of 8 holds 19 %) the same command works, and --dry_run without
data is for those. GPUs or TPUs, and days.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files


def get_config(variant: str = "") -> ConfigDict:
    config = config_files.load("cifar10_resnet18", variant, beside=__file__)
    config.workers = 8
    config.top = 10
    config.data.name = "imagenet"
    config.statistics_examples = 256
    config.model.name = "vgg"
    config.model.options = ConfigDict()
    if variant == "tiny":
        config.data.options.size = 8
        config.model.widths = ConfigDict({"hidden0": 16, "hidden1": 16})
        config.model.options.stages = ((2,), (2,))
        return config
    config.data.batch = 32
    config.data.options.size = 224
    config.eval_every = 500
    config.model.widths = ConfigDict({"hidden0": 4096, "hidden1": 4096})
    return config
