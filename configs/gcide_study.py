"""The rows of docs/results/language.md: who trains what of a decoder, and what is exchanged.

    python -m experiments.main --config=configs/gcide_study.py:ffn --workdir=runs/gcide/ffn
    python -m experiments.main --config=configs/gcide_study.py:whole --workdir=runs/gcide/whole

A variant for each net that a worker holds (ROWS): all of it (whole); its subnets of neurons (ffn),
heads (heads), or both (both); a dense net of the size of those subnets (dense_ffn, dense_both).
Methods that do not exchange once a round have variants of their own (whole_step, dense_ffn_step,
dense_both_step): no optimizer's state stays with a worker there.
The net of configs/gcide.py, S = 4, 500 steps. Learning rates are picked on validation text:
--sweep=config.optimizer.lr=(...). Moments travel with their neurons where nets are cut, and stay
with the worker where they are not.
Every other key, what it means, and what it is here: ist_jax/run/schema.py.
"""

from ml_collections import ConfigDict

from ist_jax.run import config_files

FFN, HEADS = {"ffn": 256}, {"heads": 8}
BOTH = {**FFN, **HEADS}
CUT = ("ist", "rotate")
DENSE, DENSE_STEP = ("dense_local_sgd", "dense_diloco"), ("dense_subnet", "dense_ensemble")
ROWS = {  # groups that are cut, methods, and what becomes of moments
    "whole": ({}, ("local_sgd", "diloco", "snoo"), "own"),
    "whole_step": ({}, ("data_parallel",), "keep"),
    "ffn": (FFN, CUT, "keep"),
    "heads": (HEADS, CUT, "keep"),
    "both": (BOTH, CUT, "keep"),
    "dense_ffn": (FFN, DENSE, "own"),
    "dense_ffn_step": (FFN, DENSE_STEP, "keep"),
    "dense_both": (BOTH, DENSE, "own"),
    "dense_both_step": (BOTH, DENSE_STEP, "keep"),
}


def get_config(variant: str = "") -> ConfigDict:
    row, _, tiny = (variant or "both").partition("_tiny")
    row = "both" if row == "tiny" else row
    if row not in ROWS or tiny:
        raise ValueError(f"configs/gcide_study.py has the variants {', '.join(ROWS)}, each also "
                         f"with _tiny behind it, and tiny; found {variant!r}")  # fmt: skip
    config = config_files.load("gcide", "tiny" if "tiny" in variant else "")
    widths, config.methods, config.optimizer_state = ROWS[row]
    config.model.widths = ConfigDict(widths)
    config.seeds = (0, 1, 2)
    return config
