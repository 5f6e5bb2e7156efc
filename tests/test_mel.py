"""Features of speech: by their definition, and librosa's numbers."""

import jax
import numpy as np

from ist_jax.data.sources import mel


def oracle(clips):
    """Features from their definition in float64: a DFT by its matrix, triangles interpolated."""
    padded = np.concatenate([np.zeros(1024), clips, np.zeros(1024)])
    n, k = np.arange(2048), np.arange(1025)
    hann = np.sin(np.pi * n / 2048) ** 2
    dft = np.exp(-2j * np.pi * (np.outer(k, n) % 2048) / 2048)
    frames = np.stack([padded[t * 512 : t * 512 + 2048] * hann for t in range(32)])
    power = np.abs(frames @ dft.T) ** 2
    linear_then_log = lambda m: (
        m * 200 / 3 if m < 15 else 1000 * np.exp((m - 15) * np.log(6.4) / 27)
    )
    top = 15 + 27 * np.log(8) / np.log(6.4)
    edges = [linear_then_log(top * i / 129) for i in range(130)]
    bands = [
        power
        @ np.interp(k * 16_000 / 2048, edges[b : b + 3], [0, 2 / (edges[b + 2] - edges[b]), 0])
        for b in range(128)
    ]
    decibels = 10 * np.log10(np.maximum(np.array(bands), 1e-10))
    return np.maximum(decibels - decibels.max(), -80).ravel()


T = np.arange(16_000) / 16_000
DRAW = np.random.default_rng(3)
CLIPS = {
    "noise": DRAW.uniform(-0.5, 0.5, 16_000),
    "faint noise": DRAW.uniform(-1, 1, 16_000) / 32_768,
    "a tone": 0.5 * np.sin(2 * np.pi * 440 * T),
    "two tones": 0.4 * np.sin(2 * np.pi * 1000 * T) + 0.1 * np.sin(2 * np.pi * 7000 * T),
    "the highest": 0.5 * np.cos(np.pi * np.arange(16_000)),
    "clipped": np.clip(3 * np.sin(2 * np.pi * 300 * T), -1, 32_767 / 32_768),
    "a constant": np.full(16_000, 0.3),
    "silence": np.zeros(16_000),
    "the first sample": np.eye(1, 16_000, 0)[0],
    "the last sample": np.eye(1, 16_000, 15_999)[0],
}


def test_features_are_those_of_their_definition():
    """To 0.02 dB. An FFT in float32 errs by about 1e-7 of the largest amplitude in a frame; what is
    80 dB below is 1e-4 of it, and so 1e-3 of its amplitude, which is 0.01 dB.
    """
    clips = np.stack(list(CLIPS.values())).astype(np.float32)
    found = np.asarray(jax.jit(mel.features)(clips))
    for name, clip, ours in zip(CLIPS, clips, found, strict=True):
        expected = oracle(clip.astype(np.float64))
        assert np.isfinite(ours).all()
        assert np.abs(ours - expected).max() < 0.02, name
        assert ours.max() == 0
        assert ours.min() >= -80


def test_silence_is_flat():
    assert not np.asarray(mel.features(np.zeros((1, 16_000), np.int16))).any()


GOLDEN = {  # librosa 0.11.0, numpy 2.4: power_to_db(melspectrogram(y=clip, sr=16000), ref=np.max)
    (20, 8): -46.02405,
    (40, 12): -40.91353,
    (60, 20): -42.84343,
    (90, 31): -39.97495,
    (127, 16): -41.68119,
    (33, 31): -47.99891,
    (5, 3): -80,
    (127, 0): -80,
}
GOLDEN_MEAN, GOLDEN_STD, GOLDEN_FLOORED = -45.856905, 18.292941, 669


def test_features_are_librosas():
    n = np.arange(16_000)
    rising = 0.4 * np.sin(2 * np.pi * (150 * T + 2500 * T**2)) * np.minimum(1, 4 * T)
    clip = rising + 0.05 * ((n * n * 7919) % 1009 / 1009 - 0.5) * (n > 4000)
    found = np.asarray(mel.features(clip.astype(np.float32)[None]))[0]
    for (band, frame), value in GOLDEN.items():
        assert abs(found.reshape(128, 32)[band, frame] - value) < 2e-3
    assert abs(found.mean(dtype=np.float64) - GOLDEN_MEAN) < 1e-4
    assert abs(found.std(dtype=np.float64) - GOLDEN_STD) < 1e-4
    assert abs((found == -80).sum() - GOLDEN_FLOORED) <= 1


def test_int16_is_32768ths(strict_types):
    clips = np.random.default_rng(0).integers(-9000, 9000, (2, 16_000)).astype(np.int16)
    scaled = (clips / 32_768).astype(np.float32)
    features = jax.jit(mel.features)
    assert np.array_equal(features(clips), features(scaled))
