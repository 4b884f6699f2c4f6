"""Renders small real media files whose frames tell their number and whose sound tells its time."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

__all__ = [
    "click_track",
    "draw_index",
    "needs_decord",
    "read_index",
    "render_clip",
    "repeated_copy",
    "sine",
    "trimmed_copy",
]

BITS = 8
_TICK = Fraction(1, 90000)


def needs_decord() -> None:
    """Skips a test on platforms that the project asks no decord for; elsewhere it must be there."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("decord is built for Linux on x86-64 only")


def draw_index(index: int, *, size: tuple[int, int] = (128, 96)) -> np.ndarray:
    """A picture of (H, W, 3) uint8 that shows a number below 256 as black and white blocks.

    The blocks fill the upper half; the lower left corner is red, so that a picture that is
    turned or mirrored reads as another one.
    """
    width, height = size
    picture = np.full((height, width, 3), 90, dtype=np.uint8)
    block = width // BITS
    for bit in range(BITS):
        picture[: height // 2, bit * block : (bit + 1) * block] = 235 if index >> bit & 1 else 16
    picture[height // 2 :, : width // 4] = (200, 30, 30)
    return picture


def read_index(picture: np.ndarray) -> int:
    """The number that a picture shows; -1 if it does not stand upright."""
    height, width = picture.shape[:2]
    corner = picture[height * 5 // 8 : height * 7 // 8, width // 16 : width * 3 // 16]
    red, green, _ = corner.reshape(-1, 3).mean(axis=0)
    if red < 150 or green > 90:
        return -1
    block = width // BITS
    row = picture[height // 8 : height * 3 // 8].mean(axis=(0, 2))
    levels = row[: block * BITS].reshape(BITS, block)[:, block // 4 : block * 3 // 4].mean(axis=1)
    return int(sum(1 << bit for bit in range(BITS) if levels[bit] > 125))


def sine(frequency: float, seconds: float, rate: int, *, level: float = 0.5) -> np.ndarray:
    """A sine of ``level``, (n,) float32."""
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


def click_track(times: Sequence[float], seconds: float, rate: int) -> np.ndarray:
    """Silence with a short burst centred on each of some moments, (n,) float32."""
    at = np.arange(round(seconds * rate)) / rate
    track = np.zeros(len(at))
    for moment in times:
        track += np.exp(-(((at - moment) / 0.0008) ** 2)) * np.cos(2 * np.pi * 1500 * (at - moment))
    return (0.8 * track).astype(np.float32)


def render_clip(
    path: Path,
    *,
    begins: Sequence[float] | None = None,
    seconds: float = 2.0,
    rate: int = 12,
    size: tuple[int, int] = (128, 96),
    codec: str = "libx264",
    gop: int = 12,
    b_frames: int = 2,
    rotation: int = 0,
    clutter: bool = False,
    video: bool = True,
    audio: np.ndarray | None = None,
    audio_rate: int = 16000,
    audio_begin: float = 0.0,
    audio_pause: tuple[float, float] | None = None,
    audio_codec: str = "aac",
    layout: str = "mono",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encodes a clip; its container is that of the file's suffix.

    Args:
        path: The file to write.
        begins: Presentation times of the frames in seconds; default ``rate`` a second from 0.
        seconds: Length of the video where ``begins`` is not given.
        rate: Nominal frames a second.
        size: Width and height of an upright frame.
        codec: Video encoder.
        gop: Frames from key frame to key frame.
        b_frames: Frames between two others that are stored after both.
        rotation: Clockwise degrees by which a player has to turn the stored pictures.
        clutter: Whether a texture moves behind, which makes decoding as dear as that of films.
        video: Whether there is a video stream.
        audio: Samples in [-1, 1], (n,) or (channels, n); None for no audio stream.
        audio_rate: Samples a second of ``audio``.
        audio_begin: Presentation time of its first sample.
        audio_pause: Second of ``audio`` after which the time stamps jump, and by how many seconds.
        audio_codec: Audio encoder.
        layout: Channel layout.
        options: Further options of the video encoder.
        container_options: Options of the muxer.

    Returns:
        ``path``.
    """
    with av.open(str(path), "w", options=container_options or {}) as container:
        streams: list[tuple[Any, list[Any]]] = []
        if video:
            moments = np.arange(round(seconds * rate)) / rate if begins is None else begins
            stream = container.add_stream(codec, rate=rate)
            turned = rotation % 180 != 0
            stream.width, stream.height = (size[1], size[0]) if turned else size
            stream.pix_fmt = "yuv420p"
            stream.codec_context.gop_size = gop
            stream.codec_context.max_b_frames = b_frames
            stream.codec_context.thread_count = 1
            if codec.startswith("mpeg"):
                # MPEG knows a few frame rates only and takes no other clock.
                stream.codec_context.time_base = Fraction(1, rate)
                stream.bit_rate = 2_000_000
            else:
                stream.codec_context.time_base = _TICK
            stream.options = options or {}
            if rotation:
                stream.set_display_rotation(-rotation)
            streams.append((stream, list(_pictures(stream, moments, size, rotation, clutter))))
        if audio is not None:
            sound = container.add_stream(audio_codec, rate=audio_rate, layout=layout)
            streams.append(
                (sound, list(_blocks(np.atleast_2d(audio), sound, audio_begin, audio_pause)))
            )
        for stream, frames in streams:
            for frame in [*frames, None]:
                container.mux(stream.encode(frame))
    return path


def trimmed_copy(source: Path, target: Path, seconds: float) -> Path:
    """Copies a clip without encoding it and hides its first seconds behind an edit list."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                shift = round(seconds / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - shift,
                    packet.dts - shift,
                    stream,
                )
                new.mux(packet)
    return target


def repeated_copy(source: Path, target: Path, *, seconds: float, times: int) -> Path:
    """Copies a clip again and again behind itself without encoding it.

    Args:
        source: The clip. Its streams must last as long as ``seconds``, in whole packets.
        target: The file to write.
        seconds: From the start of one copy to that of the next.
        times: How many copies.

    Returns:
        ``target``.
    """
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = {s.index: new.add_stream_from_template(s) for s in old.streams}
        stored = [(p, bytes(p)) for p in old.demux() if p.dts is not None]
        for copy in range(times):
            for packet, data in stored:
                shift = round(Fraction(seconds).limit_denominator(1000) * copy / packet.time_base)
                again = av.Packet(data)
                again.time_base, again.duration = packet.time_base, packet.duration
                again.pts, again.dts = packet.pts + shift, packet.dts + shift
                again.stream, again.is_keyframe = streams[packet.stream_index], packet.is_keyframe
                new.mux(again)
    return target


def _pictures(
    stream: Any, moments: Sequence[float], size: tuple[int, int], rotation: int, clutter: bool
) -> Any:
    base = stream.codec_context.time_base
    texture = np.random.default_rng(0).integers(40, 200, (size[1] // 8 + 1, size[0] // 8 + 1, 3))
    texture = texture.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    for index, moment in enumerate(moments):
        picture = draw_index(index % 256, size=size)
        if clutter:
            moved = np.roll(texture, (index, 3 * index), axis=(0, 1))[: size[1], : size[0]]
            picture[size[1] // 2 :] = moved[size[1] // 2 :]
        stored = np.ascontiguousarray(np.rot90(picture, rotation // 90))
        frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
        frame.pts, frame.time_base = round(moment / base), base
        yield frame.reformat(format="yuv420p")


def _blocks(
    samples: np.ndarray,
    stream: Any,
    begin: float,
    pause: tuple[float, float] | None,
    *,
    block: int = 1024,
) -> Any:
    rate = stream.codec_context.sample_rate
    resampler = av.AudioResampler(
        format=stream.codec_context.format, layout=stream.codec_context.layout, rate=rate
    )
    for at in range(0, samples.shape[1], block):
        part = np.ascontiguousarray(samples[:, at : at + block], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(
            part, format="fltp", layout=stream.codec_context.layout.name
        )
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(begin * rate) + at
        if pause is not None and at >= pause[0] * rate:
            frame.pts += round(pause[1] * rate)
        yield from resampler.resample(frame)
