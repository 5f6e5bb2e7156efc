"""What pages of results are made of: run folders, and the JSON files of benchmarks."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.cost import timing
from ist_jax.run import compare, report, upgrade
from ist_jax.run.markdown import aligned, quantity

# What runs for one place need not have in common, since it changes no number of the tables.
FREE = ("methods", "seeds", "data.path", "data.cache", "checkpoint", "round_timeout", "trackers")


class Run(NamedTuple):
    """A run folder, as pages need it."""

    folder: Path
    config: dict[str, Any]
    data: dict[str, Any]
    plans: dict[str, Any]
    command: str
    lines: dict[tuple[str, int], list[dict[str, Any]]]
    environment: dict[str, Any]

    @property
    def told(self) -> str:
        """The data set, and what it is: real, synthetic or a stand-in."""
        return f"{self.data['name']} ({self.data['origin']})"

    def seeds(self, method: str) -> list[int]:
        """That it was trained with."""
        return [seed for name, seed in self.lines if name == method]

    @property
    def rounds(self) -> int:
        """That it was trained for."""
        return max(lines[-1]["round"] for lines in self.lines.values())

    def last(self, method: str, key: str = "accuracy/test") -> list[float]:
        """The last value of every seed that was trained to the end."""
        ends = [lines[-1] for (name, _), lines in self.lines.items() if name == method]
        return [line[key] for line in ends if line["round"] == self.rounds]

    def median(self, method: str, key: str) -> float:
        """Over seeds, of the last values."""
        return float(np.median(self.last(method, key)))

    def rounds_to(self, method: str, level: float) -> float | None:
        """Rounds until the accuracy was first seen to be that, the median over seeds.

        None if a seed never reaches it. It is looked at every ``eval_every`` rounds.
        """
        found = [
            next((line["round"] for line in lines if line["accuracy/test"] >= level), None)
            for (name, _), lines in self.lines.items()
            if name == method
        ]
        reached = [number for number in found if number is not None]
        return float(np.median(reached)) if reached and len(reached) == len(found) else None


def read(folder: Path) -> Run:
    """A run folder.

    Raises:
      InputError: it holds no finished run.
    """
    try:
        told = json.loads((folder / report.SUMMARY).read_text())
        config, data, plans, command = (told[key] for key in ("config", "data", "plans", "command"))
        if not (data["name"] and data["origin"] and isinstance(config["model"]["widths"], dict)):
            raise ValueError("no data set or no groups")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} holds no finished run ({error!r})") from None
    lines = report.read(folder / report.METRICS)
    config = json.loads(compare.as_json(upgrade.config_of(config)))
    return Run(folder, config, data, plans, command, lines, told.get("environment", {}))


def joined(
    runs: Sequence[Run], table_of: Callable[[Run], Any], place_of: Callable[[Run], Any]
) -> list[Run]:
    """Those for one place of one table, with methods or seeds of their own, as one.

    Raises:
      InputError: two of them trained the same method with the same seed, or have other settings;
        or a table would be over different data.
    """
    places: dict[tuple[Any, Any], Run] = {}
    tables: dict[Any, Run] = {}
    for run in runs:
        first = tables.setdefault(table_of(run), run)
        if (first.told, first.data.get("sha256")) != (run.told, run.data.get("sha256")):
            raise InputError(
                f"{first.folder} is on {first.told}, {run.folder} on {run.told}, not the same "
                "data: a page for each"
            )
        place = (table_of(run), place_of(run))
        other = places.setdefault(place, run)
        if other is run:
            continue
        both = f"{other.folder} and {run.folder} are for the same place in a table"
        if twice := other.lines.keys() & run.lines.keys():
            method, seed = min(twice)
            raise InputError(f"{both}, and both trained {method} with seed {seed}")
        if differ := settings_apart(other, run):
            raise InputError(f"{both}, but differ in config.{min(differ)}")
        lines, plans = {**other.lines, **run.lines}, {**other.plans, **run.plans}
        places[place] = other._replace(lines=lines, plans=plans)
    return list(places.values())


def settings_apart(run: Run, other: Run) -> set[str]:
    """The keys of two configs that differ, and would change a number."""
    one, two = compare.flat(run.config), compare.flat(other.config)
    differ = {key for key in one.keys() | two.keys() if one.get(key) != two.get(key)}
    if run.config["optimizer"]["schedule"] == "constant":  # then more rounds only go on
        differ.discard("rounds")
    return {key for key in differ if not key.startswith(FREE)}


def gathered(paths: Sequence[Path]) -> tuple[list[Run], list[dict[str, Any]]]:
    """Runs, and rows of benchmarks, of folders and files; or of all that a folder holds of both."""
    runs, rows = [], []
    for path in paths:
        if path.suffix == ".json":
            rows += rows_of(path)
        elif path.is_dir() and not (path / report.METRICS).exists():
            inside = sorted(path.glob("*.json"))
            inside += [metrics.parent for metrics in sorted(path.glob(f"*/{report.METRICS}"))]
            if not inside:
                raise InputError(f"{path} holds no finished run, nor folders that do")
            more = gathered(inside)
            runs += more[0]
            rows += more[1]
        else:
            runs.append(read(path))
    return runs, rows


def rows_of(path: Path) -> list[dict]:
    """What a benchmark wrote.

    Raises:
      InputError: it is no JSON list of rows.
    """
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        found = None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InputError(f"{path} is no JSON list of rows of a benchmark")
    return found


def commands(runs: Sequence[Run]) -> str:
    """A section: what each run was, how long it took, and how to make it again."""
    head = ["run", "data", "examples", "left out", "method", "seeds", "rounds", "training time"]
    rows = [head, ["---"] * len(head)]
    for run in runs:
        for method in dict.fromkeys(name for name, _ in run.lines):
            seconds = "unfinished"
            if run.last(method):
                seconds = f"{run.median(method, 'time/train_s'):.0f} s"
            examples = f"{run.data['train']:,} + {run.data['test']:,}"
            row = [run.folder.name, run.told, examples, str(run.data["skipped"]), method]
            seeds = ", ".join(map(str, run.seeds(method)))
            rows.append([*row, seeds, str(run.rounds), seconds])
    told = "\n".join(f"    {_command(run)}" for run in runs)
    return (
        "## Runs\n\n" + aligned(rows) + "\n\nTraining times are those of one machine that does "
        f"the work of all workers, medians over seeds; {_machines(runs)}.\n\n" + told
    )


def _machines(runs: Sequence[Run]) -> str:
    """What they ran on, as far as their folders say."""
    found = []
    for run in runs:
        about = run.environment
        words = [f"{key} {about[key]}" for key in ("jax", "python") if key in about]
        words += [f"{about['cpus']} CPUs"] if "cpus" in about else []
        words += [", ".join(about["devices"])] if "devices" in about else []
        words += [about["date"]] if "date" in about else []
        found.append(", ".join(words))
    return "; ".join(dict.fromkeys(filter(None, found))) or "machines unknown"


def _command(run: Run) -> str:
    """How to make a run again, in a folder of its name; readable, and a shell's."""
    if not run.command:
        return f"{run.folder.name}: trained from Python, by no command"
    words = [
        word
        for old in shlex.split(run.command)
        for word in upgrade.of_today(old, run.config["methods"])
        if not word.startswith(("--workdir=", "--resume"))
    ]
    words.append(f"--workdir=runs/{run.folder.name}")
    return " ".join(f'"{word}"' if "'" in word else shlex.quote(word) for word in words)


