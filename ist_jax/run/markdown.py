"""Tables and numbers as Markdown."""

from collections.abc import Sequence

from ist_jax.run.measure import ACCURACY


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are as wide as their cells."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    )


def spread(shares: list[float], digits: int = 2) -> str:
    """In percent the mean of shares, and their deviation if there are several."""
    return ACCURACY._replace(digits=digits).spread(shares)


def quantity(number: int | float, unit: str, digits: int = 3) -> str:
    """So many digits and a prefix."""
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= factor:
            return f"{number / factor:.{digits}g} {prefix}{unit}"
    return f"{number:.0f} {unit}".rstrip()
