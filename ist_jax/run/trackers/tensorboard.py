"""TensorBoard files, below ``tensorboard/``: a folder for each run."""

import pathlib

from ml_collections import ConfigDict

from ist_jax.run.trackers import Line, Tracker, numbers


def start(config: ConfigDict, workdir: pathlib.Path, run: str) -> Tracker:
    """Scalars by gradient step."""
    from tensorboardX import SummaryWriter  # of the extra tensorboard

    writer = SummaryWriter(str(workdir / "tensorboard" / run))

    def log(line: Line) -> None:
        for key, value in numbers(line).items():
            writer.add_scalar(key, value, line["step"])
        writer.flush()

    return Tracker(log, lambda ended: writer.close())
