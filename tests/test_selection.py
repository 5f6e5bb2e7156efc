"""What is picked is picked by validation accuracy, for each method by itself, and never by test."""

import json

import numpy as np
import pytest
from test_report import cells

from ist_jax.commands import report as command
from ist_jax.core.errors import InputError
from ist_jax.run import differences, selection, sweep

ROUNDS = 2


def run_folder(folder, settings, of_methods, seeds=(0, 1), part="validation", held=10, **summary):
    """A finished run; ``of_methods`` has for each method (validation, test) of each seed."""
    folder.mkdir(parents=True)
    config = {"methods": list(of_methods), "seeds": list(seeds), "optimizer": {}}
    for key, value in settings.items():
        config["optimizer"][key.rpartition(".")[2]] = value
    (folder / "config.json").write_text(json.dumps(config))
    data = {"name": "some", "train": 90, "validation": held, "sha256": "a", "test": 5}
    told = {"config": config, "rounds": ROUNDS, "data": data, "diverged": {}} | summary
    (folder / "summary.json").write_text(json.dumps(told))
    with (folder / "metrics.jsonl").open("a") as file:
        for method, accuracies in of_methods.items():
            for seed, (validation, test) in zip(seeds, accuracies, strict=False):
                for number in (0, ROUNDS):
                    line = {
                        **{"method": method, "seed": seed, "round": number, "step": number},
                        **{"accuracy/test": test, f"accuracy/{part}": validation},
                        **{"comm/bytes_sent": 1000, "compute/flops": 1, "time/train_s": 1.5},
                    }
                    if not held and part == "validation":
                        del line["accuracy/validation"]
                    file.write(json.dumps(line) + "\n")


RATES = (0.1, 0.2, 0.3)
VALIDATION = {"ist": (0.5, 0.9, 0.7), "local_sgd": (0.8, 0.6, 0.4)}


def swept(folder, test, **changes):
    """A sweep of three rates; ``test(validation)`` is the accuracy on the test part."""
    order = sweep.combinations({"optimizer.lr": RATES})
    whole = {"values": {"optimizer.lr": list(RATES)}, "order": []}
    for number, one in enumerate(order):
        whole["order"].append({"folder": one.name, "settings": one.settings})
        of = {
            name: [(shares[number] + d, test(shares[number] + d)) for d in (-0.01, 0.01)]
            for name, shares in VALIDATION.items()
        }
        run_folder(folder / one.name, one.settings, of, **changes)
    (folder / "sweep.json").write_text(json.dumps(whole))
    return folder


def chosen(folder):
    order = sweep.read(folder)
    found = selection.pick(selection.of_sweep(folder, order))
    return {method: one.settings["optimizer.lr"] for method, one in found.items()}


@pytest.mark.parametrize(
    "test",
    [lambda v: v, lambda v: 1 - v, lambda v: 0.5, lambda v: 100 * v % 1, lambda v: float(v < 0.5)],
    ids=["the same", "the opposite", "constant", "mixed up", "best where validation is worst"],
)
def test_each_method_has_its_own_best_whatever_the_test_accuracy(tmp_path, test):
    assert chosen(swept(tmp_path, test)) == {"ist": 0.2, "local_sgd": 0.1}


def test_the_mean_over_seeds_decides_and_of_equals_the_first():
    assert selection.picked({"ist": {"a": (0.2, 0.8), "b": (0.6, 0.5)}}) == {"ist": "b"}
    assert selection.picked({"ist": {"a": (0.5,), "b": (0.75,), "c": (0.75,)}}) == {"ist": "b"}
    assert selection.picked({"ist": {}}) == {}
    draw = np.random.default_rng(0)
    for _ in range(50):
        shares = draw.integers(0, 4, size=(5, 3)) / 4
        label = selection.picked({"ist": {str(i): tuple(row) for i, row in enumerate(shares)}})
        assert int(label["ist"]) == shares.mean(axis=1).argmax()


def test_tables_show_validation_of_all_and_test_only_of_what_is_picked(tmp_path):
    told = selection.table(swept(tmp_path, lambda v: 1 - v))
    every, best = (part for part in told.split("\n\n") if part.startswith("|"))
    rows = cells(every)
    assert rows[0] == ["optimizer.lr", "method", "validation (%)", "seeds", "sent / worker",
                       "training time"]  # fmt: skip
    assert rows[2] == ["0.1", "ist", "50.00 ± 1.41", "2", "1 kB", "1.5 s"]
    assert len(rows) == 2 + 6
    assert cells(best)[2:] == [
        ["ist", "optimizer.lr=0.2", "90.00 ± 1.41", "10.00 ± 1.41", "90%"],
        ["local_sgd", "optimizer.lr=0.1", "80.00 ± 1.41", "20.00 ± 1.41", "90%"],
    ]
    assert "test accuracy chose nothing" in told
    assert "local_sgd: optimizer.lr=0.1 is the smallest tried; try beyond it" in told
    assert "ist: optimizer.lr" not in told, "it is between others"
    assert "ist, local_sgd: trained on 90% of the training data; not trained again" in told


