"""Fashion-MNIST: two hidden layers of 1,024 neurons, 4 workers; the README's table.

    python -m experiments.main --config=configs/fashion_mnist.py --workdir=runs/fashion_mnist

Claim: at equal gradient steps a worker, IST sends a seventh of local SGD's bytes and 1/138 of data
parallel's; what it pays for them in accuracy stands in the table.
Data: Debian's dataset-fashion-mnist, or --config.data.path=FOLDER.
Expected (3 seeds): docs/results/fashion_mnist.md.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files


def get_config(variant: str = "") -> ConfigDict:
    config = config_files.load("quickstart", variant, beside=__file__)
    config.methods = ("ist", "local_sgd", "data_parallel", "ensemble", "dense_subnet", "single")
    config.data.name = "fashion_mnist"
    config.data.batch = 128
    config.local_steps = 20
    config.rounds = 90
    config.eval_every = 9
    if variant == "tiny":
        config.local_steps = 4
        config.rounds = 4
    return config
