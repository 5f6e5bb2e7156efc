"""Text out of a run folder: tokens drawn from its net, as letters."""

import codecs
import hashlib
import pathlib
from collections.abc import Iterator

import jax

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold
from ist_jax.data import subwords
from ist_jax.run import saved_run
from ist_jax.tasks import sampling


def texts(
    workdir: pathlib.Path,
    prompt: str,
    method: str | None,
    seed: int | None,
    count: int,
    draw: int = 0,
    *,
    temperature: float | int = 0.8,
    top_k: int = 0,
) -> Iterator[str]:
    """The prompt, and what the net goes on with, piece by piece.

    Args:
      method, seed: whose net.
      count: tokens.
      draw: seed of the draws.

    Raises:
      InputError: no finished run of a net of text; a tokenizer that is not the net's; and as
        ``tasks.sampling.sample``.
    """
    run = saved_run.read(workdir, method, seed, allow_code=False)
    about = saved_run.summary(workdir)["data"]
    if run.model is None or len(about.get("shape", ())) != 1 or about["dtype"].startswith("float"):
        raise InputError(f"{workdir} holds no net of text: its inputs are no tokens [n, T]")
    if "tokenizer" not in about:
        raise InputError(
            f"{workdir}: it is not known what the tokens stand for; train with the "
            f"{subwords.NAME} beside the files of numbers"
        )
    tokenizer = _tokenizer(workdir, about["tokenizer"])
    pieces = subwords.pieces(tokenizer, about["classes"])
    tokens = subwords.encoded(tokenizer, prompt).tolist()
    letters = codecs.getincrementaldecoder("utf-8")("replace")
    drawn = sampling.sample(
        run.model,
        {**run.params, **run.statistics},
        tokens,
        count,
        fold(jax.random.key(draw), "sample"),
        length=about["shape"][0],
        temperature=temperature,
        top_k=top_k,
    )
    yield prompt
    for token in drawn:
        yield letters.decode(pieces[token])
    yield letters.decode(b"", final=True)


def _tokenizer(workdir: pathlib.Path, digest: str) -> str:
    """The folder's, which must be the one that the net was trained with."""
    if not digest:
        return ""
    file = workdir / subwords.NAME
    if not file.is_file():
        raise InputError(f"no {file}: the net was trained with a tokenizer of its own")
    text = subwords.read(file)
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise InputError(f"{file} is not the tokenizer that the net was trained with")
    return text
