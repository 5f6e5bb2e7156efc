"""Every key of a config for training, with its usual value and what it means.

A config changes some of these (``configs/``); what it leaves alone is as it stands here. A key that
is not here is a mistake, and so is a value of another type (``values``). In groups of options and
widths any name may stand; those of a function are its arguments.
"""

from ml_collections import ConfigDict

VERSION = 2  # of these keys; ``upgrade`` reads earlier ones


def default() -> ConfigDict:
    """A config with every key there is."""
    config = ConfigDict()
    config.version = VERSION
    config.methods = ("ist", "local_sgd", "data_parallel", "ensemble", "single")
    config.seeds = (0, 1, 2)

    config.workers = 4
    config.local_steps = 8  # J, between two exchanges
    config.rounds = 60
    config.epochs = 0.0  # if positive, rounds are set so that the workers see the data so often
    config.warm_up = 0  # rounds of local SGD before anything is cut
    config.method_options = (
        ConfigDict()
    )  # of a method's own, by its name (ist_jax/method.py: named):
    # {"ist": {"assignment": "balanced"}, "resist": {"min_depth": 2}}
    config.normalise = "standardise"  # or "scale", "share", "none" (ist_jax/models/normalise.py)
    config.compress = (
        ""  # updates: "8bit", "4bit", "top0.01" (the largest hundredth), "4bit+feedback"
    )
    config.optimizer_state = "reset"  # or "keep", "own"

    config.data = _data()
    config.model = _model()
    config.optimizer = _optimizer()
    config.lottery = _lottery()
    config.task = _task()
    config.mesh = _mesh()
    config.checkpoint = _checkpoint()

    config.on_worker_failure = "raise"  # or "drop": the round goes on without it
    config.on_nonfinite = "raise"  # or "drop": the worker's update is left out
    config.faults = (
        ""  # failures on purpose, as "drop:2@5;nan:0@7;slow:3x4" (ist_jax/run/faults.py)
    )
    config.round_timeout_s = 0.0  # a round that takes longer ends the process; 0: never

    config.link_gbps = 0.0  # of every worker's link: --dry_run then predicts seconds per round
    config.link_latency_ms = 0.2  # until a packet is there; a ping takes twice as long

    config.eval_every = 5  # rounds
    config.top = 1  # if more, also how often the label is among so many with the largest logits
    config.statistics_examples = 2048  # of the training data, for the statistics of the whole net
    config.trackers = ()  # "tensorboard", "wandb", "mlflow", "module:function" (docs/tracking.md)
    return config


def _data() -> ConfigDict:
    """What is learnt from, and how the workers share it."""
    config = ConfigDict()
    config.name = "digits"
    config.path = ""
    config.batch = 32  # examples (of a graph: clusters) of a worker in a local step
    config.split = "disjoint"  # or "all", or "same" (and the same order)
    config.skew = 0.0  # Dirichlet concentration of classes over workers; 0 is even
    config.skip_bad = False  # leave bad examples out, and tell how many those were
    config.cache = ""  # where prepared sets are kept; default: ~/.cache/ist_jax
    config.options = ConfigDict()  # of the data set's own: see its load function
    config.validation = 0.0  # share of the training data that is held out, to pick settings by
    config.validation_seed = 0  # which part; the same for all seeds of training
    return config


def _model() -> ConfigDict:
    """The whole net."""
    config = ConfigDict()
    config.name = "mlp"  # or "cnn", "vgg", "resnet", "xmc", "graph"
    config.widths = ConfigDict({"hidden0": 1024, "hidden1": 1024})
    config.affine = True
    config.logits = True  # standardise the logits too
    config.options = ConfigDict()  # of the model's own: see its attributes
    return config


def _optimizer() -> ConfigDict:
    """Of every worker."""
    config = ConfigDict()
    config.name = "sgd"  # or any other of optax
    config.lr = 0.1
    config.momentum = 0.0
    config.weight_decay = 0.0  # of the gradient, before the optimizer sees it
    config.clip = 0.0  # global norm; 0 is no clipping
    config.options = ConfigDict()  # of the optimizer's own: see its arguments
    config.schedule = (
        "constant"  # or "cosine", "steps" (a tenth, from half and from 3/4), or any of
    )
    config.schedule_options = ConfigDict()  # optax, with options of its own (run/schedules.py)
    config.warm_up_steps = 0  # in which the rate grows evenly to the schedule's first one
    return config


def _lottery() -> ConfigDict:
    """For the command lottery."""
    config = ConfigDict()
    config.pruned = (0.3, 0.5, 0.8)  # shares of the neurons of each group
    config.epochs = 1.0  # that a pruned net is trained on for
    config.lr = 0.01
    return config


def _task() -> ConfigDict:
    """What is learnt of the data."""
    config = ConfigDict()
    config.options = ConfigDict()  # of the task's own (ist_jax/run/tasks/options.py)
    return config


def _mesh() -> ConfigDict:
    """Devices."""
    config = ConfigDict()
    config.workers = 1  # devices, or groups of them, that workers are dealt to; 0: all
    config.data = 1  # devices that share a worker, and split its batch
    config.exact = False  # means in a fixed order: the same bits for every mesh.workers
    config.message_kb = 0  # that a device sends at a time; 0: chosen for links that are near
    return config


def _checkpoint() -> ConfigDict:
    """What is kept, and when."""
    config = ConfigDict()
    config.every = 10  # rounds; 0: only when a signal stops the run
    config.last = 2  # the newest so many stay,
    config.permanent = 0  # and those of every so many rounds,
    config.best = 0  # and so many that were the most accurate
    config.on_error = "stop"  # or "go_on", if one cannot be written
    config.folder = ""  # in place of the run folder's; may be remote (gs://...)
    return config
