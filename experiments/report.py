"""Tables and figures from run folders, and pages of results.

    python -m experiments.report runs/a runs/b --out=comparison.png
    python -m experiments.report --page=vldb --out=docs/results/vldb.md docs/results/runs/vldb

A folder's table shows, for each method, mean and standard deviation over seeds of the last
accuracy, and what one worker sent, computed and took. That of a sweep, or of runs with validation
data, shows what differs, and what is picked by validation accuracy.
"""

import functools

from experiments.pages import making
from ist_jax.commands import report

PROGRAM = "python -m experiments.report"
PAGES = {name: functools.partial(making.made, name, draw=True) for name in making.NAMES}

if __name__ == "__main__":
    report.start(PROGRAM, __doc__, PAGES)
