"""One clip of the corpus as a real file: H.264 pictures and AAC sound in MP4."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipeline.demo.kinds import corpus_kind
from pipeline.demo.pictures import FRAME_RATE, HEIGHT, WIDTH, render_frames
from pipeline.demo.sounds import SOUND_RATE, render_sound
from pipeline.files import write_atomic

__all__ = ["encode", "render_clip"]

_VIDEO_OPTIONS = {"preset": "veryfast", "crf": "16", "g": "24"}
_AUDIO_OPTIONS = {"aac_coder": "fast"}
_AUDIO_BITS = 64_000


def render_clip(path: Path, *, seed: int, split: str, index: int, kind: str = "parsing") -> int:
    """Renders and writes one clip.

    Args:
        path: The file.
        seed: The corpus's seed.
        split: A split of the corpus.
        index: The clip's number in its split.
        kind: One of `pipeline.demo.kinds.KINDS`.

    Returns:
        The file's size in bytes.
    """
    corpus = corpus_kind(kind)
    timeline = corpus.timeline(seed, split, index)
    frames = render_frames(timeline, corpus.rng(seed, split, index, "picture"))
    sound = render_sound(timeline, corpus.rng(seed, split, index, "sound"))
    data = encode(frames, sound)
    write_atomic(path, data)
    return len(data)


def encode(frames: np.ndarray, sound: np.ndarray) -> bytes:
    """Encodes frames and sound that begin together.

    Args:
        frames: (F, HEIGHT, WIDTH, 3) uint8 RGB at FRAME_RATE.
        sound: (n,) float32 within -1 to 1 at SOUND_RATE.

    Returns:
        The bytes of an MP4 file.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAME_RATE, options=_VIDEO_OPTIONS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        # Clips are rendered side by side in processes; threads inside would only get in the way.
        video.codec_context.thread_count = 1
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="mono", options=_AUDIO_OPTIONS)
        audio.bit_rate = _AUDIO_BITS
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
        wave = av.AudioFrame.from_ndarray(sound[None, :], format="fltp", layout="mono")
        wave.sample_rate, wave.pts, wave.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
        container.mux(audio.encode(wave))
        for stream in (video, audio):
            container.mux(stream.encode(None))
    return buffer.getvalue()
