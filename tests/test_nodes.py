"""Batches of clusters, the loss on them, and the whole net on the whole graph."""

import json
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import ROOT, drawn
from nets import holding, with_features
from test_graph_data import planetoid
from test_messages import graph as edges_of

import ist_jax
from benchmarks import graph as benchmark
from benchmarks import graph_baselines
from ist_jax import axes, data, method, partition
from ist_jax.core.errors import InputError
from ist_jax.data import Batches, graph
from ist_jax.data.clusters import Clusters, Labels, metis
from ist_jax.local import with_common
from ist_jax.models import message_passing, normalise
from ist_jax.models.gcn import KINDS, GraphNet
from ist_jax.sharded import placement
from ist_jax.tasks import nodes

N = 60
DENSE, RECEIVERS, SENDERS = edges_of(N, 150)
DRAW = np.random.default_rng(3)
GRAPH = graph.build(
    "toy",
    DRAW.normal(size=(N, 5)).astype(np.float32),
    np.stack([SENDERS, RECEIVERS]),
    np.where(np.arange(N) % 7, DRAW.integers(0, 3, N), -1),
    np.arange(N) % 3,
)
OF = DRAW.integers(0, 6, N)
WIDTHS = {"hidden0": 8, "hidden1": 4}


def test_a_batch_is_the_graph_between_its_nodes():
    clusters = Clusters(GRAPH, OF)
    labels = Labels(clusters, GRAPH)
    assert len(clusters) == len(labels) == 6
    for chosen in ([0, 3], [5, 1], [4, 4]):
        mine = clusters.nodes(np.array(chosen))
        assert sorted(mine) == np.flatnonzero(np.isin(OF, chosen)).tolist()
        found = clusters[np.array([chosen])]
        m = len(mine)
        assert (found["nodes"][0, :m] == mine).all()
        assert (found["nodes"][0, m:] == N).all()
        of = jax.tree.map(lambda leaf: leaf[0], found["links"])
        room, _ = clusters.room(2)
        dense = np.zeros((room, room), np.float32)
        dense[:m, :m] = DENSE[np.ix_(mine, mine)]
        x = DRAW.normal(size=(room, 2)).astype(np.float32)
        np.testing.assert_allclose(message_passing.total(jnp.asarray(x), of), dense @ x, atol=1e-5)
        assert (of.degree == dense.sum(1)).all()
        learnt = labels[np.array([chosen])][0]
        expected = np.where(mine % 3 == 0, GRAPH.labels[mine], -1)
        assert (learnt[:m] == expected).all()
        assert (learnt[m:] == -1).all()


def test_batches_of_workers_have_one_shape_and_every_cluster_once_an_epoch():
    clusters = Clusters(GRAPH, OF)
    of = Batches(clusters, Labels(clusters, GRAPH), workers=2, batch=2, local_steps=3, seed=0,
                 split="all")  # fmt: skip
    found = of(0)
    assert found["x"]["nodes"].shape == (2, 3, clusters.room(2)[0])
    assert found["y"].shape == (2, 3, clusters.room(2)[0])
    for worker in range(2):
        seen = found["x"]["nodes"][worker].ravel()
        assert sorted(seen[seen < N]) == list(range(N))


