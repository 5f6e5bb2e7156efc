"""GraphSAGE on WordNet, hidden features cut (GIST): meanings by what they point to.

    python -m experiments.main --config=configs/wordnet_sage.py --workdir=runs/wordnet_sage
    python -m experiments.main --config=configs/wordnet_sage.py --config.methods="('single',)" \\
        --config.workers=1 --workdir=runs/wordnet_whole

Claim: with GIST a worker of m holds and computes an m-th of each hidden layer's kernels and less of
those between. At equal epochs that costs 3 points of accuracy with two subnets of 256 features, 8
with four and 13 with eight; wider nets get some of it back.
Paper: Wolfe et al., GIST: clusters in place of batches, Adam at 0.01 reset in every round of 100
steps, dropout 0.2, layers normalised node by node, epochs divided by the workers (so that the whole
net, alone, has them all). There all workers go through the clusters in one order
(--config.data.split=same: no difference beyond the seeds'), here each in its own. Widths and epochs
are those that two cores have time for.
Data: WordNet 3.0 (Debian's wordnet-base), a stand-in. Clusters: pip install 'ist_jax[graphs]'.
Expected: docs/results/gist.md.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files

KINDS = ("sage", "gcn", "gat")


def get_config(variant: str = "") -> ConfigDict:
    """A variant is the kind of net ("" is "sage"), or "tiny"."""
    if variant not in ("", "tiny", *KINDS):
        raise ValueError(f"variants are {', '.join(KINDS)} and 'tiny'; found {variant!r}")
    config = config_files.load("quickstart", "tiny" if variant == "tiny" else "", beside=__file__)
    config.methods = ("ist",)
    config.local_steps = 100
    config.epochs = 40.0 if variant == "gat" else 80.0
    config.eval_every = 4
    config.normalise = "none"
    config.data.name = "wordnet"
    config.data.batch = 5
    config.data.split = "all"
    config.data.options.clusters = 200
    config.model.name = "graph"
    config.model.widths = ConfigDict({"hidden0": 256, "hidden1": 256})
    config.model.options.kind = variant if variant in KINDS else "sage"
    config.model.options.drop = 0.2
    config.optimizer.name = "adam"
    config.optimizer.lr = 0.01
    if variant == "tiny":
        config.epochs, config.rounds, config.local_steps = 0.0, 2, 2
        config.model.widths = ConfigDict({"hidden0": 16, "hidden1": 16})
    return config
