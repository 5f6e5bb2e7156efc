"""The methods of any config, one process a worker; ``METHOD_steps`` is its local steps alone."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.peers import protocol

if TYPE_CHECKING:
    from ist_jax.run.job import Job

STEPS = "_steps"


def main() -> None:
    task = protocol.task()
    protocol.start_jax(task)
    config, jobs = built([*task.flags, f"--config.mesh.workers={task.workers}"])
    make: dict[str, Any] = {}
    for name, job in jobs.items():
        make[name] = functools.partial(rounds_of, job, config.seeds[0], config.local_steps)
        make[name + STEPS] = functools.partial(steps_of, job, config.local_steps)
    protocol.serve(task, make)


def built(flags: Sequence[str]) -> tuple[Any, dict[str, "Job"]]:
    """A config by its flags, and its methods."""
    from ist_jax.commands import shared_flags
    from ist_jax.run import assemble, checks, planning

    shared_flags.parse(["of_config", *flags])
    config = shared_flags.CONFIG.value
    checks.check(config)
    return config, assemble.jobs(config, planning.load(config))


def rounds_of(job: "Job", seed: int, steps: int) -> protocol.Round:
    import jax

    state, batches, done = job.state(seed), job.batches(seed), 0

    def run():
        nonlocal state, done
        state, report = job.trainer.round(state, **job.place(batches(done, {})))
        jax.block_until_ready((state, report.loss))
        done += 1
        return lambda: job.trainer.wire(report, steps)

    return run


def steps_of(job: "Job", steps: int) -> protocol.Round:
    step = job.step()

    def run():
        for _ in range(steps):
            step()

    return run


if __name__ == "__main__":
    main()
