"""Two thousand rounds in which workers fail at random: nothing piles up."""

import json

import numpy as np
import pytest
from test_distributed import run_all
from test_main import lines

SOAK = """
import json, pathlib, sys
from conftest import tiny
from ist_jax.run import loop, training as train

pages, provide = [], loop.provide

def counted(*args):
    pages.append(int(pathlib.Path("/proc/self/statm").read_text().split()[1]))
    return provide(*args)

loop.provide = counted
folder = pathlib.Path(sys.argv[1])
train.run(tiny(**json.loads(sys.argv[2])), folder)
(folder / "pages.json").write_text(json.dumps(pages))
"""


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_memory_is_flat(tmp_path, devices):
    """Resident memory of the last 500 rounds: within 2 % of that of the 500 before."""
    changes = {
        "rounds": 2000,
        "eval_every": 20,
        "checkpoint.every": 5,
        "mesh.workers": devices,
        "faults": "drop:10%;nan:5%;slow:1x1.5",
        "on_worker_failure": "drop",
        "on_nonfinite": "drop",
    }
    folder = tmp_path / "run"
    ((code, text),) = run_all([["-c", SOAK, str(folder), json.dumps(changes)]], timeout=900)
    assert code == 0, text
    pages = np.array(json.loads((folder / "pages.json").read_text())[-2000:])
    before, last = pages[1000:1500].mean(), pages[1500:].mean()
    assert last == pytest.approx(before, rel=0.02)
    end = lines(folder)[-1]
    assert end["round"] == 2000
    assert end["workers/missed"] == pytest.approx(0.10 * 2000 * 4, rel=0.2)
    assert end["workers/rejected"] == pytest.approx(0.05 * 0.9 * 2000 * 4, rel=0.2)
