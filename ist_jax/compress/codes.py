"""Updates in fewer bits: what a worker sends back is rounded at random, or only its largest part.

A worker fetches its subnet as it is, and sends the difference that its local steps have made, in a
code. Codes work on *rows*: the part of a leaf that belongs to one neuron of its first cut axis, so
that it can travel alone, or ``BLOCK`` entries of a leaf that nothing cuts. Wherever a row is
decoded, its old value is known and the difference is added to it; what comes out is the same bits
on any number of devices. Rows that the code would not make shorter go as they are. The mean update
of a leaf that nothing cuts comes back to all workers in the code ``BACK``.

* ``rounded(bits)``: multiples of the row's largest value over 2^(bits-1) - 1 (rounded up to 17
  significant bits), the next lower or higher one at random so that the mean is the value itself
  (Alistarh et al., NeurIPS 2017).
* ``largest(share)``: the entries of largest magnitude, with their places (Aji and Heafield, EMNLP
  2017); the others stay as they were, and what they would have become is forgotten.
* ``with_feedback(code)``: what a code has left out of a worker's update is not forgotten, but added
  to the next one (error feedback: Seide et al., Interspeech 2014; Karimireddy et al., ICML 2019).
  For leaves that all workers share: the entry of a cut leaf is another worker's in the next round.
"""

import contextlib
import math
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from ist_jax.core.errors import InputError

Part = tuple[int, Any]  # entries of a row's part, and their dtype
BITS = (8, 4)
FEEDBACK = "+feedback"


class Code(NamedTuple):
    """A way to send rows ``float32[..., L]``.

    Attributes:
      name: ``"8 bits"``.
      parts: of the length L, what arrays ``[..., n]`` a row becomes.
      encode: ``(rows, key) -> `` those arrays.
      decode: ``(arrays, L) -> rows``.
      feedback: workers remember what it leaves out of leaves that they share.
    """

    name: str
    parts: Callable[[int], list[Part]]
    encode: Callable[[Float[Array, "..."], Key[Array, ""]], list[Array]]
    decode: Callable[[list[Array], int], Float[Array, "..."]]
    feedback: bool = False

    def bytes(self, length: int) -> int:
        """Of a row."""
        return sum(n * jnp.dtype(dtype).itemsize for n, dtype in self.parts(length))


