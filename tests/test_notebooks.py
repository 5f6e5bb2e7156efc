"""The notebooks run, and the one without a library gives the library's numbers."""

import asyncio
import functools
import json
import os
import re
import warnings

import jax
import jax.numpy as jnp
import nbformat
import numpy as np
import optax
import pytest
from conftest import ROOT
from nbclient import NotebookClient

import ist_jax
from ist_jax import axes, method
from ist_jax.models import normalise
from ist_jax.models.mlp import MLP
from ist_jax.tasks import classification

pytestmark = pytest.mark.optimized

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EARLY = 5  # rounds; later, rounding has grown too much to compare weight by weight
KEEP = """
leaves = {f"initial{i}": leaf for i, leaf in enumerate(initial_net(jax.random.key(1)))}
early = initial_net(jax.random.key(1))
for number in range(EARLY):
    early = one_round(early, draws[number], batches_x[number], batches_y[number])
leaves |= {f"early{i}": leaf for i, leaf in enumerate(early)}
np.savez(
    PATH, x=batches_x, y=batches_y, accuracy=ist[-1], train_x=train_x, test_x=test_x, test_y=test_y,
    hidden0=np.stack([a for a, _ in draws]), hidden1=np.stack([b for _, b in draws]), **leaves
)
"""


def execute(path, folder, then=""):
    """Runs a notebook in a kernel of its own, in ``folder``; returns what its cells print.

    What it shows is kept in it: ``KEEP_OUTPUTS=1`` writes it, otherwise it is compared.
    """
    notebook = nbformat.read(path, as_version=4)
    kept = [shown(cell) for cell in notebook.cells]
    if then:
        notebook.cells.append(nbformat.v4.new_code_cell(then))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jupyter and zmq about themselves
        client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": folder}})
        asyncio.run(client.async_execute())
    if then:
        notebook.cells.pop()
    if os.environ.get("KEEP_OUTPUTS"):
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)
        nbformat.write(notebook, path)
    else:
        assert [shown(cell) for cell in notebook.cells] == kept, "KEEP_OUTPUTS=1 keeps the new ones"
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out.get("name") == "stderr"], outputs
    return "".join(out["text"] for out in outputs if out.get("name") == "stdout")


def shown(cell):
    """What a cell shows, but for the numbers, which differ between machines; pictures by kind.

    What is printed may come in one piece or in several.
    """
    found: list[tuple[str, ...]] = []
    for out in cell.get("outputs", []):
        data = out.get("data", {"text/plain": out.get("text", "")})
        kinds = sorted(kind for kind in data if kind.startswith("image/")) or ["text/plain"]
        text = (
            ""
            if kinds != ["text/plain"]
            else re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", data["text/plain"])
        )
        one = (out["output_type"], *kinds, re.sub(r" +", " ", text))
        if found and one[:-1] == found[-1][:-1] == ("stream", "text/plain"):
            one = (*one[:-1], found.pop()[-1] + one[-1])
        found.append(one)
    return found


def percentages(text):
    return [float(number) for number in re.findall(r"([\d.]+)%", text)]