def test_texts_are_picked_by_the_fewest_bits(tmp_path):
    """The accuracies beside them say the opposite, and are not asked."""
    folder = swept(tmp_path / "sweep", lambda share: share)
    for path in folder.glob("*/metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            line["bits/validation"], line["bits/test"] = 2 * line["accuracy/validation"], 7.0
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert chosen(folder) == {"ist": 0.1, "local_sgd": 0.3}
    text = selection.table(folder)
    assert "picked by the mean validation bits" in text
    assert "validation (per byte)" in text
    assert "1.0000 ± 0.0283" in text
    assert text.count("7.0000 ± 0.0000") == 2


def test_what_has_not_all_seeds_to_the_last_round_is_never_picked(tmp_path):
    folder = swept(tmp_path, lambda v: v)
    best = folder / "lr=0.2" / "metrics.jsonl"
    rows = best.read_text().splitlines()
    assert json.loads(rows[3])["method"] == "ist"
    best.write_text("\n".join([*rows[:3], *rows[4:]]) + "\n")  # seed 1 diverged
    assert chosen(folder) == {"ist": 0.3, "local_sgd": 0.1}
    assert "ist with optimizer.lr=0.2: not all seeds reached" in selection.table(folder)
    (folder / "lr=0.1" / "summary.json").unlink()
    assert chosen(folder) == {"ist": 0.3, "local_sgd": 0.2}
    assert "optimizer.lr=0.1 is not finished: left out" in selection.table(folder)
    for name in ("lr=0.2", "lr=0.3"):
        summary = json.loads((folder / name / "summary.json").read_text())
        (folder / name / "summary.json").write_text(json.dumps(summary | {"rounds": 9}))
    assert "ist: nothing can be picked" in selection.table(folder)
    for name in ("lr=0.2", "lr=0.3"):
        (folder / name / "summary.json").unlink()
    assert "no run of this sweep is finished" in selection.table(folder)


def test_what_was_trained_again_stands_beside_what_it_is_of(tmp_path):
    folder = swept(tmp_path, lambda v: v)
    run_folder(folder / "best-ist", {"optimizer.lr": 0.2}, {"ist": [(0, 0.7), (0, 0.9)]}, held=0)
    run_folder(
        folder / "best-local_sgd", {"optimizer.lr": 0.3}, {"local_sgd": [(0, 1)] * 2}, held=0
    )
    told = selection.table(folder)
    rows = [cells(row)[0] for row in told.splitlines() if "trained again |" in row]
    assert rows == [["ist, trained again", "optimizer.lr=0.2", "-", "80.00 ± 14.14", "all"]]
    assert "best-local_sgd is of optimizer.lr=0.3, or not finished: left out" in told
    assert "local_sgd: trained on 90% of the training data; not trained again" in told


def test_graphs_are_picked_by_validation_nodes_of_their_own(tmp_path):
    folder = swept(tmp_path, lambda v: 1 - v, part="valid", held=0)
    assert chosen(folder) == {"ist": 0.2, "local_sgd": 0.1}
    told = selection.table(folder)
    assert "not trained again" not in told
    assert cells(told.split("\n\n")[1])[2][-1] == "all"


def of_folders(folders):
    found = differences.of(folders)
    return selection.of_folders(folders, found) if found else ""


def test_run_folders_without_a_sweep_are_picked_from_by_what_differs(tmp_path, capsys, monkeypatch):
    for name, lr, validation in (("a", 0.1, 0.5), ("b", 0.2, 0.6)):
        run_folder(
            tmp_path / name, {"optimizer.lr": lr}, {"ist": [(validation, 1 - validation)] * 2}
        )
    folders = [tmp_path / "a", tmp_path / "b"]
    told = of_folders(folders)
    assert cells(told)[0][0] == "optimizer.lr"
    assert "| ist    | optimizer.lr=0.2 |" in told
    run_folder(tmp_path / "c", {"optimizer.lr": 0.3}, {"ist": [(0.9, 0.9)] * 2}, held=20)
    assert of_folders([*folders, tmp_path / "c"]).startswith("nothing is picked: the fold")
    assert of_folders([folders[0]]) == "", "nothing differs"
    run_folder(tmp_path / "d", {"optimizer.lr": 0.3}, {"ist": [(0.9, 0.9)] * 2}, held=0)
    assert of_folders([folders[0], tmp_path / "d"]) == "", "no validation data"
    (folders[0] / "summary.json").write_text("{}")
    assert of_folders(folders) == ""


def test_the_table_of_run_folders_says_what_differs_and_that_data_are_unlike(
    tmp_path, capsys, monkeypatch
):
    for name, lr, sha256 in (("a", 0.1, "1"), ("b", 0.2, "1"), ("c", 0.2, "2"), ("d", 0.2, "")):
        run_folder(tmp_path / name, {"optimizer.lr": lr}, {"ist": [(0.5, 0.5)] * 2}, held=0)
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        summary["data"]["sha256"] = sha256
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))

    def told(*names):
        monkeypatch.setattr("sys.argv", ["report", *(str(tmp_path / name) for name in names)])
        assert command.main() == 0
        return capsys.readouterr().out

    assert "| differs      |   a |   b |\n| ---          | --- | --- |" in told("a", "b")
    assert "| optimizer.lr | 0.1 | 0.2 |" in told("a", "b")
    assert "not the same data" not in told("a", "b")
    assert "differs" not in told("b", "c")
    assert "not the same data, so accuracies cannot be compared: b: " in told("b", "c")
    assert "not the same data" in told("c", "d"), "one does not say which data it has"


def test_the_command_shows_a_sweep(tmp_path, capsys, monkeypatch):
    folder = swept(tmp_path, lambda v: v)
    call = lambda *words: monkeypatch.setattr("sys.argv", ["report", *map(str, words)])
    call(folder)
    assert command.main() == 0
    assert "| ist       | optimizer.lr=0.2 |" in capsys.readouterr().out
    for words in ((folder, folder / "lr=0.1"), (folder, "--out=x.png")):
        call(*words)
        assert command.main() == 2
        assert "is a sweep: report it alone and without --out" in capsys.readouterr().err
    (folder / "lr=0.1" / "summary.json").write_text("[]")
    with pytest.raises(InputError, match=r"lr=0\.1/summary\.json cannot be read"):
        selection.table(folder)
