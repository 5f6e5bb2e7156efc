"""Commands that are a process each and share their imports: one process forks for all of them."""

import atexit
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

from conftest import ROOT

IMPORTS = {
    "experiments.main": "ist_jax.commands.train",
    "experiments.sketch": "ist_jax.commands.sketch",
}
SERVE = """
import importlib, json, os, runpy, sys
module = sys.argv[1]
importlib.import_module(sys.argv[2])
for line in sys.stdin:
    words, out, err = json.loads(line)
    child = os.fork()
    if not child:
        for number, name in enumerate((os.devnull, out, err)):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        sys.argv = [module, *words]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@functools.cache
def _server(module):
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, module, IMPORTS[module]],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.kill)
    return server


def call(module, *words) -> Done:
    """``python -m module words``, as a process of its own."""
    server = _server(module)
    with tempfile.TemporaryDirectory() as folder:
        out, err = (pathlib.Path(folder) / name for name in ("out", "err"))
        print(json.dumps([words, str(out), str(err)]), file=server.stdin, flush=True)
        code = int(server.stdout.readline())
        return Done(code, out.read_text(), err.read_text())