def test_the_loss_is_the_mean_over_nodes_that_have_a_label():
    clusters = Clusters(GRAPH, OF)
    everything = np.arange(6)[None]
    batch = {"x": clusters[everything], "y": Labels(clusters, GRAPH)[everything]}
    whole = jax.tree.map(lambda leaf: leaf[0], with_features(batch, GRAPH.features))
    batch = jax.tree.map(lambda leaf: leaf[0], batch)
    model = GraphNet(WIDTHS, 3)
    params, _ = drawn(model, whole["x"])
    logits = model.apply(params, whole["x"], train=True)
    mine = np.flatnonzero(batch["y"] >= 0)
    assert len(mine) == len(GRAPH.nodes(graph.TRAIN))
    each = optax.softmax_cross_entropy_with_integer_labels(logits[mine], batch["y"][mine])
    found = nodes.loss(model)(params, with_common(batch, GRAPH.features, {}, {}), jax.random.key(0))
    np.testing.assert_allclose(found, each.mean(), rtol=1e-5)
    nothing = batch | {"y": np.full_like(batch["y"], -1)}
    assert (
        nodes.loss(model)(params, with_common(nothing, GRAPH.features, {}, {}), jax.random.key(0))
        == 0
    )


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("how", "devices"),
    [
        (method.ist(), 4),
        pytest.param(method.ist(), 1, marks=pytest.mark.slow),
        pytest.param(method.data_parallel(), 4, marks=pytest.mark.slow),
    ],
)
def test_features_that_all_have_in_common_are_as_if_batches_held_them(how, devices):
    """To the last bit, and nothing more goes over the wire."""
    widths = {"hidden0": 16, "hidden1": 12}  # of one neuron, a norm would leave nothing
    clusters, model = Clusters(GRAPH, OF), GraphNet(widths, 3, drop=0.2)
    whole = {"features": GRAPH.features, "links": message_passing.links(SENDERS, RECEIVERS, N)}
    params, names = drawn(model, whole)
    widths = partition.sub_widths(how.draw, axes.widths(params, names), 4)
    loss = nodes.loss(normalise.subnet(model, widths))
    mesh = placement.mesh(4, devices)
    of = Batches(clusters, Labels(clusters, GRAPH), workers=4, batch=2, local_steps=3, seed=0,
                 split="all")  # fmt: skip
    batches = of(0)
    nets, moved = [], []
    for made, given, common in (
        (holding(loss), with_features(batches, GRAPH.features), None),
        (loss, batches, placement.place(GRAPH.features, mesh)),
    ):
        trainer = ist_jax.build(
            made, optax.adam(0.1), params, names, method=how, workers=4, mesh=mesh
        )
        state = trainer.init(params, jax.random.key(0))
        program = trainer.lower(state, given, common=common).compile().as_text()
        moved.append(sorted(re.findall(r"= (\S+) (all-\w+|collective-\w+|reduce-\w+)\(", program)))
        state, report = trainer.round(state, given, common=common)
        nets.append((trainer.whole(state).params, report.loss))
    jax.tree.map(np.testing.assert_array_equal, *nets)
    learnt = jax.tree.map(lambda a, b: np.abs(a - b).max(), nets[0][0], params)
    assert min(jax.tree.leaves(learnt)) > 1e-3
    assert moved[0] == moved[1]
    assert bool(moved[0]) == (devices > 1)