def test_the_one_from_scratch_agrees_with_the_library(tmp_path):
    place = f"PATH, EARLY = {str(tmp_path / 'kept.npz')!r}, {EARLY}"
    told = execute(NOTEBOOKS[0], tmp_path, place + KEEP)
    assert "scatter undoes gather: True" in told
    ist, ensemble, single, share = percentages(told)
    assert ist > 96
    assert ensemble < ist - 1
    assert single > 97
    assert share == pytest.approx(
        100 * (64 * 64 * 2 + 64 * 10) / (64 * 256 + 256**2 + 2560), abs=0.1
    )

    kept = np.load(tmp_path / "kept.npz")
    layers = ("hidden0", "hidden1", "logits")
    model = MLP({"hidden0": 256, "hidden1": 256}, classes=10, affine=False)
    _, names = axes.of(
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.ones((1, 64)), train=True))
    )

    def tree(which):
        return {"params": {n: {"kernel": kept[f"{which}{i}"]} for i, n in enumerate(layers)}}

    def given(key, context):
        return {group: jnp.asarray(kept[group])[context.number] for group in context.widths}

    loss = classification.cross_entropy(normalise.subnet(model, {"hidden0": 64, "hidden1": 64}))
    trainer = ist_jax.build(
        loss, optax.sgd(0.1), tree("initial"), names, method=method.ist(given), workers=4
    )
    state = trainer.init(tree("initial"), jax.random.key(0))
    for number, (x, y) in enumerate(zip(kept["x"], kept["y"], strict=True), start=1):
        state, _ = trainer.round(state, {"x": x, "y": y})
        if number == EARLY:
            jax.tree.map(
                functools.partial(np.testing.assert_allclose, atol=2e-5),
                state.params,
                tree("early"),
            )
    evaluate = classification.accuracy(model, kept["train_x"])
    ours = evaluate(state.params, kept["test_x"], kept["test_y"])
    assert ours == pytest.approx(float(kept["accuracy"]), abs=3.5 / len(kept["test_y"]))


def test_the_quickstart_runs(tmp_path):
    told = execute(NOTEBOOKS[1], tmp_path)
    assert "the same bits: True" in told
    assert re.search(r"it says (\d) and the label is \1", told)
    ist, again, local_sgd, single, small, two, eight, by_hand = percentages(told)
    assert ist == again == by_hand
    assert min(ist, two, small) > 97
    assert min(local_sgd, single) > 98
    assert eight > 93


def test_the_one_on_your_own_model_runs(tmp_path):
    told = execute(NOTEBOOKS[4], tmp_path)
    assert "the neurons of group 'first'" in told
    assert "{'heads': 2, 'inner': 16}" in told
    assert "the program says what the net says: True" in told
    arrays, linen, attention = percentages(told)
    assert min(arrays, linen) > 96
    assert attention > 90


def test_the_sketch_analysis_runs_and_says_what_it_claims(tmp_path):
    told = execute(NOTEBOOKS[2], tmp_path)
    assert "gradient at x*: True" in told
    assert "the mean of the C_i is I: True" in told
    assert "without a linear term, one step: True" in told
    predicted, measured = (
        float(re.search(rf"{word}: .* = ([\d.]+)", told)[1]) for word in ("predicted", "measured")
    )
    assert measured == pytest.approx(predicted, rel=0.05)
    errors = [float(n) for n in re.findall(r"([+-][\d.]+) standard errors", told)]
    assert len(errors) == 4
    assert all(abs(error) < 4 for error in errors)
    assert re.findall(r"\(24\) holds: (\w+)", told) == ["True", "False"]
    floors = [float(n) for n in re.findall(r"median error ([\d.e+-]+)", told)]
    assert floors[0] < 1e-9 < floors[1] < floors[2] < floors[3]
    assert floors[4] > floors[5] > floors[6]


def test_the_one_on_graphs_runs(tmp_path):
    told = execute(NOTEBOOKS[3], tmp_path)
    assert "a sum of ones is the degree: True" in told
    whole, two, four = percentages(told)
    assert min(whole, two, four) > 85
    assert re.search(r"width  32768: +8\d+\.\d MB, with 8 workers +13\d\.\d MB each", told)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_badges_lead_to_the_notebook_and_what_it_shows_is_kept(path):
    cells = json.loads(path.read_text())["cells"]
    badge = re.search(r"\]\((https://colab[^)]+ipynb)\)", "".join(cells[0]["source"]))
    project = (ROOT / "pyproject.toml").read_text()
    repository = re.search(r'Repository = "https://(\S+)"', project)[1]
    place = repository.replace("github.com", "github")
    assert badge[1] == f"https://colab.research.google.com/{place}/blob/main/notebooks/{path.name}"
    assert f"]({badge[1]})" in (ROOT / "README.md").read_text()
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    assert outputs
    assert path == NOTEBOOKS[0] or any("image/png" in out.get("data", {}) for out in outputs)
