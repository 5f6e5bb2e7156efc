"""Configs in YAML: the same as in Python, and file, line and key of everything that is wrong."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

from ist_jax.core.errors import InputError
from ist_jax.run import checks, config_files, schema


@pytest.fixture
def write(tmp_path):
    def put(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return put


def test_what_is_listed_differs_and_the_rest_is_as_usual(write):
    path = write(
        "methods: [ist, local_sgd]   # a comment\n"
        "workers: 8\n"
        "optimizer: {name: adamw, lr: 1e-3, weight_decay: 1, options: {b2: 0.95}}\n"
        "model:\n  widths: {hidden0: 64}\n"
        "method_options:\n  their.package:method: {least: 2}\n  ist: {shares: [1, 2]}\n"
    )
    wanted = schema.default()
    wanted.methods, wanted.workers = ("ist", "local_sgd"), 8
    wanted.optimizer.name, wanted.optimizer.lr, wanted.optimizer.weight_decay = "adamw", 1e-3, 1.0
    wanted.optimizer.options.b2 = 0.95
    wanted.model.widths = {"hidden0": 64}
    wanted.method_options = {"their": {"package:method": {"least": 2}}, "ist": {"shares": (1, 2)}}
    assert config_files.of_yaml(path).to_dict() == wanted.to_dict()


def test_an_empty_file_is_the_usual_config(write):
    assert config_files.of_yaml(write("# nothing yet\n")).to_dict() == schema.default().to_dict()


def test_it_derives_from_a_config_by_its_name(write):
    wanted = config_files.load("quickstart", "tiny")
    wanted.rounds = 3
    path = write("base: quickstart:tiny\nrounds: 3\n")
    assert config_files.of_yaml(path).to_dict() == wanted.to_dict()
    write("rounds: 7\nworkers: 2\n", "other.yml")
    below = config_files.of_yaml(write("base: other\nworkers: 3\n"))
    assert (below.rounds, below.workers) == (7, 3)
    assert config_files.load("other", beside=path).rounds == 7
    figure = config_files.of_yaml(write("base: sketch_bias\nseed: 5\n"))
    assert figure.seed == 5


def test_a_file_of_an_earlier_version_is_upgraded(write):
    config = config_files.of_yaml(write("version: 1\nmin_depth: 2\nmodel: {name: resnet}\n"))
    assert config.method_options.resist.min_depth == 2
    assert config.version == schema.VERSION


def test_a_single_value_where_several_may_stand(write):
    config = config_files.of_yaml(write("methods: ist\nseeds: 3\ntrackers: tensorboard"))
    assert config.methods == ("ist",)
    assert config.seeds == (3,)
    assert config.trackers == ("tensorboard",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nwrokers: 2", r"line 1: unknown key config\.a"),
        ("workers: 2\nwrokers: 2", r"line 2: unknown key config\.wrokers; did you mean 'workers'"),
        ("optimizer:\n  lrr: 1", r"line 2: .* config\.optimizer\.lrr; did you mean 'lr'"),
        ("workers: four", r"line 1: config\.workers must be a whole number, found 'four'"),
        ("seeds: [0,\n 1.5]", r"line 1: config\.seeds must be a whole number, found 1\.5 in"),
        (
            "optimizer:\n  lr: '1e-3'",
            r"line 2: config\.optimizer\.lr must be a number, f",
        ),
        ("workers: 0", r"line 1: config\.workers must be from 1 to 65536, found 0"),
        ("optimizer: {lr: true}", r"line 1: config\.optimizer\.lr must be a number, found True"),
        ("seeds: true", r"line 1: config\.seeds must be a whole number, found True in \(True,\)"),
        ("optimizer: adam", r"line 1: config\.optimizer must be a group of keys, found 'adam'"),
        ("workers: {a: 1}", r"line 1: config\.workers must be a value"),
        ("workers: 1\nrounds: 2\nworkers: 2", r"line 3: key 'workers' is in line 1 already"),
        ("data:\n  batch: 1\n  batch: 2", r"line 3: key 'data\.batch' is in line 2 already"),
        ("workers:", "line 1: a key needs a value"),
        ("? [1]\n: 2", "line 1: a key must be a word, found a sequence"),
        ("a: &x [1]\nb: *x", r"line \d: aliases \(\*name\) are not taken"),
        ("a: !!python/tuple [1]", r"tags \(tag:yaml\.org,2002:python/tuple\) are not taken"),
        ("a: !!python/name:os.system x", "could not determine a constructor"),
        ("workers: [1", r"line 1: that is no YAML \("),
        ("- 1\n- 2", "must hold keys of a config"),
        ("text", "must hold keys of a config"),
        ("base: 3", "line 1: base must be the name of a config, found 3"),
        ("workers: 2\nbase: quickstar", r"line 2: there is no config 'quickstar'; did you mean"),
        ("base: quickstart:tinny", r"line 1: .*one variant, 'tiny'; found 'tinny'"),
        ("base: mine", "line 1: there is no config 'mine'"),
        ("version: 3", r"line 1: config\.version is 3, and ist_jax"),
        ("min_depth: 3", r"line 1: unknown key config\.min_depth"),
        ("a: " + "[" * 3000, "nested too deep"),
        ("\0", "that is no YAML"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_one_line_with_file_and_line(write, text, said):
    path = write(text)
    with pytest.raises(InputError, match=said) as caught:
        config_files.of_yaml(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_that_are_no_text_too_large_or_derive_from_each_other(write, tmp_path):
    path = write("")
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match=r"no text in UTF-8|no YAML"):
        config_files.of_yaml(path)
    path.write_bytes(b"#" * (1 << 20) + b"##")
    with pytest.raises(InputError, match="has more than 1048576 bytes"):
        config_files.of_yaml(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        config_files.of_yaml(tmp_path / "none.yaml")
    write("base: b\n", "a.yaml")
    write("base: a\n", "b.yaml")
    with pytest.raises(InputError, match="derives from this one"):
        config_files.of_yaml(tmp_path / "a.yaml")


def test_the_config_of_the_readme_passes_the_checks(write):
    text = re.search(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    config = config_files.of_yaml(write(text))
    checks.check(config)
    assert config.optimizer.schedule_options.warmup_steps == 10


def test_a_config_in_yaml_passes_the_checks(write):
    checks.check(config_files.of_yaml(write("base: quickstart:tiny\noptimizer: {name: lion}\n")))


QUICK = """
import resource, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module("ist_jax.commands.cli", run_name="__main__")
except SystemExit as end:
    assert end.code == 2, end.code
assert "jax" not in sys.modules
print("seconds", resource.getrusage(resource.RUSAGE_SELF).ru_utime)
"""


def test_a_wrong_key_in_yaml_is_said_before_jax_is_imported(write):
    path = write("workers: 2\nwrokers: 3\n")
    words = [sys.executable, "-c", QUICK, "ist-jax", "train", f"--config={path}", "--dry_run"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    said = f"error: {path}, line 2: unknown key config.wrokers; did you mean 'workers' or "
    said += "'trackers'?\n"
    assert done.stderr == said
    assert float(done.stdout.split("seconds")[1]) < 0.5
