"""Graph nets on Debian's packages, hidden features cut (GIST): the section of a package.

    python -m experiments.main --config=configs/debian_graph.py --workdir=runs/debian_graph
    python -m experiments.main --config=configs/debian_graph.py:gat --workdir=runs/debian_gat

Claim: as configs/wordnet_sage.py, on a graph with three times the edges a node and hubs among them;
at equal epochs two subnets of 256 features cost nothing here, four 1 point and eight 6.
Paper: Wolfe et al., GIST.
Data: apt's lists of Debian 12, a stand-in (ist_jax/data/sources/debian_graph.py; config.data.path).
Expected: docs/results/gist.md.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files


def get_config(variant: str = "") -> ConfigDict:
    """Variants: as configs/wordnet_sage.py."""
    config = config_files.load("wordnet_sage", variant, beside=__file__)
    config.data.name = "debian_graph"
    return config
