"""``ist-jax``: one word for each command, then its own flags.

    ist-jax train --config=quickstart --workdir=runs/quickstart
    ist-jax report runs/quickstart

Nothing is imported before it is known that the extra is there which the commands need.
"""

import importlib
import importlib.util
import sys

COMMANDS = {
    "train": "train the methods of a config and compare them",
    "report": "tables and figures from run folders",
    "launch": "several processes of one training, on this machine",
    "lottery": "lottery tickets out of a finished run",
    "sample": "text from a net that was trained on text",
    "sketch": "a figure of the analysis of IST",
}
USAGE = "\n".join(
    [
        "usage: ist-jax COMMAND [FLAGS]",
        "",
        *(f"    {name:8} {what}" for name, what in COMMANDS.items()),
        "",
        "ist-jax COMMAND --help tells its flags; ist-jax --version the version.",
    ]
)
EXTRA = ("absl", "ml_collections", "matplotlib")  # modules of the extra "commands"


def main() -> int:
    """Runs the command of ``sys.argv``; the exit code, where the command itself does not end it."""
    words = sys.argv[1:]
    if words in (["--version"], ["version"]):
        import ist_jax

        print(ist_jax.__version__)
        return 0
    if not all(map(_there, EXTRA)):
        print("ist-jax needs more: pip install 'ist_jax[commands]'", file=sys.stderr)
        return 2
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE, file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] not in COMMANDS:
        print(f"error: what is {words[0]!r}? {USAGE}", file=sys.stderr)
        return 2
    sys.path.insert(0, "")  # as ``python -m`` does: a config may name a file in the working folder
    command = importlib.import_module(f"ist_jax.commands.{words[0]}")
    sys.argv[1:] = words[1:]
    command.start()
    return 0


def _there(module: str) -> bool:
    """Whether it can be imported; what is slow to import is only looked for."""
    try:
        if module == "matplotlib":
            return importlib.util.find_spec(module) is not None
        importlib.import_module(module)
        return True
    except (ImportError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(main())
