"""This library, one process a worker: IST, local SGD and data parallel over gloo."""

import functools

from benchmarks.peers import protocol


def main() -> None:
    task = protocol.task()
    protocol.start_jax(task)
    import jax
    import numpy as np
    import optax

    import ist_jax
    from ist_jax import axes, method, partition
    from ist_jax.models import normalise
    from ist_jax.models.mlp import MLP
    from ist_jax.sharded import placement
    from ist_jax.tasks import classification

    inputs, *hidden, classes = protocol.NETS[task.net]
    model = MLP({f"hidden{i}": n for i, n in enumerate(hidden)}, classes)
    draw = np.random.default_rng(task.rank)
    shape = (1, task.local_steps, task.batch)
    x = draw.normal(size=(*shape, inputs)).astype(np.float32)
    batches = {"x": x, "y": draw.integers(0, classes, shape).astype(np.int32)}
    mesh = placement.mesh(task.workers)
    batches = placement.place_own(batches, mesh, task.workers)

    def rounds_of(how, model=model, mesh=mesh, batches=batches):
        net = lambda key: axes.of(model.init(key, x[0, 0, :1], train=True))[0]
        shapes, names = axes.of(
            jax.eval_shape(lambda key: model.init(key, x[0, 0, :1], train=True), _key(jax))
        )
        cut = partition.sub_widths(how.draw, axes.widths(shapes, names), mesh.size)
        loss = classification.cross_entropy(normalise.subnet(model, cut))
        trainer = ist_jax.build(
            loss, optax.sgd(0.01), shapes, names, method=how, workers=mesh.size, mesh=mesh
        )
        state = trainer.init(net, _key(jax))

        def run():
            nonlocal state
            state, report = trainer.round(state, batches)
            jax.block_until_ready((state, report.loss))
            return lambda: trainer.wire(report, task.local_steps)

        return run

    def alone():
        """The local steps of IST and nothing else: a subnet, on this process's own device."""
        here = placement.mesh(1, jax.local_devices())
        cut = partition.sub_widths(partition.permutation, model.widths, task.workers)
        own = jax.tree.map(lambda leaf: leaf.addressable_shards[0].data, batches)
        own = placement.place(own, here, placement.batch_spec(here))
        return rounds_of(method.single(), normalise.subnet(model, cut), here, own)

    methods = {
        "ist": method.ist(),
        "ist_balanced": method.ist(partition.balanced),
        "local_sgd": method.local_sgd(),
        "data_parallel": method.data_parallel(),
    }
    make = {name: functools.partial(rounds_of, how) for name, how in methods.items()}
    protocol.serve(task, make | {"compute": alone})


def _key(jax):
    return jax.random.key(0)


if __name__ == "__main__":
    main()
