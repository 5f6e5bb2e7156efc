"""The 35 words of Speech Commands, spoken by espeak-ng in hundreds of voices. Synthetic, not real.

A voice is an accent of English with a variant (another vocal tract). Each clip has a voice, a rate
and a pitch, lies somewhere in its second, and has noise of some strength and colour under it; all
are drawn from a generator that only knows the word. Training, validation and test have no voice in
common. Clips are written as the archive has them (``word/voice_nohash_k.wav``, and the two lists),
so that ``speech`` reads both alike.

espeak-ng says the same only if it did the same before: its random numbers are seeded before each
clip, and a fresh process says all clips of a word in a fixed order, whatever else runs. Its
versions differ, so that the SHA-256 of all samples is recorded; it belongs to every result.

The library is that of the package ``espeakng-loader`` (GPL-3): an extra, imported only here.
"""

import ctypes
import hashlib
import importlib.metadata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ist_jax.core.errors import InputError
from ist_jax.data import prepared
from ist_jax.data.sources import wav
from ist_jax.data.sources.words import TEST, VALIDATION, WORDS

VERSION = 1  # of how clips are made
INSTALL = "pip install 'ist_jax[speech]' (or espeakng-loader, which is GPL-3)"
ACCENTS = (
    *("en-us", "en", "en-029", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd"),
    *("en-gb-x-rp", "en-us-nyc"),
)
NO_SPEECH = ("whisper", "robosoft", "UniRobot", "anikaRobot", "Demonic", "croak", "Mr serious")
RATES, PITCHES = (130, 230), (15, 85)  # words a minute; espeak-ng's percentages
NOISE_DB = (-35.0, -12.0)  # of the noise, from the loudness of the word
SHARES = {"test": 0.2, "validation": 0.1}  # of voices and of clips; the rest is for training
LEAST = 6  # clips of a word, for one in every part
AT_ONCE = 2  # processes; the result does not depend on it
SYNCHRONOUS, DONT_EXIT, UTF8, CHARACTER = 2, 0x8000, 1, 1  # of espeak-ng's speak_lib.h
RATE, PITCH = 1, 3


class Clip(NamedTuple):
    part: str
    voice: str  # accent+variant
    file: str
    rate: int
    pitch: int


def synthesise(cache: str = "", clips: Any = 35_000) -> Path:
    """A folder as the archive's, with as many clips of each word; made if it is not in the cache.

    Raises:
      InputError: the library is not installed, or ``clips`` is not a multiple of 35, at least 210.
    """
    each, rest = divmod(clips, len(WORDS)) if type(clips) is int else (0, 0)
    if rest or each < LEAST:
        raise InputError(
            f"data.options.clips must be a multiple of {len(WORDS)}, at least "
            f"{LEAST * len(WORDS)}; found {clips!r}"
        )
    settings = {"version": VERSION, "clips": clips, "library": _loader()[2]}

    def fill(folder: Path) -> dict[str, Any]:
        jobs = [{"word": word, "clips": each, "folder": str(folder)} for word in range(len(WORDS))]
        show = prepared.Progress("espeak-ng", clips, "clips")
        digests: list[str] = []
        lists: dict[str, list[str]] = {}
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            for done in pool.map(lambda job: prepared.aside(f"{__name__}:_word", job), jobs):
                digests.append(done["sha256"])
                for part, names in done["parts"].items():
                    lists.setdefault(part, []).extend(names)
                show(len(digests) * each)
        finally:
            pool.shutdown(cancel_futures=True)
        for part, name in (("validation", VALIDATION), ("test", TEST)):
            (folder / name).write_text("".join(f"{file}\n" for file in lists.get(part, [])))
        whole = hashlib.sha256("".join(digests).encode()).hexdigest()
        return {**settings, "sha256": whole, **{part: len(its) for part, its in lists.items()}}

    folder, _ = prepared.folder(cache, f"espeak_{clips}", prepared.digest([], settings), fill)
    return folder


def plan(word: int, count: int, variants: list[str]) -> list[Clip]:
    """What to say for a word, in order; a part's voices take turns, in the word's own order."""
    voices = [f"{accent}+{variant}" for accent in ACCENTS for variant in variants]
    mixed = [voices[i] for i in np.random.default_rng(VERSION).permutation(len(voices))]
    draw = np.random.default_rng((VERSION, word))
    clips, left, remaining = [], count, len(mixed)
    for part, share in [*SHARES.items(), ("train", 1.0)]:
        some = left if part == "train" else round(share * count)
        own = remaining if part == "train" else round(share * len(mixed))
        of, left, remaining = mixed[remaining - own : remaining], left - some, remaining - own
        order = draw.permutation(len(of))
        for k in range(some):
            voice = of[order[k % len(of)]]
            file = f"{WORDS[word]}/{voice.replace('+', '-')}_nohash_{k // len(of)}.wav"
            rate, pitch = int(draw.integers(*RATES)), int(draw.integers(*PITCHES))
            clips.append(Clip(part, voice, file, rate, pitch))
    return clips


def place(spoken: np.ndarray, draw: np.random.Generator, taps: np.ndarray) -> np.ndarray:
    """A word at 22,050 Hz somewhere in a second at 16,000 Hz, over noise; int16 [16000]."""
    from scipy.signal import lfilter, resample_poly

    word = resample_poly(spoken.astype(np.float32), 320, 441, window=taps)
    loud = np.flatnonzero(np.abs(word) > 0.01 * np.abs(word).max())
    word = word[loud[0] : loud[-1] + 1]
    spare = 16_000 - len(word)
    at = int(draw.integers(abs(spare) + 1))
    clip = np.zeros(16_000, np.float32)
    if spare >= 0:
        clip[at : at + len(word)] = word
    else:
        clip[:] = word[at : at + 16_000]
    colour = draw.uniform(0, 0.95)  # 0 is white
    noise = lfilter([1.0], [1.0, -colour], draw.standard_normal(16_000))
    level = np.sqrt(np.mean(word**2) / np.mean(noise**2)) * 10 ** (draw.uniform(*NOISE_DB) / 20)
    clip = clip + level * noise
    return np.rint(clip * (16_000 / np.abs(clip).max())).astype(np.int16)


def _word(job: dict[str, Any]) -> dict[str, Any]:
    """Writes all clips of a word. Runs in a fresh process."""
    from scipy.signal import firwin

    library, data, _ = _loader()
    variants = sorted(
        entry.name
        for entry in (Path(data) / "voices" / "!v").iterdir()
        if not entry.name.startswith(NO_SPEECH)
    )
    say = _speaker(library, data)
    taps = firwin(2 * 10 * 441 + 1, 1 / 441, window=("kaiser", 5.0))
    folder, whole = Path(job["folder"]), hashlib.sha256()
    parts: dict[str, list[str]] = {}
    (folder / WORDS[job["word"]]).mkdir()
    draw = np.random.default_rng((VERSION, job["word"], 1))
    for clip in plan(job["word"], job["clips"], variants):
        seed = int(draw.integers(2**31))
        spoken = say(WORDS[job["word"]], clip, seed)
        if not spoken.any():
            raise InputError(f"espeak-ng is silent in voice {clip.voice}; is it damaged? {INSTALL}")
        samples = place(spoken, draw, taps)
        wav.write(folder / clip.file, samples)
        whole.update(clip.file.encode() + samples.astype("<i2").tobytes())
        parts.setdefault(clip.part, []).append(clip.file)
    return {"sha256": whole.hexdigest(), "parts": parts}


def _loader() -> tuple[str, str, str]:
    """Paths of the library and of its data, and the package's version."""
    try:
        import espeakng_loader
    except ImportError:
        raise InputError(
            f"synthetic speech needs espeak-ng: {INSTALL}. Clips that were synthesised elsewhere "
            "can be read without it: give their folder as data.path."
        ) from None
    version = importlib.metadata.version("espeakng-loader")
    return espeakng_loader.get_library_path(), espeakng_loader.get_data_path(), version


def _speaker(library: str, data: str) -> Callable[[str, Clip, int], np.ndarray]:
    """A function that says a word as a clip wants it, int16 at 22,050 Hz."""
    try:
        espeak = ctypes.CDLL(library)
    except OSError as error:
        raise InputError(f"{library} cannot be loaded ({error}). {INSTALL}") from None
    heard: list[np.ndarray] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
    def hear(samples: Any, count: int, _: Any) -> int:
        if samples and count > 0:
            heard.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    if espeak.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), DONT_EXIT) != 22_050:
        raise InputError(
            f"espeak-ng cannot use its data in {data} (a path of more than 150 letters is too long "
            f"for it). {INSTALL}"
        )

    def say(word: str, clip: Clip, seed: int) -> np.ndarray:
        heard.clear()
        espeak.espeak_SetSynthCallback(hear)  # (this also keeps it alive; the library does not)
        if espeak.espeak_SetVoiceByName(clip.voice.encode()):
            raise InputError(f"espeak-ng has no voice {clip.voice}. {INSTALL}")
        espeak.espeak_SetParameter(RATE, clip.rate, 0)
        espeak.espeak_SetParameter(PITCH, clip.pitch, 0)
        espeak.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        text = word.encode() + b"\0"
        espeak.espeak_Synth(text, len(text), 0, CHARACTER, 0, UTF8, None, None)
        return np.concatenate([np.zeros(0, np.int16), *heard])

    return say
