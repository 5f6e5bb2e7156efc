"""Could the exchange hide behind the local steps? The two in one program, arranged in three ways.

Each method does one of two loops, or both: ``steps``, the products of a subnet's local steps, and
``passes``, as many messages of an exchange. Neither needs the other, so that XLA is free to run
them at the same time: as two loops side by side, or with a pass in the body of every step.
"""

from benchmarks.peers import protocol

PASSES = 8


def main() -> None:
    task = protocol.task()
    protocol.start_jax(task)
    import jax
    import jax.numpy as jnp
    from jax import lax

    from ist_jax.sharded import placement

    inputs, hidden, *_ = protocol.NETS[task.net]
    mesh, part = placement.mesh(task.workers), hidden // task.workers
    x = jnp.ones((task.batch, inputs))
    net = jnp.zeros((inputs, part))
    rows = jnp.zeros((task.workers, max(1, part // task.workers // PASSES), inputs))

    def step(_, net):  # as many products as the layer's forward and backward pass
        return 0.999 * net + x.T @ (x @ net)

    def message(_, rows):
        return lax.all_to_all(rows, placement.WORKER, 0, 0, tiled=True)

    # The numbers of steps and passes are arguments, so that no loop is unrolled.
    def steps(net, rows, many, several):
        return lax.fori_loop(0, many, step, net), rows

    def passes(net, rows, many, several):
        return net, lax.fori_loop(0, several, message, rows)

    def in_turn(net, rows, many, several):
        net, rows = lax.optimization_barrier(steps(net, rows, many, several))
        return passes(net, rows, many, several)

    def side_by_side(net, rows, many, several):
        return steps(net, rows, many, several)[0], passes(net, rows, many, several)[1]

    def in_one_loop(net, rows, many, several):
        both = lambda i, state: (step(i, state[0]), message(i, state[1]))
        return lax.fori_loop(0, many, both, (net, rows))

    here = jax.tree.map(lambda leaf: leaf[None], (net, rows))
    here = placement.place_own(here, mesh, task.workers)
    counts = placement.place((jnp.int32(task.local_steps), jnp.int32(PASSES)), mesh)

    def make(function):
        def on_a_device(net, rows, many, several):
            done = function(net[0], rows[0], many, several)
            return jax.tree.map(lambda leaf: leaf[None], done)

        split, everywhere = placement.SPLIT, placement.EVERYWHERE
        specs = (split, split, everywhere, everywhere)
        compiled = jax.jit(
            placement.shard_map(on_a_device, mesh=mesh, in_specs=specs, out_specs=(split, split))
        )

        def run():
            jax.block_until_ready(compiled(*here, *counts))

        return lambda: run

    functions = (steps, passes, in_turn, side_by_side, in_one_loop)
    protocol.serve(task, {function.__name__: make(function) for function in functions})


if __name__ == "__main__":
    main()
