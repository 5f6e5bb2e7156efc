"""Figures of run folders: what is in sight, in which color, against what."""

import json
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ist_jax.core.errors import InputError
from ist_jax.run import curves, looks, scales, seed_means


def lines(method, accuracies, seed=0, sent=1500, seconds=1.0):
    return [
        {
            "method": method,
            "seed": seed,
            "round": round,
            "step": 8 * round,
            "accuracy/test": accuracy,
            "comm/bytes_sent": sent * round,
            "compute/flops": 2_000_000 * round,
            "time/train_s": seconds * round + 0.0002,
        }
        for round, accuracy in enumerate(accuracies)
    ]


def runs(**accuracies):
    return {(name, 0): lines(name, values) for name, values in accuracies.items()}


def folder(path, runs):
    path.mkdir()
    rows = [json.dumps(line) for of_run in runs.values() for line in of_run]
    (path / "metrics.jsonl").write_text("\n".join(rows))
    return path


def drawn(panel):
    """What lines show: color and points of each."""
    return {line.get_label(): line for line in panel.get_lines()}


RISING = 0.99 - 0.89 * np.exp(-np.arange(13) / 0.3)
SLOW = np.linspace(0.1, 0.95, 13)
CASES = {
    "a fast rise": runs(ist=RISING, single=RISING + 0.005),
    "a slow rise": runs(ist=SLOW, single=RISING),
    "one that never learns": runs(ist=RISING, single=np.full(13, 0.1)),
    "few points": runs(ist=(0.1, 0.85, 0.86), single=(0.08, 0.9, 0.91)),
    "round 0 only": runs(ist=(0.1,)),
    "perfect": runs(ist=(1.0, 1.0, 1.0)),
    "a fall": runs(ist=(0.1, 0.9, 0.91, 0.92, 0.93, 0.1, 0.94, 0.95, 0.96, 0.97, 0.97)),
}


