"""Google Speech Commands, 35 words: one hidden layer of 4,096; tables 1 to 3.

    python -m experiments.main --config=configs/speech_2layer.py --workdir=runs/speech_2layer
    python -m experiments.main --config=configs/speech_2layer.py:real \\
        --config.data.path=FOLDER --workdir=runs/speech_2layer_real

Claim: IST reaches an accuracy in a fraction of the time that data parallel training and local SGD
need where the link is slow (benchmarks/time_to_accuracy.py), and ends where they end.
Paper: Yuan et al., PVLDB 15(8), 2022, section 3: SGD 0.01 (on synthetic speech 0.1), batch 128 a
worker, all workers see all data; 2, 4 and 8 workers (--config.workers).
Data: variant "real" reads the raw archive (speech_commands v0.02; clips that are not a second long
are left out, as the paper's release does). Without it, the words are synthesised (not speech of
people: pip install 'ist_jax[speech]'), 35,000 clips, held-out voices.
Expected: docs/results/vldb.md.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files

HIDDEN = {"hidden0": 4096}


def get_config(variant: str = "", hidden: dict[str, int] | None = None) -> ConfigDict:
    """Variants: "" (synthetic), "real", "tiny" (the digits in place of speech)."""
    if variant not in ("", "real", "tiny"):
        raise ValueError(f"variants are 'real' and 'tiny'; found {variant!r}")
    config = config_files.load("quickstart", "tiny" if variant == "tiny" else "", beside=__file__)
    config.methods = ("ist", "local_sgd", "data_parallel", "ensemble")
    config.data.batch = 128
    config.data.split = "all"
    config.model.widths = ConfigDict(hidden or HIDDEN)
    if variant == "tiny":
        config.data.batch = 16
        config.rounds = 2
        config.model.widths = ConfigDict(dict.fromkeys(hidden or HIDDEN, 32))
        return config
    config.data.name = "speech_commands" if variant == "real" else "speech_synthetic"
    config.data.skip_bad = variant == "real"
    if variant == "real":
        config.data.options.holdout = "lists"  # or "speakers"
        config.optimizer.lr = 0.01
    else:
        config.data.options.clips = 35_000
    config.rounds = 2000 if variant == "real" else 60
    config.eval_every = 4
    config.statistics_examples = 4096
    config.checkpoint.every = 50
    return config
