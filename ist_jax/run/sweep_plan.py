"""What a sweep would train, checked before any of it is trained."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from ist_jax.core.errors import InputError
from ist_jax.run import assemble, checks, devices, planning, sweep
from ist_jax.run.job import Job
from ist_jax.run.markdown import aligned, quantity
from ist_jax.run.sweep import Combination, Values


def dry_run(config: ConfigDict, given: Values) -> str:
    """What would be trained: a row for each combination and method."""
    order = sweep.combinations(given)
    configs = {one.name: sweep.applied(config, one.settings) for one in order}
    check(order, configs)
    data, missing = planning.outlined(config)
    rows = [
        [*given, "method", "rounds", "parameters / worker", "sent / round", "sent in all",
         "FLOPs in all"],
        ["---"] * (len(given) + 1) + ["---:"] * 5,
    ]  # fmt: skip
    for one in order:
        rounds, jobs = plan(one, configs[one.name], data)
        for method, job in jobs.items():
            costs = job.costs
            rows.append(
                [
                    *map(sweep.shown, one.settings.values()),
                    method,
                    str(rounds),
                    f"{costs.parameters:,}",
                    quantity(costs.bytes_sent, "B"),
                    quantity(costs.bytes_sent * rounds + costs.bytes_once, "B"),
                    quantity(costs.flops * rounds, ""),
                ]
            )
    seeds = len(config.seeds)
    lines = [
        *missing,
        f"{len(order)} combinations of {len(config.methods)} methods with {seeds} seeds: "
        f"{len(order) * len(config.methods) * seeds} nets",
    ]
    return "\n".join([*lines, "", aligned(rows)])


def check(order: Sequence[Combination], configs: dict[str, ConfigDict]) -> None:
    """Complains about a combination that no config may be.

    Raises:
      InputError: naming it.
    """
    for one in order:
        with _named(one):
            checks.check(configs[one.name])
            devices.mesh(configs[one.name], 1)


def plan(one: Combination, config: ConfigDict, data: Any) -> tuple[int, dict[str, Job]]:
    """The rounds and the jobs of one combination.

    Raises:
      InputError: naming it.
    """
    with _named(one):
        return assemble.rounds(config, data), assemble.jobs(config, data)


@contextlib.contextmanager
def _named(one: Combination) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"with {one.words}: {error}") from None
