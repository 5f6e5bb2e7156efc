"""VGG12 with all 21,841 classes of ImageNet: what a worker holds and sends, by shapes alone.

    python -m benchmarks.imagenet_head

Nothing is allocated. Memory is that of parameters, gradient and momentum, without activations.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ist_jax import axes, method
from ist_jax.cost import traffic
from ist_jax.models.vgg import VGG
from ist_jax.optimizer_state import carried, carry

CLASSES, SIDE = 21_841, 224


def rows(workers: Sequence[int]) -> list[dict[str, int]]:
    """Data parallel training, then IST with so many workers."""
    model = VGG({"hidden0": 4096, "hidden1": 4096}, CLASSES)
    image = jnp.zeros((1, SIDE, SIDE, 3))
    init = lambda: model.init(jax.random.key(0), image, train=True)
    shapes, names = axes.of(jax.eval_shape(init))
    optimizer = optax.sgd(0.01)
    net = axes.describe(shapes, names)
    everything = carried.describe(net, optimizer, carry.Memory(optimizer, "reset"))
    whole = int(traffic.entries(net, {}))
    found = []
    for how, count in ((method.data_parallel(), 2), *((method.ist(), n) for n in workers)):
        held = traffic.neurons_held(net, how, count)
        moved = traffic.per_round(net, everything, how, count)(held)
        parameters = int(np.max(traffic.entries(net, held)))
        found.append(
            {
                "workers": count,
                "parameters": parameters,
                "memory": 3 * 4 * parameters,
                "round_bytes": int(moved.a_round.max()),
                "data_parallel_step_bytes": 4 * whole,
            }
        )
    return found


def table(found: list[dict[str, int]]) -> str:
    lines = [
        "| method | parameters / worker | with gradient and momentum | sent |",
        "| --- | ---: | ---: | ---: |",
    ]
    for number, row in enumerate(found):
        name = f"IST, {row['workers']} workers" if number else "data parallel, any number"
        sent = row["round_bytes"] if number else row["data_parallel_step_bytes"]
        lines.append(
            f"| {name} | {row['parameters']:,} | {row['memory'] / 1e9:.2f} GB "
            f"| {sent / 1e9:.3f} GB a {'round' if number else 'step'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(rows((2, 4, 8))))
