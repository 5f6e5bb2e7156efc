"""Tables and figures of run folders: whole, unfinished, damaged."""

import json
import subprocess
import sys

import pytest

from ist_jax.core.errors import InputError
from ist_jax.run import curves, report


def folder(tmp_path, name="run", accuracies=((0.1, 0.8, 0.9), (0.2, 0.7, 0.8)), method="ist"):
    made = tmp_path / name
    made.mkdir(exist_ok=True)
    with (made / "metrics.jsonl").open("a") as file:
        for seed, values in enumerate(accuracies):
            for round, accuracy in enumerate(values):
                line = {
                    "method": method,
                    "seed": seed,
                    "round": round,
                    "step": 8 * round,
                    "accuracy/test": accuracy,
                    "comm/bytes_sent": 1500 * round,
                    "compute/flops": 2e9 * round,
                    "time/train_s": (seed + 1) * round,
                }
                file.write(json.dumps(line) + "\n")
    (made / "summary.json").write_text("{}")
    return made


def cells(text):
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines()]


def test_a_table_holds_mean_and_spread_of_the_last_lines(tmp_path):
    table = cells(report.table([folder(tmp_path)]))
    assert table[0][0] == "method"
    assert table[2:] == [["ist", "85.00 ± 7.07", "2", "3 kB", "4 G", "3.0 s"]]


def test_seeds_that_stopped_early_are_left_out_and_told(tmp_path):
    run = folder(tmp_path, accuracies=((0.1, 0.8, 0.9), (0.2, 0.3)))
    folder(tmp_path, accuracies=((0.1,),), method="ensemble")
    (run / "summary.json").unlink()
    told = report.table([run])
    rows = [row for row in told.splitlines() if row.startswith("|")]
    assert [cells(row)[0][:3] for row in rows[2:]] == [["ist", "90.00", "1"]]
    assert "ist, seed 1 stopped after round 1: left out" in told
    assert "ensemble, seed 0 stopped after round 0: left out" in told
    assert f"{run} is an unfinished run" in told


def test_one_seed_has_no_spread_and_folders_are_told_apart(tmp_path):
    one = folder(tmp_path, "one", ((0.1, 0.9),))
    two = folder(tmp_path, "two", ((0.1, 0.5),))
    table = cells(report.table([one, two]))
    assert [row[:2] for row in table[2:]] == [["one: ist", "90.00"], ["two: ist", "50.00"]]


@pytest.mark.parametrize(
    "accuracies",
    [((0.1, 0.8, 0.9),), ((0.1, 0.8, 0.9), (0.2,)), ((0.1,),), ((1.0, 1.0), (1.0, 1.0))],
    ids=["one seed", "a seed that was interrupted", "round 0 only", "perfect"],
)
def test_figures_of_unfinished_runs_too(tmp_path, accuracies):
    run = folder(tmp_path, accuracies=accuracies)
    out = curves.figure([run, folder(tmp_path, "b")], tmp_path / "figure.png")
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_curves_are_the_numbers(tmp_path, monkeypatch):
    import matplotlib.axes

    drawn = []
    plot = matplotlib.axes.Axes.plot

    def spy(self, x, y, **style):
        drawn.append((list(x), [round(v, 6) for v in y], style["label"]))
        return plot(self, x, y, **style)

    monkeypatch.setattr(matplotlib.axes.Axes, "plot", spy)
    curves.figure([folder(tmp_path)], tmp_path / "figure.png")
    by_steps, by_bytes = drawn
    assert by_bytes == ([1500, 3000], [75, 85], "ist")
    assert by_steps == ([0, 8, 16], [15, 75, 85], "ist")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: that run has not measured anything yet"),
        (b'{"method": "ist"', "line 1 is not a metrics line"),
        (b'{"method": "ist", "seed": 0}\n', "line 1 is not a metrics line"),
        (b"[1, 2]\n", "line 1 is not a metrics line"),
        (b"\xff\xfe\x00", "cannot read"),
    ],
)
def test_damaged_metrics_are_named(tmp_path, content, message):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=message):
        report.table([tmp_path])


def test_the_command(tmp_path):
    def call(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "experiments.report", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    a, b = folder(tmp_path, "a"), folder(tmp_path, "b")
    done = call(a, b)
    assert done.returncode == 0, done.stderr
    assert (a / "comparison.png").exists()
    assert not (a / "accuracy.png").exists()
    assert "a: ist" in done.stdout
    missing = call(tmp_path / "nowhere")
    assert missing.returncode == 2
    assert missing.stderr.startswith(f"error: {tmp_path}/nowhere is no run folder")
    assert missing.stderr.count("\n") == 1
    assert call(a, f"--out={tmp_path}/no/such/folder.png").returncode == 2
    for out in (tmp_path, tmp_path / "figure.txt"):
        refused = call(a, f"--out={out}")
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: ")
