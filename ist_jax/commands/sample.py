"""Text from a net that was trained on text: what the net would go on with after a prompt.

    ist-jax sample --workdir=runs/gcide --prompt="Horse"
    ist-jax sample --workdir=runs/gcide --method=ist --tokens=500 --temperature=0.8 --top_k=40

The folder is that of a finished run of a Transformer. Exit codes: 0 done, 2 a mistake in what was
asked for, 130 interrupted, anything else a failure.
"""

import argparse
import sys

from ist_jax.core import paths
from ist_jax.core.errors import InputError

PROGRAM = "ist-jax sample"


def main(program: str = PROGRAM, doc: str = "") -> int:
    options = _options(program, doc or (__doc__ or ""))
    from ist_jax.run import sampling  # with JAX, a second of CPU: flags are right by now

    try:
        workdir = paths.expanded(options.workdir, "--workdir")
        for text in sampling.texts(
            workdir,
            options.prompt,
            options.method,
            options.seed,
            options.tokens,
            options.draw,
            temperature=options.temperature,
            top_k=options.top_k,
        ):
            sys.stdout.write(text)
            sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print()
        return 130
    print()
    return 0


def _options(program: str, doc: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True, help="the run folder")
    parser.add_argument("--prompt", default="\n", help="what the text begins with (a new line)")
    parser.add_argument("--method", help="whose net; may be left out if the folder has one")
    parser.add_argument("--seed", type=int, help="which of its seeds; likewise")
    parser.add_argument("--tokens", type=int, default=200, help="how many are drawn (200)")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: the likeliest (.8)")
    parser.add_argument("--top_k", type=int, default=0, help="draw from so many; 0: all (0)")
    parser.add_argument("--draw", type=int, default=0, help="seed of the draws (0)")
    return parser.parse_args()


def start(program: str = PROGRAM, doc: str = "") -> None:
    """Runs the command with the words of ``sys.argv``, and ends the process.

    Args:
      program: what it is called, and ``doc`` what its help says of it.
    """
    sys.exit(main(program, doc))
