"""What the commands share: --config, --workdir, --overwrite, and one line for every mistake."""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File with the experiment, e.g. configs/quickstart.py"
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for metrics, tables and figures.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the finished run in --workdir.")


def mistake(text: str) -> int:
    """Tells what was wrong with what was asked for; the exit code."""
    print(f"error: {text}", file=sys.stderr)
    return 2


def unasked(argv: list[str], example: str) -> str | None:
    """What is wrong with the words of a command, apart from its flags' values."""
    if len(argv) > 1:
        return f"what is {argv[1]!r}? Flags look like --config=... --workdir=..."
    return f"--config is missing; try --config={example}" if CONFIG.value is None else None


def parse(argv: list[str]) -> list[str]:
    """Flags and config, with everything a user can get wrong in them told in one line."""
    try:
        rest = flags.FLAGS(argv)
        if CONFIG.value is not None:
            CONFIG.value.keys()  # only here does a config file that cannot be loaded say so
        return rest
    except (
        flags.Error,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
        OSError,
        SyntaxError,
    ) as error:
        if error.args and isinstance(error.args[0], KeyError):  # from ml_collections, with a hint
            one = "no such config key: " + " ".join(error.args[0].args[0].split())
            if any(".options." in word or ".widths." in word for word in argv):
                one += (
                    """; new ones are set all at once: --config.data.options='{"clusters": 50}'"""
                )
            sys.exit(mistake(one))
        lines = "\n".join(str(part) for part in error.args).strip().splitlines() or [repr(error)]
        # A failure inside a config file carries its traceback; the last line says what it was.
        one = lines[-1] if "Traceback" in lines[0] or len(lines) > 3 else " ".join(lines)
        one = one.strip().removeprefix("ValueError: ")
        if "No such file" in one:
            there = sorted(path.stem for path in pathlib.Path("configs").glob("[a-z]*.py"))
            one += f"; configs/ has {', '.join(there)}"
        sys.exit(mistake(one))
