"""Predicted seconds of a round: by hand, and as the dry run prints them."""

import optax
import pytest
from conftest import mlp_tree, tiny

from ist_jax import axes, method, partition
from ist_jax.cost import timing
from ist_jax.optimizer_state import carried, carry
from ist_jax.run import planning

PARAMS, NAMES = mlp_tree((40, 64, 8))
NET, SUBNET = 4 * (40 * 64 + 64 * 8), 4 * 64 // 4 * 48


def exchanged(how, workers=4, steps=3):
    optimizer = optax.sgd(0.1)
    memory = carry.Memory(optimizer, how.memory or "reset")
    net = axes.describe(PARAMS, NAMES)
    everything = carried.describe(net, optimizer, memory)
    return timing.exchanged(net, everything, how, workers, steps)


def test_what_a_round_moves_and_waits_for():
    losses = 4 * 3
    ring = 2 * 3 / 4
    assert exchanged(method.local_sgd()) == (ring * NET + losses, 3 + 6)
    assert exchanged(method.data_parallel()) == (3 * ring * NET + losses, 3 + 3 * 6)
    assert exchanged(method.ist(partition.balanced)) == (SUBNET * 3 / 4 + losses, 3 + 1)
    assert exchanged(method.single(), workers=1) == (0, 0)
    assert exchanged(method.ensemble()) == (losses, 3), "its one-cut leaves stay"


def test_a_link_adds_up():
    link = timing.Link(rate=1e6, latency=1e-3)
    assert link.seconds(0.5, timing.Exchanged(2e6, 10)) == pytest.approx(0.5 + 2 + 0.02)


def test_the_dry_run_tells_the_seconds_of_a_round():
    config = tiny(methods=("ist", "local_sgd", "data_parallel"), link_gbps=0.001)
    told = planning.dry_run(config)
    table = told.split("links of 0.001 Gbit/s, 0.2 ms")[1].splitlines()[3:]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    assert [row[0] for row in rows] == ["ist", "local_sgd", "data_parallel"]
    compute, waiting, total = ([float(row[n]) for row in rows] for n in (2, 3, 4))
    for parts in zip(compute, waiting, total, strict=True):
        assert parts[2] == pytest.approx(parts[0] + parts[1], rel=0.02)
    net = 4 * (64 * 64 + 64 * 64 + 64 * 10 + 4 * 64)
    assert waiting[1] == pytest.approx(8 * 1.5 * net / 1e6 + 9 * 2e-4, rel=0.01)
    assert waiting[2] == pytest.approx(8 * waiting[1], rel=0.01)
    assert waiting[0] < waiting[1] / 4
    assert rows[0][5] == "1.0"