@pytest.mark.optimized
@pytest.mark.parametrize(
    "kind", ["sage", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gcn", "gat"))]
)
def test_input_features_and_classes_can_be_dealt_out_too(kind):
    """A round is what each worker's net does alone on its features and its classes, put back."""
    size, steps, rate = 2, 3, 0.1
    sizes = {"features": 5, "hidden0": 9, "hidden1": 4, "labels": 3}  # three have an empty slot
    clusters, model = Clusters(GRAPH, OF), GraphNet(sizes, 3, kind, heads=2, normalise="scale")
    whole = {"features": GRAPH.features, "links": message_passing.links(SENDERS, RECEIVERS, N)}
    params, names = drawn(model, whole)
    widths = axes.widths(params, names)
    assert widths == sizes
    of = Batches(clusters, Labels(clusters, GRAPH), workers=size, batch=2, local_steps=steps,
                 seed=0, split="all")  # fmt: skip
    batches, cut = of(0), partition.sub_widths(partition.permutation, widths, size)
    loss, found = nodes.loss(normalise.subnet(model, cut)), []
    for devices in (1, 2):
        trainer = ist_jax.build(
            loss, optax.sgd(rate), params, names, method=method.ist(), workers=size,
            mesh=placement.mesh(size, devices),
        )  # fmt: skip
        state = trainer.init(params, jax.random.key(5))
        who = jax.tree.map(np.asarray, dict(state.assignment))
        state, report = trainer.round(state, batches, common=GRAPH.features)
        found.append((trainer.whole(state).params, report.loss))
    jax.tree.map(np.testing.assert_array_equal, *found)

    expected = jax.tree.map(np.array, params)
    flat = [(jax.tree.leaves(expected)[n], of_leaf) for n, (_, _, of_leaf) in
            enumerate(axes.walk(params, names))]  # fmt: skip
    losses, gains = [], {group: n / cut[group] for group, n in widths.items()}
    gain = gains.pop("features")
    for worker in range(size):
        own = {group: ids[worker][ids[worker] < widths[group]] for group, ids in who.items()}
        place = lambda leaf, of_leaf, own=own: np.ix_(
            *(own[g] if g else np.arange(n) for g, n in zip(of_leaf, leaf.shape, strict=True))
        )
        pieces = [leaf[place(leaf, of_leaf)] for leaf, of_leaf in flat]
        net = jax.tree.unflatten(jax.tree.structure(params), pieces)
        small = model.clone(widths={group: len(ids) for group, ids in own.items()}, gains=gains)
        features = np.concatenate([GRAPH.features, np.zeros((1, 5), np.float32)])
        for step in range(steps):
            batch = jax.tree.map(lambda leaf, w=worker, j=step: leaf[w, j], batches)
            x = {"features": gain * features[batch["x"]["nodes"]][:, own["features"]]}
            mine = [i for i, y in enumerate(batch["y"]) if y in own["labels"]]
            y = np.searchsorted(own["labels"], batch["y"][mine])

            def cross_entropy(net, x=x, links=batch["x"]["links"], small=small, mine=mine, y=y):
                logits = jnp.asarray(small.apply(net, x | {"links": links}, train=True))[
                    np.array(mine)
                ]
                return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(len(y)), y])

            value, slope = jax.value_and_grad(cross_entropy)(net)
            net = jax.tree.map(lambda leaf, g: leaf - rate * g, net, slope)
            losses.append(float(value))
        for (leaf, of_leaf), piece in zip(flat, jax.tree.leaves(net), strict=True):
            leaf[place(leaf, of_leaf)] = piece
    np.testing.assert_allclose(report.loss, np.reshape(losses, (size, steps)).mean(1), rtol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found[0][0], expected
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("memory", [0, nodes.IN_MEMORY])
def test_looking_block_by_block_is_looking_at_all_at_once(kind, memory, monkeypatch):
    monkeypatch.setattr(nodes, "IN_MEMORY", memory)
    model = GraphNet(WIDTHS, 3, kind)
    whole = {"features": GRAPH.features, "links": message_passing.links(SENDERS, RECEIVERS, N)}
    params, _ = drawn(model, whole)
    expected = model.apply(params, whole, train=False)
    for block in (7, 60) if memory else (13,):
        found = nodes.logits(model, GRAPH, block)(params)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    if memory:
        blocks = nodes._blocks(GRAPH, N, 20)
        assert 1 < len(blocks) < N
        assert np.concatenate([one.own for one in blocks]).tolist() == list(range(N))
        assert all(len(one.heard) <= 20 or len(one.own) == 1 for one in blocks)
        monkeypatch.setattr(nodes, "AT_ONCE", 20 * 4 * 8)
        np.testing.assert_allclose(nodes.logits(model, GRAPH)(params), expected, atol=1e-4)
    measured = nodes.measures(model, GRAPH)(params)
    chosen = GRAPH.nodes(graph.TEST)
    right = np.asarray(expected).argmax(1)[chosen] == GRAPH.labels[chosen]
    assert measured["accuracy/test"] == pytest.approx(right.mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_net_is_looked_at_where_it_lies_and_no_weight_is_gathered(kind):
    model = GraphNet(WIDTHS, 3, kind)
    whole = {"features": GRAPH.features, "links": message_passing.links(SENDERS, RECEIVERS, N)}
    params, names = drawn(model, whole)
    mesh, how = placement.mesh(4, 4), method.ist()
    trainer = ist_jax.build(
        lambda *_: 0.0, optax.sgd(0.1), params, names, method=how, workers=4, mesh=mesh
    )
    programs = []

    def over(function):
        spread = trainer.on_params(function)

        def call(*arguments):
            programs.append(spread.lower(*arguments).compile().as_text())
            return spread(*arguments)

        return call

    sharded = trainer.sharded_params(trainer.init(params, jax.random.key(0)))
    found = nodes.logits(model, GRAPH, 13, over)(sharded)
    np.testing.assert_allclose(found, nodes.logits(model, GRAPH, 13)(params), atol=1e-4)
    assert any("all-reduce" in program for program in programs)
    moved = "all-gather|all-to-all|collective-permute"
    assert not any(re.search(moved, program) for program in programs)


def test_what_a_net_says_is_whole_in_every_process(monkeypatch):
    """No process could look at another's part of it."""
    params, names = {"w": jnp.ones((3, 4))}, {"w": (None, "h")}
    trainer = ist_jax.build(
        lambda *_: 0.0, optax.sgd(0.1), params, names, method=method.ist(), workers=4,
        mesh=placement.mesh(4, 4),
    )  # fmt: skip
    sharded = trainer.sharded_params(trainer.init(params, jax.random.key(0)))
    layer = lambda net, h: h @ net["w"]
    for processes, whole in ((1, False), (2, True)):
        monkeypatch.setattr(jax, "process_count", lambda processes=processes: processes)
        found = trainer.on_params(layer)(sharded, np.ones((2, 3), np.float32))
        assert found.sharding.is_fully_replicated == whole


def test_macro_f1_is_that_of_scikit_learn():
    from sklearn.metrics import f1_score

    said, labels = DRAW.integers(0, 5, (2, 200))
    labels[labels == 3] = 0
    said[said == 4] = 1
    assert nodes.f1_macro(said, labels) == pytest.approx(f1_score(labels, said, average="macro"))


def test_clusters_are_metis_and_kept_for_their_graph(tmp_path):
    pytest.importorskip("pymetis", reason="pip install 'ist_jax[graphs]'")
    found = metis(GRAPH, 4, str(tmp_path))
    assert (np.bincount(found) > 5).all()
    (kept,) = tmp_path.glob("toy_4_clusters/clusters.npy")
    before = kept.stat().st_mtime_ns
    assert (metis(GRAPH, 4, str(tmp_path)) == found).all()
    assert kept.stat().st_mtime_ns == before
    ends = np.roll(np.arange(N), 1)[np.stack([SENDERS, RECEIVERS])]  # as many edges, of others
    other = graph.build("toy", GRAPH.features, ends, GRAPH.labels, GRAPH.part)
    metis(other, 4, str(tmp_path))
    assert kept.stat().st_mtime_ns != before, "that of another graph is not taken for its own"
    assert not metis(GRAPH, 1, str(tmp_path)).any()


def test_clusters_that_do_not_fit():
    with pytest.raises(InputError, match="toy has 60 nodes, the clusters 59: they are of another"):
        Clusters(GRAPH, OF[:-1])
    with pytest.raises(InputError, match="toy: 7 of 6 clusters cannot make a batch"):
        Clusters(GRAPH, OF).room(7)
    for count in (0, 61):
        with pytest.raises(InputError, match=f"toy: {count} clusters of 60 nodes"):
            metis(GRAPH, count)
    for count in (2.5, "3"):
        with pytest.raises(InputError, match=f"clusters must be a whole number, found {count!r}"):
            data.load("wordnet", clusters=count)


def test_without_metis_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymetis", None)
    with pytest.raises(InputError, match=r"clusters need METIS: pip install 'ist_jax\[graphs\]'"):
        metis(GRAPH, 4)


def test_regressions_without_a_net_use_what_is_around(tmp_path, monkeypatch, capsys):
    """Labels that only the neighbours tell are found with a hop, and by chance without."""
    n = 600
    draw = np.random.default_rng(0)
    hidden = draw.integers(0, 2, n)
    features = np.zeros((2 * n, 2), np.float32)  # the first half knows nothing,
    features[np.arange(n, 2 * n), hidden] = 1.0  # and each hears one that knows
    ends = np.stack([np.arange(n), np.arange(n, 2 * n)])
    labels = np.concatenate([hidden, np.full(n, -1)])
    made = graph.build("pairs", features, ends, labels, np.tile(np.arange(n) % 3, 2))
    for hops, least, most in ((0, 0.3, 0.7), (1, 1.0, 1.0)):
        assert least <= graph_baselines.regression(made, hops)["test"] <= most
    planetoid(tmp_path / "in")
    words = ["--data=planetoid", f"--path={tmp_path / 'in'}", f"--cache={tmp_path / 'cache'}"]
    monkeypatch.setattr("sys.argv", ["graph_baselines", *words, f"--json={tmp_path / 'out.json'}"])
    assert graph_baselines.main() == 0
    rows = json.loads((tmp_path / "out.json").read_text())
    assert [(row["hops"], row["nodes"], row["edges"]) for row in rows] == [
        (hops, 12, 4) for hops in (0, 1, 2)
    ]
    monkeypatch.setattr("sys.argv", ["graph_baselines", "--data=digits"])
    assert graph_baselines.main() == 2
    assert "--data=digits is no graph" in capsys.readouterr().err


def test_the_benchmark_takes_steps_that_learn(tmp_path, monkeypatch, capsys):
    planetoid(tmp_path / "in")
    words = ["--data=planetoid", f"--path={tmp_path / 'in'}", f"--cache={tmp_path / 'cache'}"]
    words += ["--widths", "8", "--turns=30", "--sums", f"--json={tmp_path / 'out.json'}"]
    monkeypatch.setattr("sys.argv", ["graph", *words])
    assert benchmark.main() == 0
    ours, bare, *sums = json.loads((tmp_path / "out.json").read_text())
    gathers, gathers_back, segments, segments_back = (row["loss"] for row in sums)
    assert gathers == pytest.approx(segments, rel=1e-4)
    assert gathers_back == pytest.approx(segments_back, rel=1e-4)
    assert (ours["what"], bare["what"], bare["x_bare"]) == ("ours", "bare", 1.0)
    assert ours["loss"] < 1.0 < np.log(3)
    assert "x bare" in capsys.readouterr().out


@pytest.mark.slow
def test_a_wide_net_needs_what_is_predicted():
    """In a process with eight devices: the compiled round's arguments are the closed form's."""
    words = [sys.executable, "-m", "benchmarks.graph_wide", "--hidden=4096", "--limit_gb=0.04"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    closed = float(re.search(r"its part of the net ([\d.]+) GB", done.stdout)[1])
    compiled = float(re.search(r"each worker: ([\d.]+) GB of arguments", done.stdout)[1])
    assert closed <= compiled < 1.15 * closed
    assert "IST fits, data parallel does not fit" in done.stdout
    assert len(re.findall(r"round \d: .* loss \d", done.stdout)) == 2
