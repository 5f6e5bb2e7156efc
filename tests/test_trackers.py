"""Trackers see every line of a run, in the calls of the packages themselves; none ends a run."""

import importlib.util
import json
import sys
import types

import pytest
from conftest import tiny

from ist_jax.core.errors import InputError
from ist_jax.run import checks, trackers, training

CALLS = []


def lines(folder):
    return [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]


def tracked(config, workdir, run="ist_0", lines=()):
    with trackers.tracking(trackers.chosen(config), config, workdir, run) as log:
        for line in lines:
            log(line)


LINE = {"method": "ist", "seed": 0, "round": 2, "step": 16, "accuracy/test": 0.5, "absent": {}}


class FakeWandb(types.ModuleType):
    """The calls that we make, with the names and the defaults of wandb 0.31.0."""

    def init(
        self,
        entity=None,
        project=None,
        dir=None,
        name=None,
        config=None,
        group=None,
        mode=None,
        reinit=None,
        settings=None,
    ):
        assert reinit in (None, "default", "return_previous", "finish_previous", "create_new")
        assert mode in (None, "online", "offline", "disabled", "shared")
        self.calls = [("init", {k: v for k, v in locals().items() if k not in ("self", "config")})]
        self.config = config
        return self

    def log(self, data, step=None, commit=None):
        self.calls.append(("log", data, step))

    def finish(self, exit_code=None):
        self.calls.append(("finish", exit_code))


@pytest.fixture
def wandb(monkeypatch):
    for key in ("MODE", "PROJECT", "DIR"):
        monkeypatch.delenv(f"WANDB_{key}", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb("wandb"))
    return sys.modules["wandb"]


def test_wandb_is_offline_and_gets_numbers_by_step(wandb, tmp_path):
    config = tiny(trackers=("wandb",))
    tracked(config, tmp_path / "run", lines=[LINE])
    (_, started), *rest = wandb.calls
    wanted = {"mode": "offline", "dir": str(tmp_path / "run"), "name": "ist_0", "group": "run"}
    assert wanted.items() <= started.items()
    assert wandb.config == config.to_dict()
    assert rest == [("log", {"accuracy/test": 0.5}, 16), ("finish", 0)]


def test_the_environment_decides_for_wandb(wandb, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    tracked(tiny(trackers=("wandb",)), tmp_path)
    started = wandb.calls[0][1]
    assert (started["mode"], started["project"], started["dir"]) == (None, None, str(tmp_path))


class FakeMlflow(types.ModuleType):
    """The calls that we make, with the names and the defaults of mlflow 3.17.2."""

    def MlflowClient(self, tracking_uri=None, registry_uri=None):
        self.uri, self.calls, self.params = tracking_uri, [], {}
        return self

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name, artifact_location=None, tags=None):
        self.calls.append(("experiment", name, artifact_location))
        return "7"

    def create_run(self, experiment_id, start_time=None, tags=None, run_name=None):
        self.calls.append(("run", experiment_id, run_name))
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id="abc"))

    def log_batch(self, run_id, metrics=(), params=(), tags=(), synchronous=None):
        assert len(params) <= 100
        assert all(len(value) <= 500 for _, value in params)
        self.params |= dict(params)
        self.calls += [(run_id, key, value, step) for key, value, _, step in metrics]

    def set_terminated(self, run_id, status=None, end_time=None):
        self.calls.append(("end", run_id, status))


