"""Commands that are a process each and share their imports: one process forks for all of them.

What is tested is as with a process that Python starts anew: its exit code, its output, signals,
what it leaves behind. Only what happens while modules are imported is not
(``test_main.py::test_a_command_that_shares_its_imports_is_as_one_that_does_not``).
"""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from typing import NamedTuple

from conftest import ROOT

IMPORTS = {
    "experiments.main": "ist_jax.commands.training",
    "experiments.sketch": "ist_jax.run.sketching",
}
SERVE = """
import contextlib, importlib, json, os, pathlib, runpy, sys

def become(words, environment, out, err):
    os.environ.clear()
    os.environ.update(environment)
    for number, name in enumerate((os.devnull, out, err)):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND), number)
    if words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        assert words[0] == "-m", words
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)

def watch(words, environment, out, err, ended):
    child = os.fork()
    if not child:
        become(words, environment, out, err)
        sys.exit()
    print(child, flush=True)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    pathlib.Path(f"{ended}.part").write_text(str(code))
    os.rename(f"{ended}.part", ended)
    os._exit(0)

importlib.import_module(sys.argv[1])
for line in sys.stdin:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    if not os.fork():
        watch(*json.loads(line))
"""


class Process:
    """As ``subprocess.Popen`` of a command with text in place of pipes."""

    def __init__(self, server, words, environment, *, apart=False):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="forked_"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._out, self._err, self._ended = (folder / name for name in ("out", "err", "ended"))
        err = self._err if apart else self._out
        asked = [words, environment, str(self._out), str(err), str(self._ended)]
        print(json.dumps(asked), file=server.stdin, flush=True)
        self.pid, self.returncode = int(server.stdout.readline()), None

    def poll(self):
        with contextlib.suppress(FileNotFoundError):
            self.returncode = int(self._ended.read_text())
        return self.returncode

    def wait(self, timeout=None):
        ends = time.monotonic() + (timeout or 600)
        while self.poll() is None:
            if time.monotonic() > ends:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(0.005)
        return self.returncode

    def communicate(self, timeout=None):
        self.wait(timeout)
        return tuple(p.read_text() if p.exists() else "" for p in (self._out, self._err))

    def send_signal(self, number):
        with contextlib.suppress(ProcessLookupError):  # it has ended, and its code is not yet here
            if self.poll() is None:
                os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wait()


@functools.cache
def _server(imports):
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, imports],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(_end, server)
    return server


def _end(server):
    server.kill()
    server.communicate()


def start(words, environment, *, apart=False, imports=IMPORTS["experiments.main"]) -> Process:
    """``python words``, as a process of its own; errors with what it prints, or apart."""
    return Process(_server(imports), words, environment, apart=apart)


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def call(module, *words) -> Done:
    """``python -m module words``, as a process of its own."""
    process = start(["-m", module, *words], dict(os.environ), apart=True, imports=IMPORTS[module])
    out, err = process.communicate()
    return Done(process.returncode, out, err)
