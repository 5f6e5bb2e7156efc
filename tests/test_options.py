"""Options in flags, names that are near, and groups of a model beside those of its leaves."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny

from ist_jax import axes, named
from ist_jax.commands import open_keys
from ist_jax.core import by_name
from ist_jax.core.errors import InputError
from ist_jax.models import groups
from ist_jax.run import assemble, checks, config_files, options, planning


def changed(*words, of="quickstart"):
    config = config_files.load(of, "tiny").lock()
    rest, ours = open_keys.split(["main", *words])
    assert rest == ["main"], rest
    open_keys.put(config, ours)
    return config


@pytest.mark.parametrize(
    ("words", "key", "found"),
    [
        (["--config.optimizer.options.b1=0.95"], "optimizer.options", {"b1": 0.95}),
        (['--config.optimizer.options={"b1": 1, "nesterov": true}'], "optimizer.options",
         {"b1": 1, "nesterov": True}),
        (["-config.optimizer.options.mu_dtype=bfloat16"], "optimizer.options",
         {"mu_dtype": "bfloat16"}),
        (["--config.model.widths.hidden1=8"], "model.widths", {"hidden0": 64, "hidden1": 8}),
        (['--config.model.widths={"hidden0": 8}'], "model.widths", {"hidden0": 8}),
        (["--config.model.options.blocks=[3, 4]"], "model.options", {"blocks": (3, 4)}),
        (["--config.method_options.ist.shares=(1, 2)"], "method_options",
         {"ist": {"shares": (1, 2)}}),
        (["--config.method_options.a.b:f.least=2"], "method_options", {"a": {"b:f": {"least": 2}}}),
        (["--config.method_options={'a.b:f': {'least': 2}}"], "method_options",
         {"a": {"b:f": {"least": 2}}}),
        (["--config.task.options.x=1", "--config.task.options={'y': 2}"], "task.options",
         {"x": 1, "y": 2}),
        (["--config.data.options.a=1", "--config.data.options.a=2"], "data.options", {"a": 2}),
        (["--config.data.options.text="], "data.options", {"text": ""}),
    ],
)  # fmt: skip
def test_options_are_set_by_flags_one_at_a_time_or_all_at_once(words, key, found):
    config = changed(*words).to_dict()
    for step in key.split("."):
        config = config[step]
    assert config == found


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--config.model.options=3", r"config\.model\.options must be a mapping, .* found 3"),
        ("--config.model.options={", "must be a mapping"),
        ("--config.data.options.a=" + "(" * 200_000, "too long for a flag"),
        ("--config.data.options.a=" + "[" * 90 + "]" * 90, "nested more than 16 deep"),
    ],
)
def test_a_word_that_is_no_option_is_refused(word, said):
    with pytest.raises(InputError, match=said):
        changed(word)


def test_other_words_are_left_to_others():
    words = ["main", "--config.workers=3", "--config.model.name=a", "x", "--config.model.options"]
    assert open_keys.split(words) == (words, [])
    with pytest.raises(InputError, match="this config has no such group"):
        open_keys.put(config_files.load("sketch_bias"), [open_keys.Word("model.options.a", "1")])


def test_a_method_of_ones_own_gets_its_options(tmp_path, monkeypatch):
    (tmp_path / "their_draws.py").write_text(
        "from ist_jax import method, partition\n"
        "def mine(name, least=1): return method.ist()._replace(name=f'{name}{least}')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    how = {"methods": ("their_draws:mine",)}
    config = tiny(**how, **{"method_options.their_draws:mine": {"name": "x", "least": 3}})
    checks.check(config)
    found = options.of_method(config, "their_draws:mine")
    assert named.find("their_draws:mine", **found).name == "x3"
    with pytest.raises(InputError, match=r"'their_draws:mine' needs a value for name"):
        checks.check(tiny(**how))
    wrong = tiny(**how, **{"method_options.their_draws:mine": {"name": "x", "lest": 3}})
    with pytest.raises(InputError, match=r"no option 'lest'; did you mean 'least'"):
        checks.check(wrong)


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        ("adma", ["sgd", "adam"], "; did you mean 'adam'?"),
        ("ADAM", ["sgd", "adam"], "; did you mean 'adam'?"),
        ("x", ["sgd", "adam"], "; known: adam, sgd"),
        ("x", [], "; known: none"),
        (None, ["a"], "; known: a"),
        ("y" * 10**6, ["a"], "; known: a"),
    ],
)
def test_what_is_near_is_said_or_else_everything(name, known, said):
    assert by_name.hint(name, known) == said


def test_a_function_without_a_signature_takes_any_option():
    by_name.check_options(type, {"anything": 1}, "it")
    with pytest.raises(InputError, match=r"^it has no option 'rate'"):
        by_name.check_options(lambda rate, **more: None, {"rate": 1, "b": 2}, "it", skip=("rate",))


class Net(nn.Module):
    """Of which parts can be wrong: ``names`` of its two leaves, and a ``fixed`` width."""

    widths: dict
    classes: int = 10
    names: tuple = ("h", "h")
    fixed: int = 0
    normalise: str = "none"

    @nn.compact
    def __call__(self, x, *, train):
        wide = self.fixed or self.widths["h"]
        init = nn.initializers.lecun_normal()
        up = nn.with_partitioning(init, (None, self.names[0]))
        down = nn.with_partitioning(init, (self.names[1], None))
        x = jnp.asarray(x).reshape(len(x), 64)
        return x @ self.param("up", up, (64, wide)) @ self.param("down", down, (wide, self.classes))


def described(**what):
    made = Net(**{"widths": {"h": 16}} | what)
    shapes = jax.eval_shape(
        lambda key: made.init(key, np.zeros((2, 64)), train=True), jax.random.key(0)
    )
    return made.widths, axes.describe(*axes.of(shapes))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"widths": {"h": 16, "g": 4}}, "no leaf of the model names group 'g' of its"),
        ({"names": ("h", "hh"), "widths": {"h": 16}},
         r"axis 0 of leaf \S+'down'\] is of group 'hh', which is not .*; did you mean 'h'"),
        ({"fixed": 12}, r"should be 16 wide, and has 12 entries: let the model .* widths\['h'\]"),
    ],
)  # fmt: skip
def test_groups_that_are_declared_and_groups_that_leaves_name(what, said):
    with pytest.raises(InputError, match=said):
        groups.check_groups(*described(**what))
    groups.check_groups(*described())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model.widths": {"h": 16, "g": 4}}, "names group 'g'"),
        ({"model.options": {"names": ("h", "hh")}}, "'hh', which is not among"),
        ({"model.options": {"fixed": 16}}, "should be 4 wide, and has 16 entries"),
        ({"normalise": "standardise"}, None),
    ],
)
def test_a_model_of_ones_own_that_would_be_cut_wrongly_is_refused(changes, said):
    name = {"model.name": "test_options:Net", "model.widths": {"h": 16}, "normalise": "none"}
    config = tiny(**(name | changes))
    checks.check(config)
    if said is None:
        return
    with pytest.raises(InputError, match=said):
        assemble.jobs(config, planning.load(config))


def test_a_policy_that_a_model_does_not_know_is_refused(monkeypatch):
    monkeypatch.syspath_prepend("tests/theirs")
    at = {"model.name": "attention:Attention", "model.widths": {"heads": 8}}
    with pytest.raises(InputError, match=r"'standardise', but 'attention:Attention' takes no arg"):
        checks.check(tiny(**at))
    checks.check(tiny(**at, normalise="none"))
