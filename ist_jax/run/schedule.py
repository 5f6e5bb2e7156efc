"""Which job trains which round: the warm-up's first, if there is one, and then the method's own."""

from typing import NamedTuple

from ist_jax.run.job import Job
from ist_jax.sharded.state import State


class Schedule(NamedTuple):
    """The rounds of a job, of which ``job.warm_up_job``, if any, trains the first ``warm_up``."""

    job: Job
    warm_up: int

    def training_job(self, number: int) -> Job:
        """The job that trains a round, the first of which is 0."""
        warm_up_job = self.job.warm_up_job
        return warm_up_job if warm_up_job is not None and number < self.warm_up else self.job

    def active_job(self, done: int) -> Job:
        """The job whose state the net is in after so many rounds: the one that trained the last.

        After the last warm-up round it is still the warm-up's, which measures and saves it.
        """
        return self.training_job(max(done - 1, 0))

    def hand_over(self, done: int, state: State) -> State:
        """The state after so many rounds, as the job of the next round takes it."""
        active, following = self.active_job(done), self.training_job(done)
        if active is following:
            return state
        return following.trainer.resume(active.trainer.unsharded(state))

    def flops(self, done: int) -> int:
        """FLOPs of one worker in so many rounds."""
        if self.job.warm_up_job is None:
            return self.job.costs.flops * done
        warm = min(done, self.warm_up)
        return self.job.warm_up_job.costs.flops * warm + self.job.costs.flops * (done - warm)
