"""What would be trained, without training it: the data, and what each method costs.

Nothing here writes, so nothing here imports what does: a plan is there in a second less.
"""

from typing import Any

from ml_collections import ConfigDict

from ist_jax import data as datasets
from ist_jax.core.errors import InputError
from ist_jax.cost import timing
from ist_jax.data import held_out
from ist_jax.run import assemble, checks, report


def load(config: ConfigDict) -> Any:
    """The config's data, and of the training part what is held out for validation."""
    given = config.data
    options = {"skip_bad": given.skip_bad, "cache": given.cache, **given.options}
    data = datasets.load(given.name, given.path, **options)
    return held_out.hold_out(data, given.validation, given.validation_seed)


def outlined(config: ConfigDict) -> tuple[Any, list[str]]:
    """The config's data, or a set of its published size and the line that says so."""
    try:
        return load(config), []
    except InputError as error:
        data = datasets.outline(config.data.name, **config.data.options)
        if data is None or config.data.path:  # a folder that is named should be there
            raise
        data = held_out.hold_out(data, config.data.validation, config.data.validation_seed)
        return data, [f"cannot be trained here: {str(error).splitlines()[0]}"]


def dry_run(config: ConfigDict) -> str:
    """What would be trained, without training: groups, subnets, bytes and FLOPs of each method.

    Data that are not here are taken to be as large as published.
    """
    checks.check(config)
    data, missing = outlined(config)
    rounds = assemble.rounds(config, data)
    jobs = assemble.jobs(config, data)
    plans = {name: job.costs for name, job in jobs.items()}
    held = held_out.count(data)
    validation = f", {held} validation" if held else ""
    lines = [
        *missing,
        f"{data.name} ({data.origin}): {data.examples} training{validation} and "
        f"{len(data.test_x)} test examples, {data.classes} classes",
        f"{config.workers} workers, {rounds} rounds of {config.local_steps} steps, batch "
        f"{config.data.batch}, seeds {tuple(config.seeds)}",
    ]
    for name, p in plans.items():
        groups = ", ".join(f"{g} {p.widths[g]} -> {n}" for g, n in p.sub_widths.items())
        lines.append(f"{name}: {groups}")
    text = "\n".join(lines) + "\n\n" + report.plan_table(plans, rounds)
    if not config.link_gbps:
        return text
    link = timing.Link(config.link_gbps * 1e9 / 8, config.link_latency_ms / 1e3)
    compute = {name: config.local_steps * job.step_s() for name, job in jobs.items()}
    exchanged = {name: job.exchanged() for name, job in jobs.items()}
    return f"{text}\n\n{report.time_table(compute, exchanged, link)}"
