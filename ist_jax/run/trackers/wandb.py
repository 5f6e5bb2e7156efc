"""Weights & Biases, offline: files below ``wandb/``, which ``wandb sync`` uploads if you want.

The environment decides otherwise: ``WANDB_MODE=online`` sends as the run goes on, and
``WANDB_PROJECT``, ``WANDB_ENTITY``, ``WANDB_DIR`` mean what they always mean.
"""

import os
import pathlib

from ml_collections import ConfigDict

from ist_jax.run.trackers import Tracker, numbers


def start(config: ConfigDict, workdir: pathlib.Path, run: str) -> Tracker:
    """A run of Weights & Biases for each of ours, all in one group; lines by gradient step."""
    import wandb  # of the extra wandb

    usual = {"WANDB_MODE": "offline", "WANDB_PROJECT": "ist_jax", "WANDB_DIR": str(workdir)}
    mode, project, folder = (None if key in os.environ else usual[key] for key in usual)
    started = wandb.init(
        project=project,
        dir=folder,
        name=run,
        group=workdir.name,
        config=config.to_dict(),
        mode=mode,
        reinit="create_new",  # whoever calls us may have a run of their own
        settings={"silent": True, "console": "off"},  # the terminal is ours
    )
    return Tracker(
        log=lambda line: started.log(numbers(line), step=line["step"]),
        close=lambda ended: started.finish(exit_code=0 if ended else 1),
    )
