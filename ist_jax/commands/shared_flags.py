"""What the commands share: --config, --workdir, --overwrite, and one line for every mistake."""

import ast
import functools
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable
from typing import Any

from absl import app, flags
from ml_collections import config_flags
from ml_collections.config_flags.tuple_parser import TupleParser

from ist_jax.commands import open_keys
from ist_jax.core import paths
from ist_jax.core.errors import InputError
from ist_jax.run import config_files, schema, upgrade

NAME = r"[a-z_][\w.]*(:\w+)?"  # of ours, or module:function


class Tuples(TupleParser):
    """Tuples in a flag: ``(0, 1)``, ``0, 1``, ``ist`` and ``ist,local_sgd``."""

    def parse(self, argument: Any) -> tuple:
        if not isinstance(argument, str):
            return super().parse(argument)
        if re.fullmatch(rf"\s*{NAME}\s*(,\s*{NAME}\s*)*,?\s*", argument, re.ASCII):
            return tuple(name.strip() for name in argument.split(",") if name.strip())
        try:
            found = ast.literal_eval(argument.strip())
        except Exception:  # of strange text it raises five kinds
            raise ValueError("that is no tuple; one looks like (0, 1, 2)") from None
        if not isinstance(found, tuple | list):
            raise ValueError(f"that is no tuple: ({found!r},) is one, or (0, 1, 2)")
        return tuple(found)


config_flags.register_flag_parser_for_type(tuple, Tuples())

CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment: a file (.py, .yaml), or the name of one of the library's, as quickstart.",
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for metrics, tables and figures.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the finished run in --workdir.")


def mistake(text: str) -> int:
    """Tells what was wrong with what was asked for; the exit code."""
    print(f"error: {text}", file=sys.stderr)
    return 2


def workdir(example: str) -> pathlib.Path:
    """The folder of --workdir.

    Raises:
      InputError: none was given, or it cannot be one.
    """
    if not WORKDIR.value:
        raise InputError(f"--workdir is missing; try --workdir={example}")
    return paths.expanded(WORKDIR.value, "--workdir")


def unasked(argv: list[str], example: str) -> str | None:
    """What is wrong with the words of a command, apart from its flags' values."""
    if len(argv) > 1:
        return f"what is {argv[1]!r}? Flags look like --config=... --workdir=..."
    return f"--config is missing; try --config={example}" if CONFIG.value is None else None


def start(main: Callable[[list[str]], int], module: str, program: str, doc: str = "") -> None:
    """Runs a command and ends the process.

    Args:
      module: whose flags ``--help`` shows; and its docstring, if there is no ``doc``.
      program: what the command is called, in ``--help`` and in what it records of itself.
    """
    sys.argv[0] = program
    sys.modules["__main__"].__doc__ = doc or sys.modules[module].__doc__
    for flag in flags.FLAGS.get_key_flags_for_module(module):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(functools.partial(_interrupted, main), flags_parser=parse)


def _interrupted(main: Callable[[list[str]], int], argv: list[str]) -> int:
    """The command's exit code; 130 after Ctrl-C, at once, as XLA's threads may still run."""
    try:
        return main(argv)
    except KeyboardInterrupt:
        sys.stdout.flush()
        print("\ninterrupted", file=sys.stderr, flush=True)
        os._exit(130)


def command() -> str:
    """The words that this command was started with."""
    return f"{sys.argv[0]} {shlex.join(sys.argv[1:])}"


def found(argv: list[str]) -> list[str]:
    """The words of a command, the config's name or ``~`` in its path replaced by its path."""
    out: list[str] = []
    for word in argv:
        flag, equals, value = word.partition("=")
        if not (equals and word.startswith("-")):
            flag, value = "", word
        if flag.lstrip("-") == "config" or (out and out[-1] in ("-config", "--config")):
            value = _path(value)
            word = f"{flag}={value}" if flag else value
        out.append(word)
    return out


def _path(value: str) -> str:
    """What ml_collections takes for a config: a file of Python, a colon, and its variant."""
    name, colon, variant = value.partition(":")
    if re.fullmatch(r"[^\W\d]\w*", name) and not os.path.exists(name):
        name = str(config_files.find(name))
    elif name.startswith("~"):
        name = str(paths.expanded(name, "--config"))
    if not name.endswith((".yaml", ".yml")):
        return f"{name}{colon}{variant}"
    if variant:
        raise InputError(f"--config={value}: a config in YAML has no variants")
    return f"{config_files.__file__}:{name}"


def parse(argv: list[str]) -> list[str]:
    """Flags and config, with everything a user can get wrong in them said in one line."""
    try:
        return _parsed(argv)
    except Exception as error:  # a config file is a program, and may fail in any way
        sys.exit(mistake(_in_one_line(error)))


def _parsed(argv: list[str]) -> list[str]:
    """Keys of open groups are set by ``open_keys``, all others by ml_collections."""
    words, ours = open_keys.split(found(argv))
    before = sys.argv
    sys.argv = [before[0], *words[1:]]  # where ml_collections looks for keys
    try:
        rest = flags.FLAGS(words)
        if CONFIG.value is not None:
            CONFIG.value.keys()  # only here does a config file that cannot be loaded say so
            open_keys.put(CONFIG.value, ours)
        return rest
    finally:
        sys.argv = before


def _in_one_line(error: Exception) -> str:
    if isinstance(error, flags.UnrecognizedFlagError) and error.flagname in schema.default():
        return f"there is no flag --{error.flagname}: did you mean --config.{error.flagname}?"
    if error.args and isinstance(error.args[0], KeyError):  # from ml_collections, with a hint
        said = "no such config key: " + " ".join(error.args[0].args[0].split())
        keys = [word.partition("=")[0].removeprefix("--config.") for word in sys.argv]
        old = {key: upgrade.moved(key) for key in keys}
        for key, new in old.items():
            if new:
                said += f"; {key} is now config.{' and config.'.join(new)}"
        return said
    lines = "\n".join(str(part) for part in error.args).strip().splitlines() or [repr(error)]
    # A failure inside a config file carries its traceback; the last line says what it was.
    one = lines[-1] if "Traceback" in lines[0] or len(lines) > 3 else " ".join(lines)
    for kind in ("ValueError: ", f"{InputError.__module__}.{InputError.__qualname__}: "):
        one = one.strip().removeprefix(kind)
    if "No such file" in one:
        one += f"; the library has {', '.join(config_files.names())}"
    return one if len(one) < 1000 else f"{one[:500]}..."
