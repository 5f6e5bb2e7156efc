"""The flags of ``train``, beside those that the commands share."""

from absl import flags

from ist_jax.run import profiling


class Rounds(flags.ArgumentParser[profiling.Span]):
    """Rounds in a flag: ``5-7``, or ``5``."""

    syntactic_help = "rounds, as 5-7"

    def parse(self, argument: str | profiling.Span) -> profiling.Span:
        return profiling.span(argument) if isinstance(argument, str) else argument


DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print what would be trained, and train nothing.")
RESUME = flags.DEFINE_bool("resume", False, "Go on with the run in --workdir, if there is one.")
SWEEP = flags.DEFINE_multi_string(
    "sweep",
    [],
    "KEY=VALUE,VALUE,...: train with each value of a config key, as optimizer.lr=0.03,0.1; of "
    "several keys, with all combinations. Each is a run below --workdir.",
)
SWEEP_RETRAIN = flags.DEFINE_bool(
    "sweep_retrain",
    False,
    "Train what a sweep has picked for each method again, on all training data.",
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "One of several processes. Slurm, Open MPI and Kubernetes say which; elsewhere give "
    "--coordinator, --processes and --process.",
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port where process 0 can be reached.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
PATIENCE = flags.DEFINE_integer(
    "patience", 60, "Seconds to wait for the other processes.", 1, 7 * 24 * 3600
)
DETERMINISTIC = flags.DEFINE_bool(
    "deterministic",
    False,
    "The same bits for every config.mesh.workers and every number of processes and CPUs: means "
    "over workers in a fixed order, and on CPU as many threads as workers in every process.",
)
PROFILE = flags.DEFINE(
    Rounds(),
    "profile",
    None,
    "Rounds of the first run to write a JAX profile of, counted from 0, as 5-7: in profile/.",
    serializer=flags.ArgumentSerializer(),
)
