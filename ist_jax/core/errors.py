"""What a caller can mend: a wrong name, shape, key, file or number; a disk that fails.

The command line turns both into one line, and exit code 2 or 1; the rest keeps its traceback.
"""


class InputError(ValueError):
    """Says what was expected, what was found, where, and how to mend it."""


class CheckpointError(RuntimeError):
    """A checkpoint that could not be written, or is not to be used; says which, and why."""


class NotBegun(CheckpointError):
    """A checkpoint that no process began; of one that failed half way, only one may know."""


def first_line(error: BaseException) -> str:
    """What another library's error says first, or its type if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
