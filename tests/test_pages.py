"""Pages of results: numbers that papers printed beside ours, and those in the repository."""

import json

import pytest
from conftest import ROOT
from test_report import cells
from test_vldb import run, section, told

from experiments.pages import gist, language, loft, making, resist
from experiments.pages.published import LOFT_TRAFFIC, RESIST_TRAFFIC
from experiments.pages.runs import gathered, time_table
from ist_jax.core.errors import InputError

LADDER = resist.LADDER
RESULTS = ROOT / "docs/results"


@pytest.mark.parametrize("folder", sorted(RESULTS.glob("runs/*")), ids=lambda path: path.name)
def test_a_page_in_the_repository_is_what_its_runs_give(folder, monkeypatch):
    monkeypatch.chdir(ROOT)
    page = RESULTS / f"{folder.name}.md"
    paths = [path.relative_to(ROOT) for path in (folder, page)]
    assert making.made(folder.name, paths[:1], paths[1]) == page.read_text()


def step(tmp_path, name, accuracies, compress="", methods=()):
    groups, how, preactivated, least = LADDER[name]
    found = {how: accuracies} | dict.fromkeys(methods, accuracies)
    folder = run(tmp_path, f"run_{name}{compress}", found, "resnet", 2, (), "fashion_mnist", "real")
    options = {"preactivate": preactivated}
    told(
        folder,
        config_model={"name": "resnet", "widths": groups, "options": options},
        config_min_depth=least,
        config_compress=compress,
        plans_x=0,
    )
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    plan = {"sub_widths": dict.fromkeys(groups, 4), "bytes_sent": 5000}
    summary["plans"] = dict.fromkeys(found, plan)
    path.write_text(json.dumps(summary))
    return folder


def test_the_ladder_is_in_its_order_beside_the_papers(tmp_path):
    folders = [step(tmp_path, "", [[0.9], [0.92]], methods=("local_sgd",))]
    folders += [step(tmp_path, "", [[0.88]], compress="4bit")]
    folders += [step(tmp_path, name, [[0.5]]) for name in ("stage", "naive")]
    page = resist.page(*gathered(folders))
    ladder = section(page, "## One step at a time")[2:]
    assert [row[0].split(":")[0] for row in ladder] == ["naive", "stage", "resist"]
    assert [row[1] for row in ladder] == ["50.00", "50.00", "91.00 ± 1.41"]
    assert [row[-1] for row in ladder] == ["*66.3*", "*84.3*", ""]
    assert [row[3] for row in ladder] == ["28", "4", "4"]
    beside = section(page, "## Beside it")[2:]
    assert [row[:3] for row in beside] == [
        ["resist", "32 bits", "91.00 ± 1.41"],
        ["local_sgd", "32 bits", "91.00 ± 1.41"],
        ["resist", "4bit", "88.00"],
    ]
    other = told(step(tmp_path, "scaled", [[0.5]]), config_min_depth=3)
    with pytest.raises(InputError, match="run_scaled is no run of configs/fashion_resist"):
        resist.page(*gathered([other]))


def test_bytes_of_resist_are_the_papers_table():
    rows = cells(resist.traffic_table())
    rows = [[cell.strip("*") for cell in row] for row in rows if len(row) > 1][2:]
    assert len(rows) == len(RESIST_TRAFFIC)
    for row in rows:
        assert row[2] == row[3]
        assert row[4] == row[5]
    assert "41,396,900" in resist.traffic_table()


def test_bytes_of_loft_are_within_two_percent_of_the_papers():
    rows = {tuple(row[0:3:2]): row for row in cells(loft.traffic_table()) if len(row) > 1}
    share = float(rows["PreResNet-18", "4"][-1])
    assert share == pytest.approx(LOFT_TRAFFIC[0] / LOFT_TRAFFIC[1], rel=0.02)
    # Counted by hand: of 11.2 million parameters 6.2 million lie in kernels that are cut.
    cut = sum(2 * 9 * n * n + 2 * n for n in (128, 256, 512))
    total = int(rows["PreResNet-18", "4"][1].replace(",", ""))
    assert share == pytest.approx(1 - 0.75 * cut / total, abs=1e-4)


