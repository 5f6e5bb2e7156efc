"""Several processes: the same bits, their own data, and failures that all of them hear of."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import forked
import pytest
from conftest import ROOT
from test_graph_data import planetoid

from ist_jax.commands import launch
from ist_jax.core.errors import InputError
from ist_jax.run import joining, meeting
from ist_jax.run.address import Address


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def has_ipv6():
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return True
    return False


def environment(**changes):
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "JAX_PLATFORMS": "cpu",
        **changes,
    }


def connect(address, seconds=30):
    """A connection, once somebody listens."""
    ends = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(address, timeout=2)
        except ConnectionRefusedError:
            assert time.monotonic() < ends
            time.sleep(0.02)


@contextlib.contextmanager
def strangers(address, says, hold=300, pause=0.001):
    """Who connect again and again, and hold on to so many connections; all that have been."""
    over, held, been = threading.Event(), [], []

    def come():
        while not over.is_set():
            try:
                held.append(socket.create_connection(address, timeout=2))
                held[-1].sendall(says)
                been.append(says)
            except OSError:  # nobody listens, or hangs up
                pass
            time.sleep(pause)
            while len(held) > hold:
                held.pop(0).close()

    thread = threading.Thread(target=come)
    thread.start()
    try:
        yield been
    finally:
        over.set()
        thread.join()
        for one in held:
            one.close()


def start_command(*command, anew=False, **changes):
    """Python with this command line, and an environment with these changes; its imports anew?"""
    if not anew:
        return forked.start(command, environment(**changes))
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_all(commands, timeout=120, anew=False, **changes):
    """(exit code, output) of commands that run side by side; all are gone afterwards."""
    processes = [start_command(*command, anew=anew, **changes) for command in commands]
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, text) for process, text in zip(processes, outputs, strict=True)]


def digests(count, devices=4, pinned=(), **changes):
    """What ``count`` processes with so many devices found; those pinned see a single CPU."""
    address = f"127.0.0.1:{free_port()}"
    pin = "import os, runpy; os.sched_setaffinity(0, {0}); "
    pin += "runpy.run_path('tests/one_process.py', run_name='__main__')"
    start = [["-c", pin] if n in pinned else ["tests/one_process.py"] for n in range(count)]
    results = run_all(
        [[*how, address, str(count), str(n), str(devices)] for n, how in enumerate(start)],
        anew=True,
        **changes,
    )
    found = [re.findall(r"^\w+ [0-9a-f]{64}$", text, re.M) for _, text in results]
    assert [code for code, _ in results] == [0] * count, results
    assert all(len(one) == 2 and one == found[0] for one in found), results
    return found[0]


@pytest.mark.optimized
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_same_bits_in_1_2_and_4_processes(count):
    """Where every process has as many threads (NPROC is how XLA on CPU counts them)."""
    assert digests(count, NPROC="4") == digests(1, NPROC="4")


@pytest.mark.slow
def test_unequal_machines_give_the_same_bits_with_as_many_threads():
    """One process sees one CPU, the other all: what ``--deterministic`` promises."""
    assert digests(2, 2, pinned=(0,), NPROC="4") == digests(1, 2, NPROC="4")


IPV6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 loopback on this machine")
TINY = ["--config=configs/quickstart.py:tiny", "--config.methods=('ist',)"]
PIN = "import os, runpy; os.sched_setaffinity(0, {0}); "
MAIN = "runpy.run_module('experiments.main', run_name='__main__')"


def main(*flags):
    return ["-m", "experiments.main", *TINY, *flags]


def team(tmp_path, per_process=((), ()), patience=20, address=None):
    """Commands of processes that meet, with flags of their own."""
    address = f"--coordinator={address or Address('127.0.0.1', free_port())}"
    shared = [f"--workdir={tmp_path / 'run'}", "--distributed", address, f"--patience={patience}"]
    shared += [f"--processes={len(per_process)}", "--config.mesh.workers=4"]
    return [
        main(*shared, f"--process={number}", *flags) for number, flags in enumerate(per_process)
    ]


def metrics(folder):
    """The lines of a run but for its times, and all its files."""
    text = (folder / "metrics.jsonl").read_text()
    return re.sub(r'"(time|memory)/\w+": [\d.e-]+', "", text), {
        path.name for path in folder.iterdir()
    }


@pytest.mark.optimized
def test_a_team_of_processes_gives_what_one_gives_and_only_the_first_writes(tmp_path):
    flags = [*TINY, "--deterministic"]
    results = run_all([["-m", "experiments.main", *flags, f"--workdir={tmp_path / 'alone'}"]])
    launch = ["-m", "experiments.launch", "--processes=2", "--", *flags]
    launch += [f"--workdir={tmp_path / 'two'}", "--config.mesh.workers=4"]
    results += run_all([launch], http_proxy="http://127.0.0.1:9")  # where nobody listens
    assert [code for code, _ in results] == [0, 0], results
    assert results[1][1].count("| ist ") == 1, "one table"
    assert metrics(tmp_path / "two") == metrics(tmp_path / "alone")
    assert metrics(tmp_path / "two")[0].count("\n") == 4


SUM = """
import sys, jax
from ist_jax.run import joining
from jax.sharding import NamedSharding, PartitionSpec
jax.config.update("jax_num_cpu_devices", 1)
joined = joining.join(sys.argv[1], 2, int(sys.argv[2]), 30)
mesh = jax.make_mesh((2,), ("worker",), axis_types=(jax.sharding.AxisType.Auto,))
split = NamedSharding(mesh, PartitionSpec("worker"))
ones = jax.make_array_from_callback((2,), split, lambda _: jax.numpy.ones(1))
print("sum", jax.jit(sum, out_shardings=NamedSharding(mesh, PartitionSpec()))(ones), flush=True)
"""


@pytest.mark.parametrize("host", [pytest.param("::1", marks=IPV6), "localhost"])
def test_a_team_works_with_a_proxy_that_is_not_there_and_among_strangers(host):
    """gRPC would ask the proxy for every host; those who speak no gRPC come to its port too."""
    address, nobody = Address(host, free_port()), f"http://127.0.0.1:{free_port()}"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"), nobody)
    says = b"GET / HTTP/1.1\r\n\r\n" if host == "localhost" else bytes(range(256))
    with strangers(address, says, hold=20, pause=0.02):
        results = run_all([["-c", SUM, str(address), str(n)] for n in range(2)], **proxies)
    for code, text in results:
        assert code == 0, text
        assert "sum 2.0" in text
        assert "proxy" not in text, "JAX warns of one, but none is asked"


@pytest.mark.slow
def test_a_graph_in_two_processes_is_as_in_one(tmp_path):
    """Its evaluation gives the features of all nodes, which no process has all of."""
    planetoid(tmp_path / "in")
    flags = ["--config=configs/wordnet_sage.py:tiny", "--config.data.name=planetoid"]
    flags += [f"--config.data.path={tmp_path / 'in'}", "--config.data.options.clusters=1"]
    flags += ["--config.data.batch=1", "--deterministic"]
    results = run_all([["-m", "experiments.main", *flags, f"--workdir={tmp_path / 'alone'}"]])
    launch = ["-m", "experiments.launch", "--processes=2", "--", *flags]
    results += run_all([[*launch, f"--workdir={tmp_path / 'two'}", "--config.mesh.workers=4"]])
    assert [code for code, _ in results] == [0, 0], results
    assert metrics(tmp_path / "two") == metrics(tmp_path / "alone")


@pytest.mark.slow
def test_deterministic_is_the_same_on_unequal_machines(tmp_path):
    """A net whose sums depend on the threads; one of two processes sees one CPU."""
    wide = ["--deterministic", "--config.mesh.workers=2", "--config.workers=2"]
    wide += ["--config.model.widths={'hidden0': 2048, 'hidden1': 1024}", "--config.data.batch=256"]
    wide += ["--config.rounds=2", "--config.eval_every=1"]
    wide += ["--config.methods=('local_sgd',)"]  # which adds to what TINY says
    results = run_all([main(f"--workdir={tmp_path / 'alone'}", *wide)])
    pinned, free = ([*command, *wide] for command in team(tmp_path))
    results += run_all([["-c", PIN + MAIN, *pinned[2:]], free], anew=True)
    assert [code for code, _ in results] == [0, 0, 0], results
    assert metrics(tmp_path / "run") == metrics(tmp_path / "alone")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            (("--config.rounds=7",), ("--config.rounds=8",)),
            "config.rounds is 7 in process 0 and 8 in process 1",
        ),
        (((), ("--config.workers=0",)), "config.workers must be from 1 to 65536, found 0"),
        (((), ("--dry_run",)), "--dry_run is False in process 0 and True in process 1"),
        ((("--workdir=/dev/null/x",), ()), "--workdir=/dev/null/x cannot be written"),
    ],
)
def test_what_one_process_cannot_do_stops_all(tmp_path, flags, said):
    started = time.monotonic()
    results = run_all(team(tmp_path, flags))
    for code, text in results:
        assert code == 2, text
        assert said in text
        assert "Traceback" not in text
    assert time.monotonic() - started < 60


LACKING = """
import runpy
from ist_jax import data
from ist_jax.core.errors import InputError
from ist_jax.run import team
def load(name, path, **options):
    raise InputError("the data is not on this machine")
{}
runpy.run_module("experiments.main", run_name="__main__")
"""


@pytest.mark.parametrize("process", [0, 1])
@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ("data.load = load", "the data is not on this machine"),
        ("team.source = lambda: 'another'", "the source of ist_jax is .*another.* in process"),
        ("team.LIBRARIES += ('pytest',)", "pytest is .* in process 0 and .* in process 1"),
    ],
)
def test_machines_that_are_not_alike_stop_at_once(tmp_path, process, lacks, said):
    """Same flags, but one machine lacks the data, or has another version of something."""
    commands = team(tmp_path)
    commands[process] = ["-c", LACKING.format(lacks), *commands[process][2:]]
    started = time.monotonic()
    for code, text in run_all(commands):
        assert code == 2, text
        assert re.search(said, text), text
        assert "Traceback" not in text
    assert time.monotonic() - started < 45


def test_a_dry_run_of_several_processes(tmp_path):
    results = run_all([[*command, "--dry_run"] for command in team(tmp_path)])
    assert [code for code, _ in results] == [0, 0], results
    assert "hidden0 64 -> 16" in results[0][1]
    assert "hidden0" not in results[1][1]


def listening(pid):
    """Addresses at which a process waits for connections."""
    links = [path.readlink() for path in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
    own = {str(link)[8:-1] for link in links if str(link).startswith("socket:[")}
    found = []
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in own:
                words = re.findall("........", local.partition(":")[0])
                raw = b"".join(bytes.fromhex(word)[::-1] for word in words)  # little-endian
                found.append(socket.inet_ntop(family, raw))
    return found


@pytest.mark.parametrize("how", ["one is killed", "interrupted twice"])
def test_launch_ends_all(tmp_path, how):
    flags = [*TINY, f"--workdir={tmp_path / 'run'}", "--config.rounds=100000"]
    command = ["-m", "experiments.launch", "--processes=2", "--address=127.0.0.2", "--", *flags]
    launcher = subprocess.Popen(
        [sys.executable, *command, "--config.mesh.workers=4"],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        lines = tmp_path / "run" / "metrics.jsonl"
        ends = time.monotonic() + 90
        while not (lines.exists() and lines.stat().st_size):
            assert time.monotonic() < ends
            time.sleep(0.1)
        told = pathlib.Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
        children = [int(pid) for pid in told.split()]
        assert len(children) == 2
        heard = [address for pid in children for address in listening(pid)]
        assert len(heard) >= 3, "JAX's service, and a socket or more of each process for arrays"
        assert all(re.fullmatch(r"(::ffff:)?127.0.0.2", one) for one in heard), heard
        if how == "one is killed":
            os.kill(children[1], signal.SIGKILL)
            assert launcher.wait(timeout=40) not in (0, 2)
        else:  # as no terminal does it, which would tell the children too
            launcher.send_signal(signal.SIGINT)
            time.sleep(0.1)
            launcher.send_signal(signal.SIGINT)
            assert launcher.wait(timeout=40) == 130
        assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in children)
    finally:
        launcher.terminate()
        launcher.wait(timeout=40)


@pytest.mark.parametrize("number", [0, 1])
def test_one_that_goes_between_the_meeting_and_jax_ends_the_other_with_a_word(number):
    """Where JAX aborts with a stack of C++."""
    address = Address("127.0.0.1", free_port())
    join = f"from ist_jax.run import joining; joining.join('{address}', 2, {number}, 3)"
    process = start_command("-c", join)
    try:
        meeting.meet(address, 2, 1 - number, 30)
        text = process.communicate(timeout=20)[0]
    finally:
        process.kill()
    assert process.returncode == 2, text
    assert "did not come together within 3 s: one of them has gone" in text
    assert "stack trace" not in text


@pytest.mark.parametrize(
    ("number", "met"), [(0, "nobody"), (1, "nobody"), (1, "all, but not in JAX")]
)
def test_ctrl_c_ends_one_that_waits(tmp_path, number, met):
    address = Address("127.0.0.1", free_port())
    process = start_command(*team(tmp_path, patience=60, address=address)[number])
    try:
        if met == "nobody" and number == 0:
            with contextlib.closing(connect(address)):
                pass
        elif met == "nobody":
            with socket.create_server(address) as other:
                other.accept()[0].close()
        else:
            meeting.meet(address, 2, 1 - number, 30)
            time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        text = process.communicate(timeout=10)[0]
    finally:
        process.kill()
    assert process.returncode == 130, text
    assert text.strip() == "interrupted"


def test_a_coordinator_that_is_not_there():
    flags = ["--distributed", f"--coordinator=127.0.0.1:{free_port()}", "--patience=3"]
    command = main(*flags, "--workdir=/nowhere", "--processes=2", "--process=1")
    ((code, text),) = run_all([command])
    assert code == 2, text
    assert "no coordinator at 127.0.0.1" in text
    assert "Start process 0 first" in text


def test_others_that_never_come(tmp_path):
    ((code, text),) = run_all(team(tmp_path, ((), ()), patience=5)[:1])
    assert code == 2, text
    assert "did not come together within 5 s: no word of 1" in text


@pytest.mark.parametrize("counts", [(2, 3), (3, 2)])
def test_processes_that_were_told_different_numbers_say_so_at_once(tmp_path, counts):
    commands = team(tmp_path, ((), ()), patience=60)
    told = [[*command, f"--processes={n}"] for command, n in zip(commands, counts, strict=True)]
    began = time.monotonic()
    for code, text in run_all(told):
        assert code == 2, text
        assert f"--processes is {counts[0]} in process 0 and {counts[1]} in process 1" in text
    assert time.monotonic() - began < 50


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--process=1"], "add --distributed"),
        (["--distributed", "--process=1"], "belong together: give all three"),
        (["--distributed", "--coordinator=x", "--processes=2", "--process=0"], "must be host:port"),
        (["--distributed", "--coordinator=x:1", "--processes=2", "--process=2"], "0 to 1, found 2"),
        (["--distributed", "--coordinator=x:99999", "--processes=2", "--process=0"], "host:port"),
        (["--distributed", "--coordinator=x:1", "--processes=0", "--process=0"], "at least 1"),
        (["--patience=0"], "patience"),
        (["--distributed"], "found no cluster that says where to meet"),
        (
            ["--config.mesh.workers=8", "--config.workers=4"],
            "4 workers cannot be dealt out evenly to config.mesh.workers=8",
        ),
        (
            ["--config.mesh.workers=3"],
            "4 workers cannot be dealt out evenly to config.mesh.workers=3",
        ),
        (["--config.mesh.data=0"], "config.mesh.data must be from 1 to 4096, found 0"),
        (
            ["--config.workers=8", "--config.mesh.workers=8", "--config.model.widths.hidden0=4"],
            "hidden0.* 4 neurons",
        ),
    ],
)
def test_meshes_and_teams_that_cannot_be(tmp_path, flags, said):
    done = forked.call("experiments.main", *TINY, f"--workdir={tmp_path}", *flags)
    text = done.stdout + done.stderr
    assert done.returncode == 2, text
    assert re.search(said, text), text
    assert "Traceback" not in text


@pytest.mark.parametrize(
    ("coordinator", "count", "number", "said"),
    [
        ("host:80", 0, 0, "--processes must be at least 1 and at most 65536, found 0"),
        ("host:80", -1, 0, "--processes must be at least 1 and at most 65536, found -1"),
        ("host:80", 10**30, 0, "--processes must be at least 1 and at most 65536, found 1000"),
        ("host:80", 2, -1, "--process must be 0 to 1, found -1"),
        ("host:80", 2, 10**30, "--process must be 0 to 1, found 1000"),
        ("::1:80", 2, 0, "with brackets around an IPv6 address"),
        ("host:99999", 2, 0, "with a port from 1 to 65535, found 'host:99999'"),
        ("no.such.host.invalid:80", 2, 0, "there is no host 'no.such.host.invalid'"),
        (None, 2, 0, "give all three"),
    ],
)
def test_a_team_that_cannot_be_is_refused(coordinator, count, number, said):
    with pytest.raises(InputError, match=said) as raised:
        joining.join(coordinator, count, number, 1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--processes=0"], "--processes must be 1 to 1000, found 0"),
        (["--processes=-1"], "--processes must be 1 to 1000, found -1"),
        ([f"--processes={10**30}"], "--processes must be 1 to 1000, found 1000"),
        (["--processes=two"], "invalid int value: 'two'"),
        (["--processes=2", "--address=192.0.2.77"], "no address of this machine"),
        (["--processes=2", "--address=a..b"], "no address of this machine"),
        (["--processes=2", "--", "--process=1"], "--process=1 is what launch gives itself"),
        (["--processes=2", "--", "--coordinator", "x:1"], "--coordinator is what launch gives"),
    ],
)
def test_what_launch_cannot_start_is_refused(monkeypatch, capsys, flags, said):
    monkeypatch.setattr(sys, "argv", ["launch", *flags, *([] if "--" in flags else ["--", "x"])])
    with pytest.raises(SystemExit, match="2"):
        launch.main()
    assert said in capsys.readouterr().err