def rounded(bits: int) -> Code:
    """Values in so many bits (8 or 4), rounded at random."""
    if bits not in BITS:
        raise InputError(f"updates can be rounded to 8 or 4 bits, found {bits}")
    most, pairs = 2 ** (bits - 1) - 1, bits == 4

    def encode(rows, key):
        scale = _short(jnp.max(jnp.abs(rows), axis=-1, keepdims=True) / most)
        steps = rows / jnp.where(scale > 0, scale, 1)
        up = jax.random.uniform(key, rows.shape)
        codes = jnp.clip(jnp.floor(steps + up), -most, most).astype(jnp.int8)
        return [_packed(codes) if pairs else codes, scale]

    def decode(parts, length):
        codes, scale = parts
        codes = _unpacked(codes, length) if pairs else codes
        return codes.astype(jnp.float32) * scale

    parts = lambda length: [
        (-(-length // 2), jnp.uint8) if pairs else (length, jnp.int8),
        (1, jnp.float32),
    ]
    return _unless_longer(Code(f"{bits} bits", parts, encode, decode))


def largest(share: float) -> Code:
    """Of every row the given share of entries, rounded up to a whole number."""
    if not 0 < share <= 1:
        raise InputError(f"the share of entries that are sent must be in (0, 1], found {share}")
    count = lambda length: math.ceil(share * length)

    def encode(rows, key):
        _, places = lax.top_k(jnp.abs(rows), count(rows.shape[-1]))
        return [jnp.take_along_axis(rows, places, axis=-1), places]

    def decode(parts, length):
        values, places = parts
        empty = jnp.zeros((*values.shape[:-1], length), values.dtype)
        return jnp.put_along_axis(empty, places, values, axis=-1, inplace=False)

    parts = lambda length: [(count(length), jnp.float32), (count(length), jnp.int32)]
    return _unless_longer(Code(f"largest {share:g}", parts, encode, decode))


def with_feedback(code: Code) -> Code:
    """The code with error feedback."""
    return code._replace(name=f"{code.name} with feedback", feedback=True)


def named(name: str) -> Code | None:
    """``"8bit"``, ``"4bit"``, ``"top0.01"``, each also as ``"4bit+feedback"``; None if empty.

    Raises:
      InputError: anything else.
    """
    if name == "":
        return None
    if isinstance(name, str) and name.endswith(FEEDBACK) and name != FEEDBACK:
        return with_feedback(_named(name.removesuffix(FEEDBACK)))
    return _named(name)


def _named(name: str) -> Code:
    plain = isinstance(name, str) and name.isascii() and not re.search(r"[\s_]", name)
    with contextlib.suppress(ValueError):  # int() and float() would take other digits and blanks
        if plain and name.startswith("top"):
            return largest(float(name.removeprefix("top")))
        if plain and name.endswith("bit"):
            return rounded(int(name.removesuffix("bit")))
    raise InputError(
        "compress must be '', '8bit', '4bit' or 'top' and a share, each also with "
        f"'{FEEDBACK}', found {name!r}"
    )


def of_leaves(
    code: Code | None, leaves: Iterable[Any], groups: Collection[str], disjoint: bool
) -> list[Code | None]:
    """The code of each leaf of a net (``axes.Net.leaves``), or None.

    There is none for whole numbers and truth values, nor for a cut leaf whose neurons may have
    several holders: between devices its slices move fewer bytes than whole rows in a code would.

    Args:
      groups: that are cut.
      disjoint: every neuron always has exactly one holder.

    Raises:
      InputError: floats that are not float32.
    """
    leaves = list(leaves)
    other = [x for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact) and x.dtype != jnp.float32]
    if code is not None and other:
        raise InputError(
            f"codes are of float32, and {other[0].path} is {other[0].dtype}: keep parameters in "
            "float32 and let the model compute in fewer bits, or send without a code"
        )
    coded = lambda leaf: leaf.dtype == jnp.float32 and (disjoint or not leaf.cut_axes(groups))
    return [code if coded(leaf) else None for leaf in leaves]


def _unless_longer(code: Code) -> Code:
    """Short rows go as they are."""
    short = lambda length: code.bytes(length) >= 4 * length
    return Code(
        code.name,
        lambda length: [(length, jnp.float32)] if short(length) else code.parts(length),
        lambda rows, key: [rows] if short(rows.shape[-1]) else code.encode(rows, key),
        lambda parts, length: parts[0] if short(length) else code.decode(parts, length),
    )


def _short(scale: Array) -> Array:
    """The next number up, of 17 significant bits.

    Its product with an integer of 7 bits is exact. So the sum that a compiler adds it to has the
    same bits whether the two become one instruction, with one rounding, or not.
    """
    low = 2 ** (BITS[0] - 1) - 1
    bits = lax.bitcast_convert_type(scale, jnp.int32)
    return lax.bitcast_convert_type((bits + low) & ~low, jnp.float32)


def _packed(codes: Array) -> Array:
    """Two codes of 4 bits in a byte, ``int8[..., L] -> uint8[..., ceil(L/2)]``."""
    even = jnp.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, codes.shape[-1] % 2)])
    nibbles = (even & 15).astype(jnp.uint8)
    return nibbles[..., ::2] | (nibbles[..., 1::2] << 4)


def _unpacked(packed: Array, length: int) -> Array:
    pairs = jnp.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)
    return ((pairs[..., :length].astype(jnp.int8) ^ 8) - 8).astype(jnp.int8)


BLOCK = 256  # entries of a leaf that all workers share, which are a row
BACK = rounded(8)  # what the mean of their updates comes back in


def blocks_of(size: int) -> int:
    """Into how many blocks so many entries go; the last one is filled up."""
    return -(-size // BLOCK)