def test_a_run_without_pruned_nets_is_told(tmp_path):
    with pytest.raises(
        InputError, match=r"has not all pruned nets yet: python -m experiments\.lottery"
    ):
        loft.page(*gathered([run(tmp_path, "run", {"loft": [[0.5]]})]))


def test_gist_has_a_row_for_each_depth_and_number_of_subnets(tmp_path):
    def on_a_graph(name, methods, workers, hidden, kind="sage", split="all", **more):
        keys = {"f1_macro": 0.25}
        made = run(tmp_path, name, methods, "graph", workers, hidden, "wordnet", "stand-in", **keys)
        widths = {f"hidden{n}": width for n, width in enumerate(hidden)}
        model = {"name": "graph", "widths": widths, "options": {"kind": kind}}
        data = {"batch": 5, "split": split, "options": {"clusters": 50}}
        keys = {"model": model, "data": data, "optimizer_state": "reset", "epochs": 8.0} | more
        return told(made, **{f"config_{key}": value for key, value in keys.items()})

    folders = [
        on_a_graph("a", {"ist": [[0.5], [0.7]]}, 4, (64,)),
        on_a_graph("w", {"single": [[0.8]]}, 1, (64,)),
        on_a_graph("b", {"ist": [[0.4]]}, 8, (64,)),
        on_a_graph("c", {"ist": [[0.6]]}, 4, (128,)),
        on_a_graph("d", {"ist": [[0.3]]}, 2, (64, 64), "gat"),
        on_a_graph("g", {"ist": [[0.2]]}, 4, (64,), split="disjoint"),
        on_a_graph("h", {"ist": [[0.9]]}, 4, (64,), split="same", epochs=32.0),
    ]
    row = {"data": "wordnet", "hops": 2, "test": 0.765, "nodes": 9000, "edges": 20000}
    row["counted"] = {"loops": 19, "blank": 3}
    page = gist.page(gathered(folders)[0], [row, row | {"data": "other", "test": 1}])
    own = page.split("## sage on wordnet (stand-in)")[1].split("##")[0].split("\n\n")
    assert own[1] == "8 epochs, rounds of 8 steps, batches of 5 of 50 clusters."
    assert own[2].startswith("The graph: 9,000 nodes, 20,000 edges, 19 edges from a node")
    assert own[3].endswith("(`python -m benchmarks.graph_baselines`): 76.50 (2 hops) %.")
    assert own[5] == (
        "Points above the best regression, at the width that is best on the validation nodes: "
        "the whole net +3.5 (hidden 64), m = 4 -16.5 (hidden 128), m = 8 -36.5 (hidden 64)."
    )
    first, costs = own[4], own[6]
    assert cells(first)[2:] == [
        ["2", "-", "80.00 (0)", ""],
        ["2", "4", "60.00 ± 14.14 (0)", "60.00 (0)"],
        ["2", "4, one order, each all epochs", "90.00 (0)", ""],
        ["2", "4, own clusters", "20.00 (0)", ""],
        ["2", "8", "40.00 (0)", ""],
    ]
    assert [row[:5] for row in cells(costs)[2:]] == [
        ["2", "-", "64", "1", "25.00"],
        ["2", "4", "64", "2", "25.00 ± 0.00"],
        ["2", "4", "128", "1", "25.00"],
        ["2", "4, one order, each all epochs", "64", "1", "25.00"],
        ["2", "4, own clusters", "64", "1", "25.00"],
        ["2", "8", "64", "1", "25.00"],
    ]
    assert ["1,234", "64", "80.00", "8", "64", "40.00"] in cells(page), "as large for a worker"
    assert "wider with GIST is better in 1 of 5:" in page
    assert ["3", "2", "30.00 (0)"] in cells(section_of(page, "## gat on wordnet"))
    paper = [row for row in cells(section_of(page, "## The paper's")) if row]
    assert paper[2][:4] == ["2", "-", "*89.38 (1.81)*", "*90.58 (5.17)*"]
    more = on_a_graph("a2", {"ist": [[0.1]]}, 4, (64,))
    with pytest.raises(InputError, match="both trained ist with seed 0"):
        gist.page(*gathered([folders[0], more]))
    whole = on_a_graph("w2", {"single": [[0.8]]}, 1, (64,), split="disjoint")
    with pytest.raises(InputError, match=r"/w and .*/w2 are for the same place in a table"):
        gist.page(*gathered([folders[1], whole]))
    longer = on_a_graph("l", {"ist": [[0.1]]}, 2, (64,), epochs=9.0)
    with pytest.raises(InputError, match=r"in one table, but differ in config\.epochs"):
        gist.page(*gathered([folders[0], longer]))
    short = on_a_graph("s", {"single": [[0.1]]}, 4, (64,))
    with pytest.raises(InputError, match="for all epochs needs workers=1"):
        gist.page(*gathered([short]))
    other = on_a_graph("o", {"local_sgd": [[0.1]]}, 4, (64,))
    with pytest.raises(InputError, match="local_sgd has no row"):
        gist.page(*gathered([other]))
    uneven = on_a_graph("e", {"ist": [[0.5]]}, 4, (64, 32))
    with pytest.raises(InputError, match="hidden layers of different widths"):
        gist.page(*gathered([uneven]))
    with pytest.raises(InputError, match="is no run on a graph: mlp"):
        gist.page(*gathered([run(tmp_path, "f", {"ist": [[0.5]]})]))


