"""How processes find each other: at the address that was given, among strangers, in time.

Nothing here starts JAX: a process is a thread, or Python with the meeting alone.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_distributed import IPV6, ROOT, connect, environment, free_port, strangers

from ist_jax.core.errors import InputError
from ist_jax.run import meeting
from ist_jax.run.address import Address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("node0:5000", "node0", 5000),
        ("127.0.0.1:1", "127.0.0.1", 1),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:80", "fe80::1%eth0", 80),
    ],
)
def test_an_address_is_read(text, host, port):
    assert Address.read(text, "--coordinator") == (host, port)
    assert str(Address(host, port)) == text


WRONG = ["", "host", "host:", ":80", "[]:80", "host:0", "host:99999", "host:abc", "host:-1"]
WRONG += ["host:8_0", "host:٨٠", "host:" + "9" * 5000, "host: 80", "a:b:80"]
WRONG += ["::1", "::1:80", "[::1]", "[::1]80"]


@pytest.mark.parametrize("text", WRONG)
def test_an_address_that_cannot_be_is_refused_in_one_line(text):
    with pytest.raises(InputError, match=r"^--coordinator must be host:port") as raised:
        Address.read(text, "--coordinator")
    assert "\n" not in str(raised.value)
    if text in ("::1", "::1:80"):
        assert "with brackets around an IPv6 address" in str(raised.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "x" * 64])
def test_a_host_that_is_not_there_is_named(host):
    with pytest.raises(InputError, match=f"there is no host '{re.escape(host)}'"):
        Address(host, 80).to_listen_at()


def all_at(host, numbers, count, patience=20):
    """What became of each process: None, or what it was told."""
    address = Address(host, free_port())

    def one(number):
        time.sleep(0.3 if number else 0)  # so that nobody's patience ends before process 0's
        try:
            meeting.meet(address, count, number, patience)
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(one, numbers))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.2", "localhost", pytest.param("::1", marks=IPV6)]
)
def test_processes_meet(host):
    began = time.monotonic()
    assert all_at(host, [2, 0, 1], 3) == [None] * 3
    assert time.monotonic() - began < 5


def test_one_process_meets_nobody():
    assert all_at("127.0.0.1", [0], 1, patience=1) == [None]


@contextlib.contextmanager
def process(address, count, number, patience):
    """A process that meets, and no more; it may have 128 files open."""
    text = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)); "
    text += f"from ist_jax.run.meeting import *; meet(Address{tuple(address)}, {count}, {number}, "
    text += f"{patience}); print('met')"
    started = subprocess.Popen(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.mark.parametrize(
    ("given", "heard", "not_heard"),
    [
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2"]),
        ("127.0.0.2", ["127.0.0.2"], ["127.0.0.1"]),
        pytest.param("::1", ["::1"], ["127.0.0.1"], marks=IPV6),
    ],
)
def test_process_0_listens_at_the_address_that_was_given_and_no_other(given, heard, not_heard):
    port = free_port()
    with process(Address(given, port), 2, 0, 10):
        for host in heard:
            connect((host, port)).close()
        for host in not_heard:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((host, port), timeout=2)


def test_a_name_that_is_loopback_here_alone_is_listened_at_everywhere(monkeypatch):
    """As Debian has a machine's own name: others would look for it elsewhere."""
    found = {"node0": "127.0.1.1", "node1": "192.0.2.7", "localhost": "127.0.0.1"}
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *_, **__: [(2, 1, 6, "", (found[host], 0))]
    )
    assert Address("node0", 5000).to_listen_at().host in ("::", "0.0.0.0")
    assert Address("node1", 5000).to_listen_at() == ("node1", 5000)
    assert Address("localhost", 5000).to_listen_at() == ("localhost", 5000)


def test_a_machine_that_is_reached_under_another_address_says_where_it_listens(monkeypatch):
    port = free_port()
    elsewhere = Address("192.0.2.77", port)
    with pytest.raises(InputError, match=r"listen at 192\.0\.2\.77.*JAX_COORDINATOR_BIND_ADDRESS"):
        meeting.meet(elsewhere, 1, 0, 1)
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", f"0.0.0.0:{port}")
    meeting.meet(elsewhere, 1, 0, 1)
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "0.0.0.0")
    with pytest.raises(InputError, match="JAX_COORDINATOR_BIND_ADDRESS must be host:port"):
        meeting.meet(elsewhere, 1, 0, 1)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"listen at 127.0.0.1:{port} .*in use"):
            meeting.meet(Address("127.0.0.1", port), 2, 0, 1)


