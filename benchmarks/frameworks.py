"""Models of five frameworks trained with IST on the digits: the table of docs/your_model.md.

    python -m benchmarks.frameworks --seeds 0 1 2

The models are those of ``tests/recipes``, two hidden layers of 256 neurons, four workers. Prints
the mean accuracy over the seeds, in per cent, a row for each kind of model.
"""

import argparse
import importlib
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

import ist_jax
from ist_jax import data
from ist_jax.models.mlp import MLP
from ist_jax.run.markdown import aligned

FRAMEWORKS = ("linen", "nnx", "equinox", "haiku", "raw")
WIDTHS = {"hidden0": 256, "hidden1": 256}
HEADS = {"heads": 8, "inner": 64}
Make = Callable[[Any], Any]  # of a module of recipes, its model
ROWS: dict[str, tuple[Make, dict[str, int]]] = {
    "over the batch": (lambda recipe: recipe.mlp(), WIDTHS),
    "LayerNorm": (lambda recipe: recipe.mlp("layer"), WIDTHS),
    "LayerNorm, no scale or shift": (lambda recipe: recipe.mlp("layer, plain"), WIDTHS),
    "RMSNorm": (lambda recipe: recipe.mlp("rms"), WIDTHS),
    "N/m, no normalisation": (lambda recipe: recipe.mlp("scale"), WIDTHS),
    "nothing": (lambda recipe: recipe.mlp("none"), WIDTHS),
    "over the batch, dropout 0.2": (lambda recipe: recipe.mlp(dropout=0.2), WIDTHS),
    "over the batch, bf16": (lambda recipe: recipe.mlp(dtype=jnp.bfloat16), WIDTHS),
    "tied weights, LayerNorm": (lambda recipe: recipe.tied, WIDTHS),
    "attention, 8 heads, Adam 0.01": (lambda recipe: recipe.attention, HEADS),
}
LACKS = {("N/m, no normalisation", "nnx")}  # its module does not know the whole net's widths


def accuracies(model: Any, widths: Any, optimizer: Any, seeds: Sequence[int]) -> list[float]:
    """In per cent, of the whole net on test images, after 60 rounds; one for each seed."""
    how: Any = {"widths": widths, "optimizer": optimizer, "eval_every": 60, "progress": False}
    runs = [ist_jax.fit(model, data.load("digits"), seed=seed, **how) for seed in seeds]
    return [100 * float(run.history["accuracy/test"][-1]) for run in runs]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cache", help="a folder for compiled programs: seeds share them")
    options = parser.parse_args()
    if options.cache:
        jax.config.update("jax_compilation_cache_dir", options.cache)
    for policy in ("standardise", "scale", "none"):
        found = accuracies(MLP(WIDTHS, 10, normalise=policy), None, None, options.seeds)
        print(f"ours, {policy}: {statistics.mean(found):.2f} {_rounded(found)}", flush=True)
    rows = [["", *FRAMEWORKS], ["---"] + ["---:"] * len(FRAMEWORKS)]
    for label, (make, widths) in ROWS.items():
        optimizer = optax.adam(0.01) if "Adam" in label else None
        row = [label]
        for framework in FRAMEWORKS:
            recipe = importlib.import_module(f"tests.recipes.{framework}")
            if (label, framework) in LACKS:
                row.append("-")
                continue
            found = accuracies(make(recipe), widths, optimizer, options.seeds)
            row.append(f"{statistics.mean(found):.2f}")
            print(f"{label}, {framework}: {_rounded(found)}", file=sys.stderr, flush=True)
        rows.append(row)
    print(aligned(rows))
    return 0


def _rounded(found: Sequence[float]) -> list[float]:
    return [round(value, 2) for value in found]


if __name__ == "__main__":
    sys.exit(main())