def time_table(rows: Sequence[dict[str, Any]]) -> str:
    """A section: seconds of rounds behind links (benchmarks.behind_links); nothing without rows."""
    if not rows:
        return ""
    head = [
        "net",
        "workers",
        "link (Gbit/s)",
        "latency (ms)",
        "method",
        "received / round",
        "s / round",
    ]
    head += ["x local SGD", "from ... to (rounds)", "local steps (s)", "foretold (s)"]
    lines = [head, ["---", "---:", "---:", "---:", "---", *["---:"] * 6]]
    nets = list(dict.fromkeys(tuple(row["flags"]) for row in rows))
    beside = {_place(row): row["round_s"] for row in rows if row["method"] == "local_sgd"}
    for row in sorted(rows, key=lambda row: (nets.index(tuple(row["flags"])), row["workers"])):
        times, other = row["round_s_all"], beside.get(_place(row))
        link = timing.Link(row["gbps"] * 1e9 / 8, row["latency_ms"] / 1e3)
        exchanged = timing.Exchanged(row["bytes_received_foretold"], row["waits"])
        foretold = link.seconds(row["steps_s"], exchanged)
        lines.append(
            [
                chr(ord("A") + nets.index(tuple(row["flags"]))),
                str(row["workers"]),
                f"{row['gbps']:g}",
                f"{row['latency_ms']:g}",
                row["method"],
                quantity(row["bytes_received"], "B"),
                f"{row['round_s']:.2f}",
                f"{row['round_s'] / other:.2f}" if other else "",
                f"{min(times):.2f} to {max(times):.2f} ({len(times)})",
                f"{row['steps_s']:.2f}",
                f"{foretold:.2f}",
            ]
        )
    today = [[new for word in net for new in upgrade.of_today(word)] for net in nets]
    dates = sorted({row["date"] for row in rows})
    told = "\n".join(f"    {chr(ord('A') + n)}: {shlex.join(net)}" for n, net in enumerate(today))
    return (
        "## Seconds of a round behind slow links\n\nEvery worker is a process behind a link of its "
        "own, all on one machine, and all methods and rates take turns "
        f"(`benchmarks/behind_links.py`, {' and '.join(dates)}); medians. Bytes are those that the "
        "interface of the worker that received most has counted. Local steps are a method's own, "
        "in all processes at once, without an exchange; foretold is what `--dry_run "
        "--config.link_gbps=...` says with these: local steps, bytes over the link's rate, a "
        "latency for each message. Nets:\n\n"
        f"{told}\n\n{aligned(lines)}"
    )


def _place(row: dict[str, Any]) -> tuple:
    return tuple(row["flags"]), row["workers"], row["gbps"], row["latency_ms"]
