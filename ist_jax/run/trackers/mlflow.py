"""MLflow: a SQLite file below ``mlflow/``, or wherever ``MLFLOW_TRACKING_URI`` points."""

import os
import pathlib
import time

from ml_collections import ConfigDict

from ist_jax.run.compare import flat
from ist_jax.run.trackers import Line, Tracker, numbers

LONGEST = 500  # characters of a parameter, which older servers take
MOST = 100  # parameters of a call


def start(config: ConfigDict, workdir: pathlib.Path, run: str) -> Tracker:
    """A run of MLflow for each of ours, all in one experiment; metrics by gradient step."""
    import mlflow  # of the extra mlflow
    from mlflow.entities import Metric, Param

    uri, artifacts = os.environ.get("MLFLOW_TRACKING_URI"), None
    if uri is None:
        folder = workdir.absolute() / "mlflow"
        folder.mkdir(exist_ok=True)
        uri, artifacts = f"sqlite:///{folder}/mlflow.db", (folder / "artifacts").as_uri()
    client = mlflow.MlflowClient(tracking_uri=uri)
    title = os.environ.get("MLFLOW_EXPERIMENT_NAME", workdir.absolute().name)
    known = client.get_experiment_by_name(title)
    place = known.experiment_id if known else client.create_experiment(title, artifacts)
    number = client.create_run(place, run_name=run).info.run_id
    params = [Param(key, str(value)[:LONGEST]) for key, value in flat(config.to_dict()).items()]
    for first in range(0, len(params), MOST):
        client.log_batch(number, params=params[first : first + MOST])

    def log(line: Line) -> None:
        now, step = int(1000 * time.time()), line["step"]
        found = [Metric(key, value, now, step) for key, value in numbers(line).items()]
        client.log_batch(number, metrics=found)

    ends = {True: "FINISHED", False: "KILLED"}
    return Tracker(log, lambda ended: client.set_terminated(number, status=ends[ended]))
