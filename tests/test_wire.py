"""Bytes between devices: the closed form, the compiled program, and what it says it did."""

import re

import jax
import nets
import numpy as np
import optax
import pytest
from conftest import mlp_tree

from ist_jax import axes, compress, method, partition
from ist_jax.cost import wire
from ist_jax.optimizer_state import carried, carry
from ist_jax.optimizer_state.server import Server
from ist_jax.sharded import layout
from ist_jax.sharded import placement as devices

SIZES = {"f32": 4, "s32": 4, "bf16": 2, "u32": 4, "pred": 1, "s8": 1, "u8": 1}


def program_bytes(text, chunks, steps, size, data=1):
    """What a device receives: every collective's bytes, times the chunks of the loop it is in.

    Devices that share a worker are neighbours; what they tell each other does not count.
    """
    neighbours = ",".join(map(str, range(data)))
    inside = rf"replica_groups=(\{{\{{{neighbours}\}}|mesh\[.*?\] \{{'data'\}})"  # old XLA and new
    total, seen = 0.0, 0
    for line in text.splitlines():
        found = re.match(
            r"\s*%\S+ = (.+?) (all-to-all|all-reduce|all-gather|collective-permute)\(", line
        )
        if not found or (data > 1 and re.search(inside, line)):
            continue
        seen += 1
        shapes = re.findall(r"(\w+)\[([\d,]*)\]", found[1])
        nbytes = sum(SIZES[t] * np.prod([int(n) for n in d.split(",") if n]) for t, d in shapes)
        name = re.search(r'op_name="([^"]*)"', line)[1]
        transfer = next((j for j in chunks if f"/{j}/" in name), None)
        in_messages = re.search(r"/mean in (\d+) messages/", name)
        times = int(chunks[transfer]) if transfer else steps if "/while/body/" in name else 1
        if in_messages:
            times = int(in_messages[1]) * (steps if name.count("/while/body/") > 1 else 1)
        share = (size - 1) / size * (2 if found[2] == "all-reduce" else 1)
        total += times * share * nbytes
    assert seen, "a program without a collective is not the one we mean"
    return total


METHODS = {
    "ist": method.ist(),
    "balanced": method.ist(partition.balanced),
    "local_sgd": method.local_sgd(),
    "data_parallel": method.data_parallel(),
    "ensemble": method.ensemble(),
    "resist": method.resist(2),
    "loft": method.loft(),
    "outer": method.with_server(method.ist(), optax.adam(0.1)),
    "outer, blocks": method.with_server(method.resist(2), optax.sgd(0.1, 0.9)),
    "diloco": method.diloco(),
}
NETS = ("one hidden", "two hidden", "cnn", "blocks", "filters", "gcn", "sage", "gat")


def check(
    net,
    how,
    size,
    many,
    exact=False,
    policy="reset",
    optimizer=None,
    data=1,
    code=None,
    watchful=False,
    message=None,
):
    params, names, _, batches = nets.net(net)
    how, optimizer = METHODS[how], optimizer or optax.sgd(0.1)
    trainer = nets.trainer(
        net,
        how,
        size,
        optimizer,
        optimizer_state=policy,
        mesh=devices.mesh(size, many * data, data=data),
        exact=exact,
        code=code,
        message_bytes=message,
        on_nonfinite="drop" if watchful else "raise",
    )
    state = trainer.init(params, jax.random.key(1))
    who, steps = jax.tree.map(np.asarray, state.assignment), 3
    [given] = batches(1, size, steps)
    text = trainer.lower(state, given).compile().as_text()
    state, report = trainer.round(state, given)
    memory, whole = carry.Memory(optimizer, how.memory or policy), axes.describe(params, names)
    outer = Server(how.server, whole) if how.server else None
    everything = carried.describe(whole, optimizer, memory, outer, size)
    spread = layout.spread_out(
        everything.net,
        roles=everything.roles,
        slots={group: ids.shape[1] for group, ids in who.items()},
        workers=size,
        devices=many,
        disjoint=how.disjoint,
        exact=exact,
        codes=compress.of_leaves(code, whole.leaves, who, how.disjoint),
        message=message,
    )
    synchronous = how.exchange == "step"
    chunks = {} if synchronous else wire.chunks(spread, who, state.assignment)
    assert {name: int(n) for name, n in report.chunks.items()} == chunks
    gradients = len(jax.tree.leaves(params)) if synchronous else 0
    closed = wire.received(
        spread, chunks, gradients=gradients, steps=steps, data=data, drop_nonfinite=watchful
    )
    assert closed == pytest.approx(program_bytes(text, chunks, steps, many, data), abs=0.5)
    assert closed == trainer.wire(report, steps)
    return closed


