"""Which settings are picked: for each method its own best, by validation data alone.

What was measured on test data (accuracy; of texts, bits for a byte) chooses nothing: ``picked`` is
not given any, and tables show it of what was picked only. A candidate has all of its seeds, trained
to the last round. Of equals, the first is picked.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.run import compare, measure, report, sweep
from ist_jax.run.differences import Differences
from ist_jax.run.folder import CONFIG, METRICS, SUMMARY
from ist_jax.run.markdown import aligned, quantity
from ist_jax.run.measure import Measure
from ist_jax.run.sweep import Combination

BEST = "best-"  # and the method: the folder of what is trained again
RULE = "picked by the mean validation {0} over seeds after the last round; test {0} chose nothing"


class Outcome(NamedTuple):
    """What a method came to with some settings; shares of 1, one a seed.

    ``complete`` is whether all seeds are there, trained to the last round.
    """

    label: str
    settings: Mapping[str, Any]
    method: str
    validation: tuple[float, ...]
    test: tuple[float, ...]
    complete: bool
    sent: int
    seconds: float
    share: float  # of the training data, that was trained on
    measure: Measure = measure.ACCURACY


def picked(
    validation: Mapping[str, Mapping[str, Sequence[float]]], sign: int = 1
) -> dict[str, str]:
    """The label with the largest mean for each method; the first of several.

    Args:
      validation: accuracies, by method and label.
      sign: -1 if the smallest is the best.
    """
    return {
        method: max(of_labels, key=lambda label: sign * float(np.mean(of_labels[label])))
        for method, of_labels in validation.items()
        if of_labels
    }


def pick(found: Sequence[Outcome]) -> dict[str, Outcome]:
    """The best outcome of each method that has one."""
    able = [one for one in found if one.complete and one.validation]
    validation: dict[str, dict[str, Sequence[float]]] = {}
    for one in able:
        validation.setdefault(one.method, {})[one.label] = one.validation
    best = picked(validation, able[0].measure.sign if able else 1)
    chosen = {one.method: one for one in able if best[one.method] == one.label}
    return {method: chosen[method] for method in validation}


def outcomes(folder: pathlib.Path, label: str, settings: Mapping[str, Any]) -> list[Outcome]:
    """Those of a run folder; empty if it is not finished.

    Raises:
      InputError: its files cannot be read.
    """
    try:
        summary = json.loads((folder / SUMMARY).read_text())
        config, rounds = summary["config"], summary["rounds"]
        held, train = summary["data"]["validation"], summary["data"]["train"]
        methods, seeds = list(config["methods"]), list(config["seeds"])
        share = train / (train + held)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError, RecursionError) as error:
        raise InputError(f"{folder / SUMMARY} cannot be read: {error!r}") from None
    runs = report.read(folder / METRICS)
    found = []
    for method in methods:
        last = [runs[method, seed][-1] for seed in seeds if (method, seed) in runs]
        shown = measure.of(last)
        keys = map(shown.key, measure.VALIDATION)
        key = next((key for key in keys if all(key in line for line in last)), "")
        found.append(
            Outcome(
                label,
                settings,
                method,
                tuple(line[key] for line in last if key),
                tuple(line[shown.key()] for line in last),
                len(last) == len(seeds) and all(line["round"] == rounds for line in last),
                max((line["comm/bytes_sent"] for line in last), default=0),
                float(np.median([line["time/train_s"] for line in last] or [0.0])),
                share,
                shown,
            )
        )
    return found


def of_sweep(folder: pathlib.Path, order: Sequence[Combination]) -> list[Outcome]:
    """Those of all finished runs of a sweep."""
    return [
        one
        for combination in order
        for one in outcomes(folder / combination.name, combination.words, combination.settings)
    ]


def table(folder: pathlib.Path) -> str:
    """All combinations of a sweep by validation accuracy, and what is picked for each method."""
    order = sweep.read(folder)
    found = of_sweep(folder, order)
    notes = [
        f"{one.words} is not finished: left out"
        for one in order
        if not (folder / one.name / SUMMARY).exists()
    ]
    notes += [
        f"{one.method} with {one.label}: not all seeds reached the last round (see its "
        f"{SUMMARY}), so it cannot be picked"
        for one in found
        if not one.complete
    ]
    if not found:
        return "\n\n".join([f"{folder}: no run of this sweep is finished", *notes])
    again = {
        one.method: one
        for path in sorted(folder.glob(f"{BEST}*"))
        for one in outcomes(path, _settings(path, order[0]), {})
    }
    return "\n\n".join([all_of(found, list(order[0].settings)), *notes, best(found, again)])


def of_folders(folders: Sequence[pathlib.Path], differ: Differences) -> str:
    """What is picked among several run folders that hold validation data out, by what differs.

    Empty if there is nothing to pick: no validation data, or nothing that differs.
    """
    if not differ.keys or not all(differ.held):
        return ""
    if not differ.same or len(set(differ.held)) > 1:
        return "nothing is picked: the folders have other data, or hold another part out"
    found = [
        one
        for folder, chosen in zip(folders, differ.settings, strict=True)
        for one in outcomes(folder, Combination("", chosen).words, chosen)
    ]
    return "\n\n".join([all_of(found, differ.keys), best(found, {})])


def all_of(found: Sequence[Outcome], keys: Sequence[str]) -> str:
    """A row for each combination and method; of the settings only what differs."""
    differ = [key for key in keys if len({str(one.settings[key]) for one in found}) > 1]
    rows = [
        [*differ, "method", _titles(found)[0], "seeds", "sent / worker", "training time"],
        ["---"] * len(differ) + ["---"] + ["---:"] * 4,
    ]
    for one in found:
        rows.append(
            [
                *(sweep.shown(one.settings[key]) for key in differ),
                one.method,
                one.measure.spread(one.validation) if one.complete else "-",
                str(len(one.test)),
                quantity(one.sent, "B"),
                f"{one.seconds:.1f} s" if one.seconds >= 1 else f"{1e3 * one.seconds:.0f} ms",
            ]
        )
    return aligned(rows)


def best(found: Sequence[Outcome], again: Mapping[str, Outcome]) -> str:
    """The table of what is picked, with its test accuracy; ``again`` is what was trained again."""
    rows = [
        ["method", "picked", *_titles(found), "trained on"],
        ["---", "---", "---:", "---:", "---:"],
    ]
    chosen = pick(found)
    old: list[str] = []
    done: set[str] = set()
    for method, one in chosen.items():
        some = [method, one.label, *map(one.measure.spread, (one.validation, one.test))]
        rows.append([*some, _trained_on(one.share)])
        if new := again.get(method):
            if new.label != one.label or not new.complete:
                old.append(f"{BEST}{method} is of {new.label}, or not finished: left out")
            else:
                some = [f"{method}, trained again", one.label, "-", new.measure.spread(new.test)]
                rows.append([*some, _trained_on(new.share)])
                done.add(method)
    lacking = [m for m in dict.fromkeys(one.method for one in found) if m not in chosen]
    notes = [f"{method}: nothing can be picked" for method in lacking]
    if waiting := [m for m, one in chosen.items() if one.share < 1 and m not in done]:
        share = _trained_on(chosen[waiting[0]].share)
        notes.append(
            f"{', '.join(waiting)}: trained on {share} of the training data; not trained again on "
            "all of it (--sweep_retrain)"
        )
    ends = [note for one in chosen.values() for note in _ends(one, found)]
    return "\n\n".join([aligned(rows), RULE.format(_of(found).name), *old, *notes, *ends])


def _ends(one: Outcome, found: Sequence[Outcome]) -> Iterator[str]:
    """Notes on numbers that were picked at an end of three or more."""
    for key, value in one.settings.items():
        tried = [other.settings[key] for other in found]
        if len(set(map(str, tried))) > 2 and all(type(x) in (int, float) for x in tried):
            for name, end in (("smallest", min(tried)), ("largest", max(tried))):
                if value == end:
                    yield f"{one.method}: {key}={value} is the {name} tried; try beyond it"


def _of(found: Sequence[Outcome]) -> Measure:
    return found[0].measure if found else measure.ACCURACY


def _titles(found: Sequence[Outcome]) -> list[str]:
    """Of the columns of validation and test."""
    unit = _of(found).unit
    return [f"validation ({unit})", f"test ({unit})"]


def _trained_on(share: float) -> str:
    return "all" if share == 1 else f"{share:.0%}"


def _settings(folder: pathlib.Path, like: Combination) -> str:
    """The words for the settings that a run folder has of a sweep's keys."""
    try:
        config = compare.flat(json.loads((folder / CONFIG).read_text()))
        return Combination("", {key: config[key] for key in like.settings}).words
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "settings that cannot be read"
