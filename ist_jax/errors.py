"""The one exception for what a caller can mend: a wrong name, shape, key, file or number.

The command line turns it into one line and exit code 2; everything else keeps its traceback.
"""


class InputError(ValueError):
    """Says what was expected, what was found, where, and how to mend it."""
