"""Tables and figures from run folders.

    ist-jax report runs/a runs/b --out=comparison.png
    ist-jax report runs/a --against=bytes,seconds

A folder's table shows, for each method, mean and standard deviation over seeds of the last
accuracy, and what one worker sent, computed and took. That of a sweep, or of runs with validation
data, shows what differs, and what is picked by validation accuracy.
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ist_jax.core import paths
from ist_jax.core.errors import InputError
from ist_jax.run import looks

PROGRAM = "ist-jax report"
Page = Callable[[list[Path], Path], str]  # folders, and the file that it is for, to its text


def main(program: str = PROGRAM, doc: str = "", pages: Mapping[str, Page] | None = None) -> int:
    options = _options(program, doc or (__doc__ or ""), pages or {})
    # with JAX, a second of CPU: flags are right by now
    from ist_jax.run import curves, differences, report, selection, sweep

    try:
        folders = [paths.expanded(folder, "FOLDER") for folder in options.folders]
        out = options.out and paths.expanded(options.out, "--out")
        if pages and options.page:
            try:
                out.write_text(pages[options.page](folders, out))
            except OSError as error:
                raise InputError(f"cannot write the page {out}: {error}") from None
            print(f"written: {out}")
            return 0
        swept = [folder for folder in folders if (folder / sweep.NAME).is_file()]
        if swept:
            if len(folders) > 1 or out:
                raise InputError(
                    f"{swept[0]} is a sweep: report it alone and without --out. Figures are of the "
                    "run folders in it."
                )
            print(selection.table(swept[0]))
            return 0
        print(report.table(folders))
        if len(folders) > 1 and (differ := differences.of(folders)):
            told = differences.table(folders, differ), selection.of_folders(folders, differ)
            print("".join(f"\n{text}\n" for text in told if text), end="")
        out = out or folders[0] / report.FIGURES[len(folders) > 1]
        print(f"\nfigure: {curves.figure(folders, out, options.against)}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _options(program: str, doc: str, pages: Mapping[str, Page]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what, out = "run folders", "the figure (default: a PNG file in the first folder)"
    if pages:
        what += "; for a page also JSON files of benchmarks, or folders of both"
        out += ", or the page"
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help=what)
    parser.add_argument("--out", help=out)
    parser.add_argument(
        "--against",
        type=_axes,
        default=("steps", "bytes"),
        metavar="AXIS,...",
        help=f"what accuracy is drawn against: {', '.join(looks.AXES)} (default: steps,bytes)",
    )
    if pages:
        parser.add_argument("--page", choices=[*pages], help="write that page of results to --out")
    options = parser.parse_args()
    if pages and options.page and not options.out:
        parser.error("--page needs --out, the file to write")
    return options


def _axes(text: str) -> tuple[str, ...]:
    try:
        return looks.checked(text.split(","))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def start(program: str = PROGRAM, doc: str = "", pages: Mapping[str, Page] | None = None) -> None:
    """Runs the command with the words of ``sys.argv``, and ends the process.

    Args:
      program: what it is called, and ``doc`` what its help says of it.
      pages: of results that can be asked for, by name.
    """
    sys.exit(main(program, doc, pages))