@pytest.fixture
def mlflow(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    entities = types.ModuleType("mlflow.entities")
    entities.Metric = lambda key, value, timestamp, step: (key, value, timestamp, step)
    entities.Param = lambda key, value: (key, value)
    monkeypatch.setitem(sys.modules, "mlflow", FakeMlflow("mlflow"))
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return sys.modules["mlflow"]


def test_mlflow_is_a_file_below_the_run_and_gets_numbers_by_step(mlflow, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    tracked(tiny(trackers=("mlflow",)), folder, lines=[LINE])
    assert mlflow.uri == f"sqlite:///{folder}/mlflow/mlflow.db"
    assert mlflow.calls == [
        ("experiment", "run", (folder / "mlflow/artifacts").as_uri()),
        ("run", "7", "ist_0"),
        ("abc", "accuracy/test", 0.5, 16),
        ("end", "abc", "FINISHED"),
    ]
    assert mlflow.params["optimizer.lr"] == str(tiny().optimizer.lr)


def test_the_environment_decides_for_mlflow_and_a_run_that_breaks_off_is_killed(
    mlflow, monkeypatch, tmp_path
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    config = tiny(trackers=("mlflow",))
    with (
        pytest.raises(KeyboardInterrupt),
        trackers.tracking(trackers.chosen(config), config, tmp_path, "ist_0"),
    ):
        raise KeyboardInterrupt
    assert mlflow.uri == "http://127.0.0.1:9"
    assert mlflow.calls[-1] == ("end", "abc", "KILLED")
    assert not list(tmp_path.iterdir())


def mine(config, workdir, run):
    return trackers.Tracker(lambda line: CALLS.append((run, line["round"])), CALLS.append)


def broken(config, workdir, run):
    def fail(line):
        line.clear()
        raise OSError("no space\nleft")

    return trackers.Tracker(fail, fail)


def unstartable(config, workdir, run):
    raise RuntimeError("not logged in")


def test_a_run_goes_on_without_trackers_that_fail(tmp_path, capsys):
    names = tuple(f"{__name__}:{name}" for name in ("broken", "unstartable", "mine"))
    config = tiny(trackers=(*names, "tensorboard", "tensorboard"), eval_every=3)
    assert trackers.names(config) == (*names, "tensorboard")
    CALLS.clear()
    training.run(config, tmp_path / "run")
    assert CALLS == [("ist_0", 0), ("ist_0", 3), ("ist_0", 6), True]
    assert [line["round"] for line in lines(tmp_path / "run")] == [0, 3, 6]
    assert len(list((tmp_path / "run/tensorboard/ist_0").iterdir())) == 1
    warned = [row for row in capsys.readouterr().err.splitlines() if "warning" in row]
    why = {names[1]: "RuntimeError: not logged in", names[0]: "OSError: no space"}
    assert warned == [
        f"warning: tracker {name} failed in ist_0 ({error}); the run goes on"
        for name, error in why.items()
    ]


@pytest.mark.parametrize("name", trackers.TRACKERS)
def test_what_is_not_installed_is_named_before_anything_trains(name, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, trackers.TRACKERS[name], None)
    with pytest.raises(InputError, match=rf"config\.trackers: .*pip install 'ist_jax\[{name}\]'"):
        training.run(tiny(trackers=(name,)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("wanbd",), r"config\.trackers: there is no 'wanbd'; did you mean 'wandb'\?"),
        (("",), r"config\.trackers: there is no ''; known: mlflow, tensorboard, wandb"),
        ("wandb", r"config\.trackers must be a tuple, as \('tensorboard',\), found 'wandb'"),
        ((1,), r"config\.trackers must be text, found 1"),
    ],
)
def test_names_that_there_are_not_are_refused_with_the_config(names, message):
    config = tiny()
    with config.ignore_type():
        config.trackers = names
    with pytest.raises(InputError, match=message):
        checks.check(config)


@pytest.mark.parametrize("name", ["no_such_module:start", f"{__name__}:no_such_function"])
def test_trackers_of_ones_own_that_there_are_not_are_refused(name):
    with pytest.raises(InputError, match=r"config\.trackers='.*': module"):
        trackers.chosen(tiny(trackers=(name,)))


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of packages that are not ours
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_the_packages_themselves_take_a_run_and_send_nothing(name, monkeypatch, tmp_path):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    for key in ("http_proxy", "https_proxy"):  # where nobody listens
        monkeypatch.setenv(key, "http://127.0.0.1:9")
    training.run(tiny(trackers=(name,)), tmp_path / "run")
    training.run(tiny(trackers=(name,)), tmp_path / "run", overwrite=True)
    if name == "wandb":
        assert len(list((tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb"))) == 1
        return
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/run/mlflow/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("run").experiment_id])
    found = client.get_metric_history(run.info.run_id, "accuracy/test")
    wanted = {line["step"]: line["accuracy/test"] for line in lines(tmp_path / "run")}
    assert {metric.step: metric.value for metric in found} == wanted
    assert run.info.status == "FINISHED"
