"""Text out of a net that says which token is next, token by token."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from ist_jax.core.errors import InputError
from ist_jax.core.keys import fold

PyTree = Any
MOST = 2**20  # tokens


def sample(
    model: Any,
    params: PyTree,
    prompt: Sequence[int],
    count: int,
    key: Key[Array, ""],
    *,
    length: int,
    temperature: float | int = 1.0,
    top_k: int = 0,
) -> Iterator[int]:
    """So many tokens after a prompt, each as soon as it is drawn.

    Keys and values of earlier tokens are kept, so that a token costs one position. Where ``length``
    positions are full, the net goes on with the last half of them.

    Args:
      model: with an attribute ``remembered`` and an argument ``at``, as ``models.Transformer``.
      params: its variables.
      prompt: tokens, at least one.
      key: of the draws; the same key gives the same text.
      length: positions that the net was trained on.
      temperature: what logits are divided by; 0: always the likeliest token.
      top_k: only so many of the likeliest are drawn from; 0: all.

    Raises:
      InputError: a model that keeps nothing; an empty prompt, a token beyond the vocabulary, or
        options out of bounds.
    """
    _check(model, prompt, count, length, temperature, top_k)
    model = model.clone(remembered=length)
    window = np.zeros((1, 1), np.int32)
    first = lambda: model.apply(params, window, at=0, mutable=["memory"])
    logits, shapes = jax.eval_shape(first)
    _check_known(prompt, logits.shape[-1])
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    @jax.jit
    def step(
        params: PyTree, memory: PyTree, token: Any, at: Any, number: Any
    ) -> tuple[PyTree, Any]:
        logits, memory = model.apply(
            {**params, **memory}, token.reshape(1, 1), at=at, mutable=["memory"]
        )
        return memory, _drawn(logits[0, -1], fold(key, number), temperature, top_k)

    text, memory, at = [int(token) for token in prompt][-length:], empty, 0
    for number in range(count):
        if len(text) > length:
            text, memory, at = text[-max(1, length // 2) :], empty, 0
        for place in range(at, len(text)):
            memory, token = step(params, memory, np.int32(text[place]), place, number)
        at = len(text)
        text.append(int(token))
        yield text[-1]


def _drawn(logits: Float[Array, " V"], key: Any, temperature: float | int, top_k: int) -> Array:
    if not temperature:
        return logits.argmax()
    if 0 < top_k < len(logits):
        least = lax.top_k(logits, top_k)[0][-1]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return jax.random.categorical(key, logits / temperature)


def _check(
    model: Any, prompt: Sequence[int], count: int, length: int, temperature: float | int, top_k: int
) -> None:
    if not hasattr(model, "remembered"):
        raise InputError(
            f"{type(model).__name__} keeps no keys and values: sampling needs a model with an "
            "attribute 'remembered' and an argument 'at', as ist_jax.models.Transformer has them"
        )
    if not len(prompt):
        raise InputError("the prompt is empty: a text begins with at least one token")
    if not 0 <= count <= MOST:
        raise InputError(f"from 0 to {MOST} tokens can be drawn, found {count}")
    if length < 1:
        raise InputError(f"length must be at least 1, found {length}")
    if not 0 <= temperature < np.inf:
        raise InputError(f"the temperature must be 0 or more, found {temperature}")
    if top_k < 0:
        raise InputError(f"top_k must be 0 or more, found {top_k}")


def _check_known(tokens: Sequence[int], classes: int) -> None:
    for token in tokens:
        if not 0 <= token < classes:
            raise InputError(f"the prompt has token {token}, and the net knows 0 to {classes - 1}")
