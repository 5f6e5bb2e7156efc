"""Configs: what is refused before anything is built, dry run and real run alike."""

import pytest
from conftest import tiny

from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.run import assemble, planning, training


def test_epochs_set_the_rounds_and_an_epoch_shorter_than_a_round_still_trains():
    digits = data.load("digits")
    assert assemble.rounds(tiny(epochs=2.0), digits) == 2  # 2 * 898 / (4 * 8 * 32), rounded up
    assert assemble.rounds(tiny(epochs=0.01), digits) == 1
    assert assemble.rounds(tiny(), digits) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 65}, "'hidden0' has 64 neurons, too few for 65 workers"),
        ({"workers": 0}, "workers must be from 1 to 65536, found 0"),
        ({"data.batch": 10_000}, r"data\.batch=10000 is more than all 898 examples of digits"),
        (
            {"method_options.loft.assignment": "balanced"},
            "'loft' has no option 'assignm",
        ),
        (
            {"method_options.resist.min_dept": 2},
            "option 'min_dept'; did you mean 'min_depth'",
        ),
        ({"method_options.resit.min_depth": 2}, "no 'resit'; did you mean 'resist'"),
        ({"method_options.resist.min_depth": 2.5}, r"resist\.min_depth must be a whole number"),
        ({"method_options.ist": 2}, r"config\.method_options\.ist must be options of a method"),
        ({"task.options.loss": "softmax"}, "task of model 'mlp' has no option 'loss'; it has none"),
        ({"version": 1}, r"config\.version is that of the keys, 2, found 1"),
        ({"optimizer.options.momentun": 0.9}, "'sgd' has no option .*; did you mean 'momentum'"),
        ({"optimizer.options.nesterov": 1}, "nesterov must be True or False"),
        (
            {"optimizer.options.momentum": 0.5, "optimizer.momentum": 0.9},
            r"options\.momentum and config\.optimizer\.momentum: which",
        ),
        ({"optimizer.options.learning_rate": 0.5}, r"set config\.optimizer\.lr in its place"),
        ({"optimizer.name": "dpsgd"}, "needs a value for l2_norm_clip, noise_multiplier, seed"),
        ({"optimizer.name": "builtins:print"}, "name='builtins:print' fails with"),
        ({"optimizer.warm_up_steps": 48}, "warm_up_steps=48 leaves none of 48 steps"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"data.batch": 1}, r"data\.batch must be at least 2 to standardise"),
        ({"epochs": float("nan")}, "epochs must be at least 0, found nan"),
        ({"seeds": (-1,)}, r"seeds must be from 0 to 4294967295, found -1 in \(-1,\)"),
        ({"seeds": ("a",)}, "seeds must be a whole number, found 'a'"),
        ({"optimizer.lr": float("inf")}, "lr must be at most 1e"),
        (
            {"optimizer.name": "adam", "optimizer.momentum": 0.9},
            "momentum is 0.9, and 'adam' takes none",
        ),
        ({"data.batch": 0}, r"data\.batch must be at least 1"),
        ({"data.batch": 31, "mesh.data": 2}, r"batch=31 cannot be split evenly over the .*data=2"),
        ({"methods": ("ist", "lokal_sgd")}, "no 'lokal_sgd'; did you mean 'local_sgd'"),
        ({"methods": ()}, "methods is empty"),
        ({"seeds": (1, 1)}, "seeds must be a tuple of different values"),
        ({"method_options.ist.assignment": "random"}, "assignment 'random'; known: balanced"),
        ({"method_options.ist.shares": (1, 2)}, "shares must be 4 positive numbers"),
        ({"normalise": "batch"}, "normalise must be one of standardise, scale, share, none"),
        (
            {"normalise": "scale", "method_options.ist.shares": (2, 1, 1, 1)},
            r"leave config\.method_options\.ist\.shares empty",
        ),
        ({"optimizer_state": "forget"}, "optimizer_state must be 'reset', 'keep' or 'own'"),
        ({"optimizer.name": "sdg"}, r"optimizer\.name: there is no 'sdg'; did you mean 'sgd'"),
        ({"optimizer.lr": 0.0}, "lr must be positive"),
        ({"optimizer.lr": float("nan")}, "lr must be positive"),
        ({"optimizer.schedule": "linear"}, r"schedule: there is no 'linear'; known: constant"),
        ({"model.name": "mpl"}, r"model\.name: there is no 'mpl'; did you mean 'mlp'"),
        ({"data.name": "digit"}, "no 'digit'; did you mean 'digits'"),
        ({"data.path": "/nowhere"}, "take no data.path"),
        ({"data.split": "half"}, "must be 'disjoint', 'all' or 'same'"),
        ({"data.skew": -1.0}, r"data\.skew must be at least 0"),
        ({"mesh.workers": 3}, "4 workers cannot be dealt out evenly to 3 devices"),
        ({"mesh.workers": 99}, "asked for 99 devices, there are 8"),
        ({"lottery.pruned": (0.5, 1.0)}, "pruned must be above 0 and below 1"),
        ({"lottery.pruned": (0.5, 0.5)}, "pruned must be different shares"),
        ({"lottery.epochs": 0.0}, r"lottery\.epochs must be positive"),
        ({"statistics_examples": 10}, "must be at least 256"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_value_is_one_clear_complaint(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        planning.dry_run(tiny(**changes))
    with pytest.raises(InputError, match=message):
        training.run(tiny(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_keys_of_a_home_made_config_are_checked(tmp_path):
    config = tiny()
    with config.unlocked():
        config.local_stepz = 5
    with pytest.raises(InputError, match=r"config\.local_stepz; did you mean 'local_steps'"):
        planning.dry_run(config)
    config = tiny()
    with config.unlocked():
        config.min_depth = 5
    with pytest.raises(InputError, match=r"config\.min_depth: it is now config\.method_options"):
        planning.dry_run(config)
    config = tiny()
    config.model.widths = {"hidden0": 32.5}
    with pytest.raises(InputError, match=r"widths\.hidden0 must be a whole number, found 32\.5"):
        planning.dry_run(config)
    config = tiny()
    with config.unlocked():
        del config.optimizer.momentum
    with pytest.raises(InputError, match=r"config\.optimizer\.momentum is missing"):
        planning.dry_run(config)


def test_the_width_of_a_stage_is_that_of_its_equal_blocks():
    config = tiny("fashion_resist", methods=("resist",))
    config.model.widths.stage2 = 2
    with pytest.raises(InputError, match=r"widths\.stage2=2, but of the blocks .* 3 are equal"):
        planning.dry_run(config)
    config.model.options.blocks = (1, -4)
    with pytest.raises(
        InputError, match=r"options\.blocks must be at least 1, found -4 in \(1, -4\)"
    ):
        planning.dry_run(config)
