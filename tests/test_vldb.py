"""The paper's tables beside our runs: from folders, nothing typed by hand."""

import json
import shlex

import numpy as np
import pytest
import scipy.sparse
from test_report import cells

from benchmarks import time_to_accuracy, xmc_baselines
from experiments.pages import vldb, workloads
from experiments.pages.published import TABLE1
from experiments.pages.runs import gathered, read
from experiments.report import PAGES
from ist_jax import data
from ist_jax.commands import report
from ist_jax.core.errors import InputError


def run(
    tmp_path,
    name,
    methods,
    model="mlp",
    workers=8,
    hidden=(4096,),
    dataset="speech",
    origin="synthetic",
    **keys,
):
    """A finished run; ``methods``: the accuracies of each seed after 0, 10, 20 ... rounds."""
    folder = tmp_path / name
    folder.mkdir()
    lines = [
        {
            "method": method,
            "seed": seed,
            "round": 10 * number,
            "step": 80 * number,
            "accuracy/test": accuracy,
            "accuracy/valid": accuracy,
            "comm/bytes_sent": 1000 * number,
            "comm/bytes_received": 1000 * number,
            "compute/flops": 1,
            "time/train_s": 2.0 * number,
            **{f"{key}/test": value for key, value in keys.items()},
        }
        for method, seeds in methods.items()
        for seed, accuracies in enumerate(seeds)
        for number, accuracy in enumerate(accuracies)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {
        "config": {
            "workers": workers,
            "local_steps": 8,
            "rounds": 30,
            "optimizer": {"schedule": "constant"},
            "data": {"batch": 128},
            "model": {
                "name": model,
                "widths": {f"hidden{n}": width for n, width in enumerate(hidden)},
            },
        },
        "plans": {method: {"parameters": 1234, "net_parameters": 5678} for method in methods},
        "command": f"python -m experiments.main --config=x.py --workdir=runs/{name}",
        "data": {
            "name": dataset,
            "origin": origin,
            "train": 100,
            "test": 50,
            "classes": 35,
            "skipped": 3,
        },
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def links(tmp_path, **seconds):
    rows = [
        {
            "net": "speech_2layer",
            "workers": 8,
            "gbps": 1.0,
            "local_steps": 8,
            "batch": 128,
            "method": method,
            "round_s": value,
        }
        for method, value in seconds.items()
    ]
    path = tmp_path / "links.json"
    path.write_text(json.dumps(rows))
    return path


def page(paths):
    return vldb.page(*gathered(paths))


def section(text, title):
    found = text[text.index(title) :].split("\n## ")[0]
    return [row for row in cells(found) if len(row) > 1]


def test_table_1_is_rounds_times_seconds_and_ratios_to_ist(tmp_path):
    folder = run(
        tmp_path,
        "speech_8",
        {
            "ist": [[0.0, 0.5, 0.7, 0.8], [0.0, 0.64, 0.7, 0.8]],  # .63 at 20 and 10, .75 at 30
            "local_sgd": [[0.0, 0.7, 0.7, 0.8], [0.0, 0.7, 0.8, 0.8]],  # at 10, and 30 and 20
            "data_parallel": [[0.0, 0.65, 0.7, 0.7], [0.0, 0.65, 0.7, 0.8]],  # .75: once only
        },
        origin="real",
    )
    also = links(tmp_path, ist=0.5, local_sgd=4.0, data_parallel=10.0)
    table = section(page([folder, also]), "## Table 1, speech, 2 layers")
    rows = {row[0]: row[1:] for row in table}
    at = {label: place for place, label in enumerate(rows["accuracy"])}
    ours = lambda row, label: rows[row][at[label]]
    assert ours("0.63", "IST, 8") == "8"  # 15 rounds of 0.5 s
    assert ours("0.63", "local SGD, 8") == "40"
    assert ours("0.63", "data parallel, 8") == "100"
    assert ours("0.63, x IST", "local SGD, 8") == "5.3"
    assert ours("0.63, x IST", "data parallel, 8") == "13.3"
    assert ours("0.75", "data parallel, 8") == "-", "one seed did not get there"
    assert ours("0.75", "IST, 8") == "15"
    assert ours("0.63", "IST, 4") == "-"
    assert ours("*0.75*", "local SGD, 8") == "*1110*"
    assert ours("*0.75, x IST*", "data parallel, 8") == "*12.6*"
    assert ours("*0.75, x IST*", "local SGD, 8") == "*5.8*"


def test_on_synthetic_speech_other_levels_stand_for_the_papers(tmp_path):
    folder = run(tmp_path, "speech_8", {"ist": [[0.0, 0.5, 0.6]], "local_sgd": [[0.0, 0.5, 0.56]]})
    also = links(tmp_path, ist=0.5, local_sgd=4.0)
    rows = section(page([folder, also]), "## Table 1, speech, 2 layers")
    assert [row[0] for row in rows[2:]] == [
        *("0.48", "*0.63*", "0.48, x IST", "*0.63, x IST*"),
        *("0.57", "*0.75*", "0.57, x IST", "*0.75, x IST*"),
    ]
    place = rows[0].index("IST, 8")
    assert (rows[2][place], rows[6][place]) == ("5", "10")
    assert rows[6][rows[0].index("local SGD, 8")] == "-"


def test_more_rounds_are_the_same_run_unless_a_schedule_ends_with_them(tmp_path):
    long = run(tmp_path, "long", {"ist": [[0.0, 0.5, 0.6]]})
    short = told(run(tmp_path, "short", {"local_sgd": [[0.0, 0.5]]}), config_rounds=15)
    [joined] = workloads.joined([read(folder) for folder in (long, short)])
    assert joined.rounds_to("local_sgd", 0.5) == 10
    assert joined.last("local_sgd") == [], "a shorter run has no place beside the last of a longer"
    assert "Table 2" not in page([long, short])
    for folder in (long, short):
        told(folder, config_optimizer={"schedule": "cosine"})
    with pytest.raises(InputError, match=r"differ in config\.rounds"):
        workloads.joined([read(folder) for folder in (long, short)])


def test_the_ratios_that_the_paper_speaks_of():
    paper = TABLE1["speech, 2 layers"][0.75]
    assert round(paper["data_parallel"][2] / paper["ist"][2], 1) == 12.6
    assert round(paper["local_sgd"][2] / paper["ist"][2], 1) == 5.8


def test_tables_2_and_3_have_mean_spread_seeds_and_data(tmp_path):
    two = run(
        tmp_path,
        "speech_2",
        {"ist": [[0.8], [0.82]], "ensemble": [[0.7], [0.7]], "local_sgd": [[0.81], [0.81]]},
        workers=2,
    )
    three = {"ist": [[0.5]], "local_sgd": [[0.4]], "data_parallel": [[0.3]]}
    vgg = run(tmp_path, "vgg", three, model="vgg", dataset="fashion", workers=4)
    text = page([two, vgg])
    table = section(text, "## Table 2")
    rows = {row[0]: row[1:] for row in table}
    assert rows["speech, 2 layers, 2 workers"] == [
        "speech (synthetic)",
        "5,678",
        "0",
        "2",
        "-",
        "81.00 ± 0.00",
        "81.00 ± 1.41",
    ]
    assert rows["*speech, 2 layers, 2 workers*"][-1] == "*81.53*"
    assert rows["VGG12, 4 workers"][-1] == "50.00"
    third = {row[0]: row[1:] for row in section(text, "## Table 3")}
    assert third["2"] == ["2", "81.00 ± 1.41", "70.00 ± 0.00", "-", "-"]
    assert "IST is the best of the three in 1 of our 1 rows" in text
    assert "speech, 2 layers: after 0 rounds IST is ahead in 1 of 1 places" in text
    assert third["*8*"][1:] == ["*76*", "*77*", "*78*", "*70*"]
    assert "python -m experiments.main --config=x.py --workdir=runs/speech_2" in text
    assert "Table 1" not in text
    assert "Table 4" not in text


def test_table_4_has_widths_baselines_and_the_papers(tmp_path):
    keys = {f"{kind}_{k}": 0.1 * k for kind in ("precision", "propensity") for k in (1, 3, 5)}
    wide = run(tmp_path, "wide", {"ist": [[0.5]]}, "xmc", 4, (1024,), "packages", **keys)
    narrow = run(tmp_path, "narrow", {"ist": [[0.5]]}, "xmc", 4, (512,), "packages", **keys)
    known = tmp_path / "baselines.json"
    known.write_text(json.dumps([{"data": "packages", "method": "popularity", **keys}]))
    table = section(page([wide, narrow, known]), "## Table 4")
    assert [row[1] for row in table[2:5]] == ["", "512", "1024"]
    assert table[3][2:7] == ["IST, 4 workers", "1", "10.0", "30.0", "50.0"]
    assert table[3][-2:] == ["1,234", "0 B"]
    assert table[-1][1:7] == ["*2560*", "*IST, 8 workers*", "", "*43.8*", "*39.4*", "*36.6*"]


def test_what_is_no_run_or_no_table_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no finished run"):
        page([tmp_path])
    with pytest.raises(InputError, match="belongs to no table: mlp on digits"):
        page([run(tmp_path, "other", {"ist": [[0.5]]}, dataset="digits")])
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(InputError, match="no JSON list of rows"):
        page([run(tmp_path, "good", {"ist": [[0.5]]}), broken])


def test_the_command_writes_the_page_and_tells_mistakes(tmp_path, monkeypatch, capsys):
    run(tmp_path, "speech", {"ist": [[0.5]]})
    links(tmp_path, ist=0.5)
    out = tmp_path / "page.md"
    call = lambda *words: monkeypatch.setattr("sys.argv", ["report", "--page=vldb", *words])
    call(f"--out={out}", str(tmp_path))
    assert report.main(pages=PAGES) == 0
    title, _, command, rest = out.read_text().split("\n\n", 3)
    assert f"{title}\n\n{rest}" == page([tmp_path / "speech", tmp_path / "links.json"])
    assert command == f"    python -m experiments.report --page=vldb --out={out} {tmp_path}"
    for words, said in (
        ((f"--out={out}", str(tmp_path / "no")), "holds no finished run"),
        ((f"--out={tmp_path}", str(tmp_path)), "cannot write the page"),
    ):
        call(*words)
        assert report.main(pages=PAGES) == 2
        assert said in capsys.readouterr().err
    call(str(tmp_path))
    with pytest.raises(SystemExit):
        report.main(pages=PAGES)
    assert "--page needs --out" in capsys.readouterr().err


def test_only_nets_that_the_benchmark_knows_are_timed(tmp_path):
    one = read(run(tmp_path, "one", {"ist": [[0.5]]}))
    assert time_to_accuracy.net_of(one) == "speech_2layer"
    other = read(run(tmp_path, "two", {"ist": [[0.5]]}, hidden=(128,)))
    with pytest.raises(InputError, match=r"no net with hidden layers \[128\] can be timed"):
        time_to_accuracy.net_of(other)


def test_the_flags_of_a_command_are_the_configs_and_one_seed(tmp_path):
    made = read(run(tmp_path, "one", {"ist": [[0.5], [0.6]]}))
    words = ["--config=c.py:real", "--config.seeds=(0, 1)", "--workdir", "runs/x", "--resume"]
    command = "python -m experiments.main " + shlex.join(words)
    flags = time_to_accuracy.flags_of(made._replace(command=command))
    assert flags == ["--config=c.py:real", "--config.seeds=(0, 1)", "--config.seeds=(0,)"]


def told(folder, **changes):
    """Changes what a run's summary tells of its config or data."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    for key, value in changes.items():
        part, _, name = key.partition("_")
        summary[part][name] = value
    path.write_text(json.dumps(summary))
    return folder


def test_runs_for_one_place_are_one_if_methods_or_seeds_are_their_own(tmp_path):
    one = run(tmp_path, "one", {"ist": [[0.5], [0.7]]}, workers=2)
    two = run(tmp_path, "two", {"local_sgd": [[0.4]]}, workers=2)
    told(one, config_seeds=[0, 1])
    told(two, config_seeds=[0], config_checkpoint={"every": 5})
    text = page([one, two])
    assert section(text, "## Table 2")[2][1:] == [
        "speech (synthetic)",
        "5,678",
        "0",
        "1 or 2",
        "-",
        "40.00",
        "60.00 ± 14.14",
    ]
    assert "--workdir=runs/one\n" in text
    assert "--workdir=runs/two\n" in text


def test_two_runs_for_one_place_and_different_data_are_refused(tmp_path):
    one = run(tmp_path, "one", {"ist": [[0.5]]})
    two = run(tmp_path, "two", {"ist": [[0.5]], "local_sgd": [[0.4]]})
    with pytest.raises(InputError, match=r"for the same place .* both trained ist with seed 0"):
        page([one, two])
    wide = run(tmp_path, "wide", {"local_sgd": [[0.5]]}, hidden=(8192,))
    with pytest.raises(InputError, match=r"differ in config\.model\.widths\.hidden0"):
        page([one, wide])
    real = run(tmp_path, "real", {"ist": [[0.5]]}, workers=2, dataset="speech_commands")
    with pytest.raises(InputError, match="a page for each"):
        page([one, real])
    same = told(run(tmp_path, "same", {"ist": [[0.5]]}, workers=2), data_sha256="other")
    with pytest.raises(InputError, match="not the same data"):
        page([one, same])


def test_a_time_of_another_net_or_batch_is_not_used(tmp_path):
    also = links(tmp_path, ist=0.5)
    wide = run(tmp_path, "wide", {"ist": [[0.0, 0.9]]}, hidden=(8192,))
    assert "Table 1" not in page([wide, also])
    rows = json.loads(also.read_text())
    also.write_text(json.dumps([row | {"batch": 64} for row in rows]))
    same = run(tmp_path, "same", {"ist": [[0.0, 0.9]]})
    assert "Table 1" not in page([same, also])


def test_neighbours_are_those_of_a_loop(tmp_path):
    draw = np.random.default_rng(0)
    for part, n in (("train", 40), ("test", 9)):
        rows = []
        for _ in range(n):
            words = draw.choice(12, 4, replace=False)
            labels = draw.choice(15, 2, replace=False)
            values = draw.uniform(0.1, 1, 4)
            rows.append(
                ",".join(map(str, labels))
                + "".join(f" {w}:{v:.4f}" for w, v in zip(words, values, strict=True))
            )
        (tmp_path / f"{part}.txt").write_text(f"{n} 12 15\n" + "\n".join(rows) + "\n")
    found = data.load("xmc", str(tmp_path), cache=str(tmp_path / "cache"))
    ours = xmc_baselines.neighbours(found, 3)
    train, test = (xmc_baselines.matrix(x).toarray() for x in (found.train_x, found.test_x))
    train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    labels = xmc_baselines.matrix(found.train_y).toarray()
    assert scipy.sparse.issparse(xmc_baselines.matrix(found.train_x))
    for example, best in zip(test, ours, strict=True):
        likeness = train @ example
        score = np.zeros(15)
        for near in np.argsort(-likeness)[:3]:
            score += likeness[near] * labels[near]
        assert len(set(best)) == 5
        top = best[: int((score > 0).sum())]
        np.testing.assert_allclose(score[top], np.sort(score)[::-1][: len(top)], rtol=1e-5)