def section_of(page, title):
    return page[page.index(title) :].split("\n## ")[0]


def test_times_are_ratios_to_local_sgd_of_the_same_net_and_link():
    row = {"flags": ["--config=a.py"], "workers": 4, "gbps": 1.0, "method": "resist"}
    row |= {"bytes_received": 10, "bytes_received_foretold": 125e6, "waits": 3, "steps_s": 0.5}
    row |= {"latency_ms": 10.0, "date": "2026-11-30"}
    rows = [
        row | {"round_s": 2.0, "round_s_all": [2.0, 1.0, 4.0]},
        row | {"round_s": 5.0, "round_s_all": [5.0], "method": "local_sgd"},
        row | {"round_s": 4.0, "round_s_all": [4.0], "gbps": 0.1},
        row | {"round_s": 1.0, "round_s_all": [1.0], "flags": ["--config=b.py"]},
    ]
    table = [found for found in cells(time_table(rows)) if len(found) > 1][2:]
    assert [found[0] for found in table] == ["A", "A", "A", "B"]
    assert [found[6:8] for found in table] == [
        *(["2.00", "0.40"], ["5.00", "1.00"], ["4.00", ""], ["1.00", ""]),
    ]
    assert table[0][8:] == ["1.00 to 4.00 (3)", "0.50", "1.56"]
    assert table[2][-1] == "10.56"
    assert time_table([]) == ""


def test_rows_of_language_are_in_order_and_compared_seed_by_seed(tmp_path):
    def of_text(name, widths, bits, lr):
        folder = run(tmp_path, name, {m: [[0.5] for _ in b] for m, b in bits.items()})
        path = folder / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["bits/test"] = bits[line["method"]][line["seed"]]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        told(folder, config_model={"name": "transformer", "widths": widths, "options": {}})
        return told(folder, config_optimizer={"name": "adamw", "lr": lr, "schedule": "constant"})

    folders = [
        of_text("both", {"ffn": 256, "heads": 8}, {"ist": [3.0, 3.25, 3.5]}, 0.01),
        of_text("whole", {}, {"local_sgd": [2.0, 2.25, 2.5], "diloco": [1.5, 2.25, 3.0]}, 0.002),
    ]
    table = cells(language.page(*gathered(folders)))
    rows = [row[:6] for row in table if len(row) == 9][2:]
    assert rows == [
        ["nothing", "local_sgd", "0.002", "2.2500 ± 0.2500", "3", ""],
        ["nothing", "diloco", "0.002", "2.2500 ± 0.7500", "3", "+0.000 ± 0.289 (no difference)"],
        ["ffn and heads", "ist", "0.01", "3.2500 ± 0.2500", "3", "+1.000 ± 0.000"],
    ]
    assert language.behind({0: 1.5}, {0: 1.0}) == "+0.500 (one seed)"
    assert language.behind({0: 1.5}, {1: 1.0}) == ""