@pytest.mark.parametrize("case", CASES)
def test_at_least_nine_points_in_ten_are_in_sight(case):
    canvas = curves.canvas({"": CASES[case]}, tuple(looks.AXES))
    canvas.draw_without_rendering()
    for panel in canvas.axes:
        (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
        inside = [
            left <= a <= right and bottom <= b <= top
            for line in panel.get_lines()
            for a, b in line.get_xydata()
        ]
        assert np.mean(inside or [1]) >= 0.9


@pytest.mark.parametrize(
    ("case", "squeezed"),
    [
        ("a fast rise", True),
        ("few points", True),
        ("a slow rise", False),
        ("one that never learns", False),
        ("perfect", False),
    ],
)
def test_what_only_the_first_rounds_need_is_small_and_says_so(case, squeezed):
    canvas = curves.canvas({"": CASES[case]}, ["steps"])
    canvas.draw_without_rendering()
    (panel,) = canvas.axes
    height = lambda y: panel.transAxes.inverted().transform(panel.transData.transform((0, y)))[1]
    last = [height(line.get_ydata()[-1]) for line in panel.get_lines()]
    first = [height(line.get_ydata()[0]) for line in panel.get_lines()]
    if squeezed:  # 0.5 points apart at the end, more than 80 from the beginning
        assert max(last) - min(last) > 0.05
        assert max(first) < scales.SQUEEZED
        assert min(height(y) for line in panel.get_lines() for y in line.get_ydata()[1:]) > 0.13
    assert ("not to scale" in [text.get_text() for text in panel.texts]) == squeezed


def test_a_method_has_one_color_and_marker_in_every_figure():
    figures = [
        curves.canvas({"": runs(ist=RISING, single=SLOW, mine=RISING)}),
        curves.canvas({"": runs(mine=SLOW, loft=RISING, single=SLOW, ist=RISING)}),
    ]
    found = [
        {name: (to_hex(line.get_color()), line.get_marker()) for name, line in drawn(panel).items()}
        for figure in figures
        for panel in figure.axes
    ]
    for name in ("ist", "single", "mine"):
        assert len({looks[name] for looks in found}) == 1
    assert found[0]["ist"] == looks.METHODS["ist"]


def lab(rgb):
    """CIE L*a*b* of linear RGB, D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.clip(xyz @ rgb / [0.9505, 1, 1.089], 1e-6, None))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


EYES = {  # Machado, Oliveira and Fernandes 2009, severity 1, of linear RGB
    "usual": np.eye(3),
    "protan": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0519]],
    "deutan": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritan": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


@pytest.mark.parametrize("eyes", EYES)
def test_colors_differ_for_all_eyes_and_markers_besides(eyes):
    channels = [
        np.array([int(look.color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        for look in looks.METHODS.values()
    ]
    linear = [np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) for c in channels]
    seen = [lab(np.clip(np.asarray(EYES[eyes]) @ rgb, 0, 1)) for rgb in linear]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]]
    assert min(apart) > 10  # 2.3 is a difference that is just noticed
    markers = [look.marker for look in looks.METHODS.values()]
    assert len({*markers, *looks.MARKERS}) == len(markers) + len(looks.MARKERS)


def test_the_x_axis_is_what_was_asked_for():
    two = {("ist", seed): lines("ist", (0.1, 0.8, 0.9), seed, seconds=seed + 1) for seed in (0, 1)}
    wanted = {"steps": [0, 8, 16], "bytes": [1500, 3000], "flops": [0, 2e6, 4e6]}
    wanted |= {"seconds": [0.0002, 1.5002, 3.0002]}
    for name, places in wanted.items():
        panel = Figure().subplots()
        curves.draw(panel, two, name)
        line = drawn(panel)["ist"]
        np.testing.assert_allclose(line.get_xdata(), places)
        np.testing.assert_allclose(line.get_ydata(), [10, 80, 90][-len(places) :])
        assert panel.get_xlabel() == looks.AXES[name].label


def test_an_axis_is_logarithmic_where_a_curve_would_be_in_its_first_tenth():
    both = runs(ist=SLOW) | {("local_sgd", 0): lines("local_sgd", SLOW, sent=15_001)}
    by_steps, by_bytes = curves.canvas({"": both}).axes
    assert (by_steps.get_xscale(), by_bytes.get_xscale()) == ("linear", "log")
    near = runs(ist=SLOW) | {("local_sgd", 0): lines("local_sgd", SLOW, sent=15_000)}
    assert curves.canvas({"": near}).axes[1].get_xscale() == "linear"


def labels(canvas):
    return [text.get_text() for text in canvas.legends[0].get_texts()]


def test_what_sends_nothing_is_said_and_has_no_point_by_bytes():
    silent = {("single", 0): lines("single", SLOW, sent=0)}
    canvas = curves.canvas({"": runs(ist=SLOW) | silent})
    assert labels(canvas) == ["ist", "single (sends nothing)"]
    assert list(drawn(canvas.axes[1])) == ["ist"]
    assert labels(curves.canvas({"": silent}, ["steps"])) == ["single"]
    alone = curves.canvas({"": silent}, ["bytes"])
    alone.draw_without_rendering()
    assert "nothing was sent" in [text.get_text() for text in alone.axes[0].texts]


def test_seeds_that_stopped_early_are_left_out_and_said():
    both = {("ist", 0): lines("ist", (0.1, 0.5, 0.9)), ("ist", 1): lines("ist", (0.1, 0.3), 1)}
    (curve,) = seed_means.of(both)
    assert curve.mean.tolist() == [10, 50, 90]
    assert labels(curves.canvas({"": both})) == ["ist (1 of 2 seeds)"]


def test_folders_are_told_apart_by_lines_and_many_by_panels():
    some = {name: runs(ist=SLOW, single=RISING) for name in "abcd"}
    canvas = curves.canvas(some)
    assert len(canvas.axes) == 2
    assert labels(canvas) == ["ist", "single", *"abcd"]
    styles = {line.get_linestyle() for line in canvas.axes[0].get_lines()}
    assert len(styles) == 4
    canvas = curves.canvas(some | {"e": runs(ist=SLOW, single=RISING)})
    canvas.draw_without_rendering()
    shown = [panel for panel in canvas.axes if panel.get_visible()]
    titles = [panel.get_title(loc="left") for panel in shown]
    assert titles == [*"abcde", *"abcde"]
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in shown[:5]}) == 1
    boxes = [panel.get_tightbbox() for panel in shown]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_folders_of_one_name_are_told_apart_by_their_paths(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
    folders = [folder(tmp_path / name / "run", runs(ist=SLOW)) for name in "ab"]
    assert curves._titles(folders) == ["a/run", "b/run"]
    assert curves.figure([folders[0]] * 2, tmp_path / "twice.png", ["flops"]).exists()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["byte"], r"found 'byte'; did you mean 'bytes'\?"),
        ([""], "steps, bytes, seconds, flops, one or several; found ''"),
        (["steps", "steps"], "each at most once; found 'steps,steps'"),
        ([], "each at most once"),
    ],
)
def test_axes_that_there_are_not_are_refused(tmp_path, names, message):
    with pytest.raises(InputError, match=message):
        curves.figure([tmp_path], tmp_path / "figure.png", names)


def test_the_command_refuses_an_axis_before_anything_is_read(monkeypatch, capsys):
    from ist_jax.commands import report

    monkeypatch.setattr(sys, "argv", ["report", "nowhere", "--against=time"])
    with pytest.raises(SystemExit) as ended:
        report.main()
    assert ended.value.code == 2
    assert "--against: a figure is against steps, bytes" in capsys.readouterr().err