SAYS = {
    "nothing": b"",
    "a health check": b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    "noise": bytes(range(256)) * 40,
    "half a word": b"ist_jax: process 1",
    "another's number": b"ist_jax: process 7 of 3\n",
    "process 0": b"ist_jax: process 0 of 3\n",
    "large numbers": b"ist_jax: process 1 of 99999999999999999999999\n",
    "two words": b"ist_jax: process 1 of 3\nist_jax: process 1 of 3\n",
}


@pytest.mark.parametrize(
    ("says", "hold"),
    [(b"", 0), *((says, 300) for says in SAYS.values())],
    ids=["a port scanner", *SAYS],
)
def test_strangers_neither_end_the_meeting_nor_make_it_longer(says, hold):
    address, began = Address("127.0.0.1", free_port()), time.monotonic()
    with (
        process(address, 3, 0, 20) as first,
        process(address, 3, 1, 20) as second,
        strangers(address, says, hold) as been,
    ):
        while len(been) < 100:
            assert time.monotonic() - began < 10
            time.sleep(0.01)
        with process(address, 3, 2, 20) as third:
            outputs = [one.communicate(timeout=15)[0] for one in (first, second, third)]
    assert outputs == ["met\n"] * 3
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("says", [SAYS["nothing"], SAYS["a health check"]])
def test_strangers_do_not_stretch_patience(says):
    address, began = Address("127.0.0.1", free_port()), time.monotonic()
    with process(address, 3, 0, 2) as first, strangers(address, says):
        text = first.communicate(timeout=8)[0]
    assert "did not come together within 2 s: no word of 1, 2." in text
    assert time.monotonic() - began < 5


def test_two_processes_with_one_number_are_told_which():
    told = all_at("127.0.0.1", [0, 1, 1], 3)
    assert told == ["two processes were started with --process=1: give each its own"] * 3


def test_two_that_were_told_different_numbers_of_processes_are_told_so():
    address = Address("127.0.0.1", free_port())
    with process(address, 3, 0, 20) as first, process(address, 2, 1, 20) as second:
        for one in (first, second):
            text = one.communicate(timeout=10)[0]
            assert "--processes is 3 in process 0 and 2 in process 1" in text


def test_all_who_came_hear_who_did_not():
    told = all_at("127.0.0.1", [0, 2], 4, patience=2)
    assert [re.search("no word of 1, 3. Are all started", text) is None for text in told] == [0, 0]


def test_of_many_that_are_missing_ten_are_named():
    (told,) = all_at("127.0.0.1", [0], 2000, patience=1)
    assert "no word of 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 1989 more" in told


def test_one_that_is_killed_while_it_waits_may_come_again():
    address = Address("127.0.0.1", free_port())
    with process(address, 3, 0, 20) as first:
        connect(address).close()
        with process(address, 3, 1, 20):
            time.sleep(0.5)  # it has knocked, and waits for the third
        with process(address, 3, 1, 20) as again, process(address, 3, 2, 20) as third:
            outputs = [one.communicate(timeout=10)[0] for one in (first, again, third)]
    assert outputs == ["met\n"] * 3


def test_one_that_is_killed_while_it_waits_is_missing():
    address = Address("127.0.0.1", free_port())
    with process(address, 3, 0, 3) as first:
        connect(address).close()
        with process(address, 3, 1, 20):
            time.sleep(0.5)
        assert "no word of 1, 2." in first.communicate(timeout=6)[0]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_others_end_in_time_if_process_0_dies_or_hangs_while_they_wait(how):
    address, began = Address("127.0.0.1", free_port()), time.monotonic()
    with process(address, 3, 0, 20) as first, process(address, 3, 1, 3) as second:
        connect(address).close()
        time.sleep(0.3)
        os.kill(first.pid, how)
        text = second.communicate(timeout=6)[0]
    assert f"no coordinator at {address} within 3 s" in text
    assert time.monotonic() - began < 6


def test_another_server_at_the_port_is_not_taken_for_process_0():
    """One that says something else to everybody."""
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    with other.accept()[0] as one:
                        one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + b"x" * 5000)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(InputError, match="what answers there is not process 0"):
            meeting.meet(Address("127.0.0.1", other.getsockname()[1]), 2, 1, 1)
        other.shutdown(socket.SHUT_RDWR)
