"""Digests of what every method comes to, to hold against another version of the library.

    PYTHONPATH=. python tests/digests.py rounds [NET ...] > digests.json

``rounds`` trains every method with every net of ``nets``, on one device and on four, under both
policies; ``configs`` runs the tiny variant of every config, on what data there is. Bits are those
of one machine: run both versions on it.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("NPROC", "2")  # XLA's threads: how a sum is split between them

import hashlib
import json
import pathlib
import sys
import tempfile

import jax
import numpy as np
import optax

ROOT = pathlib.Path(__file__).parent.parent
WORKERS, STEPS, ROUNDS = 4, 2, 2
TIMES = ("time/", "memory/", "checkpoint/")  # of metrics: not the same twice


def of_tree(tree) -> str:
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        found.update(array.tobytes())
    return found.hexdigest()[:16]


def methods():
    from ist_jax import depth, method, partition

    return {
        "ist": method.ist(),
        "ist, balanced": method.ist(partition.balanced),
        "ist, joint": method.ist(depth.joint),
        "local_sgd": method.local_sgd(),
        "data_parallel": method.data_parallel(),
        "resist": method.resist(0),
        "resist, at least 2": method.resist(2),
        "loft": method.loft(),
        "ensemble": method.ensemble(),
        "single": method.single(),
        "dense_subnet": method.dense_subnet(),
        "shallow_ensemble": method.shallow_ensemble(),
    }


def one_round_after_another(name, how, policy, devices, exact, **options):
    import nets

    from ist_jax.core.errors import InputError
    from ist_jax.sharded import placement

    params, _, _, batches = nets.net(name)
    size = how.workers or WORKERS
    optimizer = optax.chain(optax.add_decayed_weights(1e-3), optax.adam(1e-2))
    try:
        trainer = nets.trainer(
            name,
            how,
            size,
            optimizer,
            optimizer_state=policy,
            mesh=placement.mesh(size, devices),
            exact=exact,
            **options,
        )
        state = trainer.init(params, jax.random.key(0))
        for number, batch in enumerate(batches(ROUNDS, size, STEPS)):
            present = np.arange(size) != 1 if number and size > 1 else None
            state, report = trainer.round(state, batch, present)
        whole = trainer.whole(state)
    except InputError as error:
        return f"refused: {str(error)[:80]}"
    told = [report.loss, report.bytes_sent, report.bytes_received]
    told.append(np.asarray(trainer.wire(report, STEPS)))
    return " ".join(map(of_tree, (whole.params, whole.opt_state, dict(whole.assignment), told)))


def rounds():
    import nets

    from ist_jax import compress

    jax.config.update("jax_num_cpu_devices", 8)
    found = {}
    for net in sys.argv[2:] or nets.MAKE:
        for name, how in methods().items():
            for policy in ("reset", "keep") if how.memory is None else (how.memory,):
                for devices, exact in ((1, False), (4, True), (4, False)):
                    if devices > 1 and (how.workers == 1):
                        continue
                    key = f"{net} | {name} | {policy} | {devices}{' exact' * exact}"
                    found[key] = one_round_after_another(net, how, policy, devices, exact)
                    print(key, found[key], file=sys.stderr, flush=True)
    for devices in (1, 4):
        for code in ("8bit", "top0.1"):
            for name in ("ist", "resist, at least 2", "data_parallel"):
                how, key = methods()[name], f"blocks | {name} | {code} | {devices}"
                more = {"code": compress.named(code), "on_nonfinite": "drop"}
                found[key] = one_round_after_another("blocks", how, "reset", devices, True, **more)
                print(key, found[key], file=sys.stderr, flush=True)
    return found


def some_data(config):
    """What is here of a config's data; a stand-in of its kind otherwise."""
    from ist_jax import data
    from ist_jax.data import graph
    from ist_jax.data.clusters import clustered

    name = config.model.name
    if name == "graph":
        draw = np.random.default_rng(0)
        edges, part = draw.integers(0, 600, (2, 900)), np.arange(600) % 3
        features = draw.normal(size=(600, 256)).astype(np.float32)
        return clustered(
            lambda *_, **__: graph.build("toy", features, edges, np.arange(600) % 45, part)
        )()
    if name == "xmc":
        return many_labels()
    if name == "mlp":
        return data.load("digits")
    digits = data.load("digits")
    size = config.data.options.get("size") or 32
    classes = (
        1000
        if config.data.name == "imagenet"
        else int(config.data.name[5:] or 10)
        if config.data.name.startswith("cifar")
        else 10
    )
    big = lambda x: np.repeat(
        np.pad(x.reshape(-1, 8, 8, 1), ((0, 0), *[((size - 8) // 2, (size - 7) // 2)] * 2, (0, 0))),
        3,
        axis=3,
    )
    few = slice(0, 200)
    return digits._replace(
        train_x=big(digits.train_x[few]), train_y=digits.train_y[few],
        test_x=big(digits.test_x[few]), test_y=digits.test_y[few], classes=classes, sha256="",
    ).checked()  # fmt: skip


def many_labels():
    """Documents whose labels are their first words."""
    from ist_jax import data

    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for part, count in (("train", 300), ("test", 60)):
            lines = [f"{count} 50 40"]
            for _ in range(count):
                words = sorted(draw.choice(50, 6, replace=False))
                labels = ",".join(str(word % 40) for word in words[:2])
                lines.append(
                    f"{labels} " + " ".join(f"{word}:{draw.random():.3f}" for word in words)
                )
            (pathlib.Path(folder) / f"{part}.txt").write_text("\n".join(lines) + "\n")
        return data.load("xmc", folder, cache=folder)


def of_config(name):
    from ist_jax.run import config_files

    if name.startswith("sketch_"):
        from ist_jax.run import sketching as command

        run = command.run
    else:
        from ist_jax.run import planning, training

        run, planning.load = training.run, some_data
    config = config_files.load(name, "tiny")
    if config.get("model", {}).get("name") == "graph":
        config.data.batch = 1
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / "run"
        try:
            run(config, workdir)
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:200]}"
        if name.startswith("sketch_"):
            told = json.loads((workdir / "data.json").read_text())
        else:
            told = [json.loads(line) for line in (workdir / "metrics.jsonl").open()]
            told = [{k: v for k, v in line.items() if not k.startswith(TIMES)} for line in told]
    text = json.dumps(told, sort_keys=True)
    return {
        "digest": hashlib.sha256(text.encode()).hexdigest()[:16],
        "keys": sorted(told[-1]) if isinstance(told, list) else sorted(told),
    }


def configs():
    from ist_jax.run import config_files

    found = {}
    for name in config_files.names():
        found[name] = of_config(name)
        print(name, found[name], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
    print(json.dumps({"rounds": rounds, "configs": configs}[sys.argv[1]](), indent=1))
