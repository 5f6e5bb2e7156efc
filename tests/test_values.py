"""Every wrong value in every key of every config: one line that names the key, or a right type."""

import functools
import math

import pytest
from ml_collections import ConfigDict

from ist_jax.commands import shared_flags
from ist_jax.core.errors import InputError
from ist_jax.run import assemble, checks, config_files, sketching

CONFIGS = config_files.names()
WRONG = (
    None,
    True,
    False,
    "",
    "a",
    "a\nb",
    "\0",
    "\ud800",
    "~no_such_user/a",
    "\u0661",
    "x" * 10_000,
    [],
    [1],
    {},
    ConfigDict(),
    ConfigDict({1: 2}),
    ConfigDict({"a": None}),
    (),
    (None,),
    (True,),
    ([],),
    ((1,), (2,)),
    (["ist"],),
    ("a", 1, 1, 1),
    (1e308, 1e308, 1, 1),
    b"x",
    math.nan,
    math.inf,
    (math.nan,),
    -1,
    0,
    2.0,
    1e308,
    1e-320,
    10**30,
    10**5000,
    (10**30,),
    1j,
    object(),
)


def leaves(config, above=()):
    for key, value in config.items():
        yield (*above, key)
        if isinstance(value, ConfigDict):
            yield from leaves(value, (*above, key))


def loose(config):
    """One that takes any value, as a home-made config may."""
    found = ConfigDict(type_safe=False)
    for key, value in config.items():
        found[key] = loose(value) if isinstance(value, ConfigDict) else value
    return found


def complaint(look, config):
    try:
        look(config)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", CONFIGS)
def test_a_wrong_value_in_any_key_is_refused_by_name_or_has_the_right_type(name):
    config = config_files.load(name)
    look = sketching.checked if "figure" in config else checks.check
    config, accepted = loose(config), 0
    for path in list(leaves(config)):
        if name != "quickstart" and "figure" not in config and "options" not in path:
            continue  # those have the quickstart's keys
        inner = functools.reduce(lambda tree, key: tree[key], path[:-1], config)
        usual = inner[path[-1]]
        for value in WRONG:
            del inner[path[-1]]  # whose type it would be cast to
            inner[path[-1]] = value
            told = complaint(look, config)
            if told is None:
                accepted += 1
                like(usual, inner[path[-1]], path)
            else:
                assert told.count("\n") == 0
                assert len(told) < 5000
                assert path[-1] in told, (path, value, told)
        del inner[path[-1]]
        inner[path[-1]] = usual
    assert accepted


def like(usual, value, path):
    """Whether a value that was let in has the type of the usual one, and is finite."""
    if isinstance(usual, bool) or isinstance(value, bool):
        assert type(usual) is type(value), path
    elif isinstance(usual, float):
        assert math.isfinite(value), path
    elif isinstance(usual, tuple):
        assert isinstance(value, tuple | list), path
        for part in value:
            like(usual[0] if usual else 1.0, part, path)
    else:
        assert isinstance(value, type(usual)), path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ist,local_sgd", ("ist", "local_sgd")),
        ("ist", ("ist",)),
        ("(0, 1)", (0, 1)),
        ("0,1", (0, 1)),
        ("('ist',)", ("ist",)),
        ("()", ()),
        ("[0.5]", (0.5,)),
    ],
)
def test_a_tuple_in_a_flag_is_what_was_said(text, found):
    assert shared_flags.Tuples().parse(text) == found


@pytest.mark.parametrize("text", ["3", "0.5", "True", "(", "ist local_sgd", "'a", "(" * 5000, "-"])
def test_what_is_no_tuple_is_refused_and_one_is_shown(text):
    with pytest.raises(ValueError, match=r"that is no tuple.*\(0, 1, 2\)"):
        shared_flags.Tuples().parse(text)


def test_steps_that_no_optimizer_counts_are_refused_by_key():
    config = config_files.load("quickstart", "tiny")
    config.local_steps, config.rounds = 2**30, 2
    with pytest.raises(InputError, match=r"2 rounds of config\.local_steps=1073741824 are more"):
        assemble.rounds(config, None)


def test_seeds_that_would_be_one_are_refused():
    config = config_files.load("quickstart", "tiny")
    config.seeds = (0, 2**32)  # jax.random.key takes 32 bits
    with pytest.raises(InputError, match="seeds must be from 0 to 4294967295, found 4294967296"):
        checks.check(config)
