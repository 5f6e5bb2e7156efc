"""Links of a given rate between processes on one machine, and what goes over them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from test_distributed import ROOT, environment

from benchmarks import network

missing = [tool for tool in ("ip", "tc", "unshare") if not shutil.which(tool)]
needs_network = pytest.mark.skipif(
    os.geteuid() != 0 or bool(missing), reason="needs root, and iproute2's ip and tc"
)


def namespaces():
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.startswith(network.PREFIX)]


def bench(tmp_path, *flags, timeout=300):
    command = [sys.executable, "-m", "benchmarks.slow_links", "--torch-python=/bin/false", *flags]
    out = tmp_path / "out.json"
    done = subprocess.run(
        [*command, f"--json={out}"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    assert "has no PyTorch" in done.stderr
    return {row["method"]: row for row in json.loads(out.read_text())}


@needs_network
def test_a_row_for_each_method_and_nothing_left_behind(tmp_path):
    rows = bench(tmp_path, "--workers=2", "--gbps=0.1", "--net=tiny", "--rounds=2")
    assert list(rows) == ["ist", "ist_balanced", "local_sgd", "data_parallel", "compute"]
    for row in rows.values():
        assert row["workers"] == 2
        assert row["gbps"] == 0.1
        assert row["net"] == "tiny"
        assert 0 < row["round_s"] < 30
        assert row["bytes_received"] > 0 or row["method"] == "compute"
    assert rows["data_parallel"]["bytes_received"] > 5 * rows["local_sgd"]["bytes_received"]
    assert namespaces() == []


@needs_network
def test_what_a_killed_run_leaves_is_removed_by_the_next():
    code = """if True:
        import time
        from benchmarks.network import network
        with network(2):
            print("up", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout.readline() == "up\n"
        killed.send_signal(signal.SIGKILL)
    assert len(namespaces()) == 3
    with network.network(2) as links:
        assert all(str(killed.pid) not in name for name in namespaces())
        ping = links.start(
            0,
            [
                sys.executable,
                "-c",
                f"import socket; socket.create_server(('{links.address(0)}', 0))",
            ],
        )
        assert ping.wait(30) == 0, "a computer has its address"
    assert namespaces() == []


def test_it_says_why_where_it_may_not_run(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "which", lambda tool: f"/bin/{tool}")
    with pytest.raises(network.NotPossible, match="needs root"), network.network(2):
        pass
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    complaint = pytest.raises(network.NotPossible, match="apt-get install iproute2")
    with complaint, network.network(2):
        pass


@pytest.mark.slow
@needs_network
@pytest.mark.parametrize("net", ["speech_2layer", "speech_3layer"])
@pytest.mark.parametrize("size", [2, 4])
def test_bytes_on_the_wire_are_the_closed_form_within_two_per_cent(tmp_path, size, net):
    rows = bench(tmp_path, f"--workers={size}", f"--net={net}", "--rounds=3", timeout=580)
    for name in ("ist", "ist_balanced", "local_sgd", "data_parallel"):
        received, expected = (
            np.array(rows[name][key]) for key in ("bytes_received_all", "bytes_expected_all")
        )
        np.testing.assert_allclose(received, expected, rtol=0.02)


@pytest.mark.slow
@needs_network
def test_any_config_is_timed_behind_links(tmp_path):
    out = tmp_path / "out.json"
    words = ["--config=configs/quickstart.py:tiny", "--methods", "ist", "local_sgd"]
    words += ["--workers=2", "--rounds=2", "--gbps", "0.1", f"--json={out}"]
    command = [sys.executable, "-m", "benchmarks.behind_links", *words]
    options = {"cwd": ROOT, "env": environment(), "capture_output": True, "text": True}
    done = subprocess.run(command, timeout=200, **options)
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())
    assert [row["method"] for row in rows] == ["ist", "local_sgd"]
    assert 0 < rows[0]["bytes_received"] < rows[1]["bytes_received"]
    for row in rows:
        # Its bytes take that long at least: at 0.1 Gbit/s all of them must pass the link.
        assert row["round_s"] > row["bytes_received"] / 2 / (0.1e9 / 8)
        assert 0 < row["steps_s"] < row["round_s"]
        np.testing.assert_allclose(row["bytes_received_all"], row["bytes_expected_all"], rtol=0.25)
    assert re.search(r"\| A +\| +2 \| +0.1 \| +0 \| +ist", done.stdout)
    assert namespaces() == []
    done = subprocess.run([*command, "--confg=x"], timeout=60, **options)
    assert done.returncode == 2
    assert "unknown: --confg=x" in done.stderr