@pytest.mark.parametrize(
    ("net", "how", "size", "many", "options"),
    [
        ("one hidden", "ist", 4, 4, {}),
        ("two hidden", "balanced", 4, 2, {"policy": "keep", "optimizer": optax.adam(0.1)}),
        ("cnn", "local_sgd", 4, 2, {"exact": True}),
        ("two hidden", "data_parallel", 4, 4, {}),
        ("two hidden", "ist", 4, 2, {"data": 2}),
        ("one hidden", "local_sgd", 4, 2, {"data": 2}),
        ("one hidden", "data_parallel", 4, 2, {"data": 2, "exact": True}),
        ("two hidden", "ist", 4, 4, {"code": compress.rounded(4)}),
        ("cnn", "local_sgd", 4, 2, {"code": compress.rounded(8)}),
        ("one hidden", "data_parallel", 4, 2, {"data": 2, "code": compress.largest(0.1)}),
        ("one hidden", "ist", 4, 2, {"watchful": True}),
        ("one hidden", "data_parallel", 4, 4, {"watchful": True}),
        ("blocks", "resist", 4, 2, {}),
        ("blocks", "resist", 4, 4, {"code": compress.rounded(8)}),
        ("filters", "loft", 4, 4, {"exact": True}),
        ("cnn", "local_sgd", 4, 2, {"exact": True, "message": 4096}),
        ("one hidden", "data_parallel", 4, 4, {"exact": True, "message": 512}),
        ("two hidden", "ist", 4, 4, {"message": 256}),
        ("two hidden", "outer", 4, 4, {}),
        ("one hidden", "outer", 4, 2, {"code": compress.rounded(8)}),
        ("blocks", "outer, blocks", 4, 4, {}),
        ("one hidden", "diloco", 4, 4, {"optimizer": optax.adam(0.1)}),
        ("sage", "ist", 4, 4, {}),
        ("gat", "ist", 4, 2, {"exact": True}),
    ],
)
def test_the_closed_form_is_what_the_compiled_program_moves(net, how, size, many, options):
    check(net, how, size, many, **options)


@pytest.mark.parametrize("size", [2, 4])
def test_balanced_migration_moves_all_but_an_nth_of_a_subnet(size):
    """F (1 - 1/n) for a net with one hidden layer, no byte more, round after round."""
    params, names = mlp_tree((40, 64, 3))
    widths, draw = (
        {"h0": 64},
        jax.jit(lambda k, r, who: partition.balanced(k, {"h0": 64}, size, r, who)),
    )
    who = partition.balanced(jax.random.key(0), widths, size)
    spread = layout.spread_out(
        axes.describe(params, names),
        slots={"h0": 64 // size},
        workers=size,
        devices=size,
        disjoint=True,
        exact=False,
    )
    subnet = 4 * (40 + 3) * 64 / size
    for number in range(1, 5):
        after = draw(jax.random.key(0), number, who)
        chunks = wire.chunks(spread, who, after)
        losses = 4 * (size - 1)
        assert wire.received(spread, chunks) - losses == subnet * (1 - 1 / size)
        who = after


@pytest.mark.slow
@pytest.mark.parametrize(("size", "many"), [(2, 2), (4, 2), (4, 4), (8, 8)])
@pytest.mark.parametrize("how", METHODS)
@pytest.mark.parametrize("net", NETS)
def test_the_closed_form_for_every_method_net_and_number_of_devices(net, how, size, many):
    if net not in ("one hidden", "two hidden") and how == "ensemble":
        pytest.skip("an ensemble has no shared leaves, and this net has one")
    if (net, size) == ("blocks", 8) and how != "resist":
        pytest.skip("five blocks are too few for eight workers that share none")
    many = min(many, 4) if net == "blocks" else many  # and for eight devices
    check(net, how, size, many)
    check(net, how, size, many, exact=True, policy="keep", optimizer=optax.adam(0.1))
