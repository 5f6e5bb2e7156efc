"""Log-mel features of one-second clips: 128 bands x 32 frames, in dB below the clip's loudest.

The features of the IST release, which takes them from librosa with that library's defaults: frames
of 2,048 samples every 512, the first centred on sample 0, with zeros beyond both ends of the clip
(librosa's ``pad_mode="constant"``, its default since 0.10; before, it reflected), a periodic Hann
window, power |rFFT|^2, Slaney's mel scale from 0 to 8,000 Hz with triangles of equal area (Slaney,
Auditory Toolbox, 1998), 10 log10 of at least 1e-10, less the clip's maximum, and at least -80.

A frame is four pieces of 512 samples, so that all frames are four shifted views of the padded clip
and nothing is gathered one by one. Silence has one value everywhere and thus features of 0.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int16

VERSION = 1  # of the features' values: a set that was prepared with another one is made anew
RATE, SAMPLES = 16_000, 16_000
BANDS, FRAMES = 128, 32
WIDTH = BANDS * FRAMES
WINDOW, HOP = 2_048, 512
LEAST_POWER, FLOOR_DB = 1e-10, -80.0

Clips = Float[Array | np.ndarray, "B 16000"] | Int16[Array | np.ndarray, "B 16000"]


def features(clips: Clips) -> Float[Array, "B 4096"]:
    """Features of each clip, float32, a band's frames together ([128, 32], row-major).

    Args:
      clips: at 16,000 Hz, from -1 to below 1; or int16, which are taken as 32,768ths.

    Example:
      >>> features(np.zeros((1, 16_000), np.float32)).shape
      (1, 4096)
    """
    scaled = jnp.asarray(clips, jnp.float32)
    if clips.dtype == np.int16:
        scaled = scaled * jnp.float32(2**-15)
    pieces = WINDOW // HOP + FRAMES - 1
    before = WINDOW // 2
    after = pieces * HOP - before - SAMPLES
    padded = jnp.pad(scaled, ((0, 0), (before, after))).reshape(-1, pieces, HOP)
    shifted = [padded[:, i : i + FRAMES] for i in range(WINDOW // HOP)]
    frames = jnp.concatenate(shifted, axis=-1) * _window()  # [B, 32, 2048]
    spectrum = jnp.fft.rfft(frames)
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    bands = jnp.einsum("mf,btf->bmt", filters(), power, precision=jax.lax.Precision.HIGHEST)
    logs = jnp.log(jnp.maximum(bands, LEAST_POWER))
    below = logs - logs.max(axis=(1, 2), keepdims=True)  # before it is scaled: then 0 is exact
    return jnp.maximum(10 / math.log(10) * below, FLOOR_DB).reshape(-1, WIDTH)


@functools.cache
def filters() -> Float[np.ndarray, "128 1025"]:
    """The triangles: each rises from the centre before its own, and falls to the one after."""
    hertz = np.arange(WINDOW // 2 + 1) * RATE / WINDOW
    edges = _hertz(np.linspace(0, _mel(RATE / 2), BANDS + 2))[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rises, falls = (hertz - low) / (centre - low), (high - hertz) / (high - centre)
    triangles = np.maximum(0, np.minimum(rises, falls))
    return (triangles * 2 / (high - low)).astype(np.float32)


# Slaney's scale: linear up to 1,000 Hz, which is 15 mel; then 27 mel for a factor of 6.4.
def _mel(hertz: float) -> float:
    return 15 + 27 * np.log(hertz / 1000) / np.log(6.4) if hertz >= 1000 else hertz * 15 / 1000


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel * 1000 / 15, 1000 * 6.4 ** ((mel - 15) / 27))


def _window() -> np.ndarray:
    """Hann's, periodic."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)
