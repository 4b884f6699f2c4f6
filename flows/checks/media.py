"""Decoders, on a clip that is rendered here and shows when each picture belongs on screen."""

from __future__ import annotations

import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from flows.checks.finding import Finding

__all__ = ["check_decord", "check_pyav"]

BEGINS = np.concatenate([np.arange(12) / 12, 1 + np.arange(4) / 4])
"""Seconds at which pictures begin: twelve a second, then a third of that."""
SECONDS = 2.0
SIZE = (128, 96)
SOUND_RATE = 16000
ONSET = 1.0
"""Second at which the tone begins and the rate of the pictures changes."""
NEAR = 0.01
"""Seconds by which the tone may be heard too early or too late: codecs smear an onset a little."""


def check_pyav() -> Finding:
    """Encodes a clip, H.264 and AAC, and decodes it as extraction does."""
    import av

    from pipeline.decode import read_audio

    with tempfile.TemporaryDirectory() as folder:
        path = _render(Path(folder) / "tiny.mp4")
        problem = _misplaced(path, "pyav")
        tone = read_audio(path, 0.0, SECONDS, SOUND_RATE)
    problem = problem or _unheard(tone)
    if problem:
        return Finding(
            "fail", problem, "Reinstall av from a wheel: 'uv pip install --reinstall av'."
        )
    return Finding(
        "ok",
        f"PyAV {av.__version__}: H.264 and AAC written and read, frames of a variable rate and "
        "sound in their place",
    )


def check_decord() -> Finding:
    """The second decoder, in its child process."""
    with tempfile.TemporaryDirectory() as folder:
        problem = _misplaced(_render(Path(folder) / "tiny.mp4"), "decord")
    if problem:
        return Finding("warn", problem, "Keep to --decoder pyav.")
    return Finding("ok", "reads the same frames in a child process")


def _brightness(index: np.ndarray) -> np.ndarray:
    return 24 + 13 * index


def _render(path: Path) -> Path:
    """A grey that brightens from picture to picture, at two rates, and a tone that sets in."""
    import av

    times = np.arange(int(SECONDS * SOUND_RATE)) / SOUND_RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * times) * (times >= ONSET)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=12)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.codec_context.time_base = Fraction(1, 90000)
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for index, begin in enumerate(BEGINS):
            picture = np.full((SIZE[1], SIZE[0], 3), _brightness(index), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(begin * 90000), Fraction(1, 90000)
            container.mux(video.encode(frame))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(
            tone[None].astype(np.float32), format="fltp", layout="mono"
        )
        sound.sample_rate, sound.pts, sound.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
        container.mux(audio.encode(sound))
        container.mux(audio.encode())
    return path


def _misplaced(path: Path, decoder: str) -> str:
    """What is wrong with the frames that come back; an empty string where they are right."""
    from pipeline.decode import open_decoder

    times = np.array([0.04, 0.54, 0.96, 1.04, 1.3, 1.6, 1.9])
    means = np.full(len(times), np.nan)
    for place, frame in open_decoder(decoder).frames(path, times):
        means[place] = frame.mean()
    shown = np.searchsorted(BEGINS, times, side="right") - 1
    wrong = np.flatnonzero(~(np.abs(means - _brightness(shown)) < 6))
    if len(wrong):
        return (
            f"{decoder} gave a frame of brightness {means[wrong[0]]:.0f} instead of "
            f"{_brightness(shown[wrong[0]])} at {times[wrong[0]]:g} s"
        )
    return ""


def _unheard(sound: np.ndarray) -> str:
    """What is wrong with the tone; an empty string where it is right."""
    loud = np.flatnonzero(np.abs(sound) > 0.1)
    level = float(np.sqrt(np.mean(sound[round(ONSET * SOUND_RATE) :] ** 2)))
    if not len(loud) or not 0.25 < level < 0.45:
        return f"the tone that went in at level 0.35 came back at {level:.2f}"
    onset = loud[0] / SOUND_RATE
    if abs(onset - ONSET) > NEAR:
        return f"the tone that begins at {ONSET:g} s is heard from {onset:.3f} s"
    return ""
