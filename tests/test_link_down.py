"""A link that is down in the middle of a round, and one that takes its time."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from test_distributed import ROOT, TINY, environment
from test_main import lines, timeless

from benchmarks import network, relay
from ist_jax.run import lasting

missing = [tool for tool in ("ip", "tc", "unshare") if not shutil.which(tool)]
needs_network = pytest.mark.skipif(
    os.geteuid() != 0 or bool(missing), reason="needs root, and iproute2's ip and tc"
)
DOWN_S = 30
RUN = ("--config.workers=2", "--config.mesh.workers=2", "--config.rounds=600")
RUN += ("--config.eval_every=50", "--config.checkpoint.every=50", "--config.seeds=(0,)")


@contextlib.contextmanager
def team(links, folder, *flags):
    """A run in two processes, each on a computer of its own."""
    place = [f"--workdir={folder}", "--distributed", f"--coordinator={links.address(0)}:5900"]
    command = [sys.executable, "-m", "experiments.main", *TINY, *RUN, *place, *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [
        links.start(
            rank,
            [*command, "--processes=2", f"--process={rank}", "--patience=120"],
            cwd=ROOT,
            env=environment(),
            **pipes,
        )
        for rank in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def codes(processes):
    """How they ended, and what they said."""
    said = [process.communicate(timeout=200)[0] for process in processes]
    return [process.returncode for process in processes], said


def trained(folder):
    """The last round that was measured; -1 if there is none."""
    there = (folder / "metrics.jsonl").exists()
    return max((line["round"] for line in lines(folder)), default=-1) if there else -1


def cut_off_for(links, seconds, folder):
    """The link of the second computer is down for so long, when the run is on its way."""
    ends = time.monotonic() + 120
    while trained(folder) < 100:
        assert time.monotonic() < ends
        time.sleep(0.05)
    links.connect(1, False)
    began = trained(folder)
    time.sleep(seconds)
    assert trained(folder) <= began + 50, "nothing went over it"
    links.connect(1, True)


@pytest.mark.slow
@needs_network
def test_a_round_waits_for_a_link_that_is_down_or_ends_in_time_and_nothing_is_lost(tmp_path):
    with network.network(2) as links:
        with team(links, tmp_path / "straight") as processes:
            assert codes(processes)[0] == [0, 0]
        with team(links, tmp_path / "waits") as processes:
            cut_off_for(links, DOWN_S, tmp_path / "waits")
            assert codes(processes)[0] == [0, 0]
        with team(links, tmp_path / "ends", "--config.round_timeout_s=6") as processes:
            cut_off_for(links, DOWN_S, tmp_path / "ends")
            ended, said = codes(processes)
            assert ended == [1, 1]
            assert all("was not over after 6 s (config.round_timeout_s)" in text for text in said)
        assert trained(tmp_path / "ends") < 600
        with team(links, tmp_path / "ends", "--resume") as processes:
            assert codes(processes)[0] == [0, 0]
    straight = timeless(lines(tmp_path / "straight"))
    assert straight[-1]["round"] == 600
    assert timeless(lines(tmp_path / "waits")) == straight
    assert timeless(lines(tmp_path / "ends")) == straight


def test_connections_wait_as_long_as_they_are_told():
    timeout = socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        there = opened.enter_context(socket.create_connection(server.getsockname()))
        here = opened.enter_context(server.accept()[0])
        before = len(os.listdir("/proc/self/fd"))
        assert here.getsockopt(*timeout) == 0
        lasting.wait_for_links(7)
        assert [one.getsockopt(*timeout) for one in (here, there)] == [7000, 7000]
        assert len(os.listdir("/proc/self/fd")) == before


ECHO = """
import socket, sys, time
here, there = sys.argv[1:]
if there == "-":
    with socket.create_server((here, 5000)) as server:
        with server.accept()[0] as one:
            while data := one.recv(1 << 16):
                one.sendall(data)
else:
    for _ in range(100):
        try:
            one = socket.create_connection((there, 5000), timeout=10)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for size in (1, 1, 1 << 20):
        began, left = time.perf_counter(), size
        one.sendall(bytes(min(size, 1 << 20)))
        while left:
            left -= len(one.recv(1 << 16))
        print(time.perf_counter() - began)
"""


@needs_network
def test_a_message_comes_after_the_latency_and_at_the_rate():
    with network.network(2, latency_ms=20) as links:
        links.limit(0.1)
        start = lambda rank, *words, **options: links.start(
            rank, [sys.executable, "-c", ECHO, *words], **options
        )
        server = start(0, links.address(0), "-")
        client = start(1, "", links.address(0), stdout=subprocess.PIPE, text=True)
        try:
            _, once, many = map(float, client.communicate(timeout=60)[0].split())
        finally:
            for process in (server, client):
                process.kill()
                process.wait()
    assert 0.04 <= once < 0.08
    assert many > 0.04 + 2**20 / (0.1e9 / 8), "a megabyte takes 84 ms at 100 Mbit/s"
    named = f"{network.PREFIX}-{os.getpid()}-"
    assert named not in subprocess.run(["ip", "netns"], capture_output=True, text=True).stdout


def test_packets_wait_their_turn_and_those_that_would_wait_too_long_are_dropped(monkeypatch):
    packet = lambda to, size: bytes([0x45, *[0] * 18, to + 1]).ljust(size, b"x")
    handed = []
    monkeypatch.setattr(os, "write", lambda file, data: handed.append((file, len(data))))
    one = relay.Relay([7, 8], latency=0.02)
    one.limit(0.008)  # a million bytes a second
    for number in range(4):
        one.take(packet(1, 40_000 + number), now=0.0)
    one.take(packet(0, 100), now=0.0)
    one.take(packet(5, 100), now=0.0)
    one.take(b"\x60" + bytes(60), now=0.0)  # IPv6: nobody's
    assert one.wait(0.0) == pytest.approx(0.0201)
    one.hand_on(0.0202)
    assert handed == [(7, 100)]
    one.hand_on(1.0)
    assert handed[1:] == [(8, 40_000), (8, 40_001), (8, 40_002)], "the fourth would wait 120"
    assert one.wait(1.0) == -1


@needs_network
def test_a_relay_ends_with_the_program_that_started_it():
    code = """if True:
        from benchmarks.network import network
        with network(2, latency_ms=5) as links:
            print(links._relay.pid, flush=True)
            import time; time.sleep(60)
    """
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as killed:
        pid = int(killed.stdout.readline())
        killed.send_signal(signal.SIGKILL)
    ends = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < ends:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{pid}")
    with network.network(1):
        pass  # removes what is left of the other
