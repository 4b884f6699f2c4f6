"""What a media file holds, without decoding it."""

from __future__ import annotations

import os
from typing import Any

from pipeline.decode.container import FAILURES, open_container, origin, pick_stream
from pipeline.decode.interface import MediaInfo
from pipeline.decode.pyav import quarter_turns
from pipeline.errors import MediaError

__all__ = ["probe"]


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Reads a container's description; packets are scanned where it states no duration.

    The first picture is decoded, because that is where the rotation stands. A file whose streams
    do not decode has a description all the same.

    Raises:
        MediaError: ``missing``, or ``decode_error`` if the container cannot be read.
    """
    with open_container(path) as container:
        video = _stream(container, "video")
        audio = _stream(container, "audio")
        rotation = 0 if video is None else _rotation(container, video)
        duration = container.duration / 1e6 if container.duration else None
    if not duration or duration < 0:
        duration = _scan(path)
    width, height = (0, 0) if video is None else (video.width, video.height)
    if rotation in (90, 270):
        width, height = height, width
    rate = None if video is None else video.average_rate
    return MediaInfo(
        duration=duration,
        width=width,
        height=height,
        rotation=rotation,
        video_rate=float(rate) if rate else None,
        audio_rate=None if audio is None else audio.codec_context.sample_rate,
        video_codec=None if video is None else video.codec_context.codec.canonical_name,
        audio_codec=None if audio is None else audio.codec_context.codec.canonical_name,
    )


def _stream(container: Any, kind: Any) -> Any | None:
    try:
        return pick_stream(container, kind)
    except MediaError:
        return None


def _rotation(container: Any, stream: Any) -> int:
    try:
        frame = next(container.decode(stream), None)
    except FAILURES:
        return 0
    return 0 if frame is None else quarter_turns(frame)


def _scan(path: str | os.PathLike[str]) -> float | None:
    """Seconds from the container's start to the end of its last packet."""
    end = None
    with open_container(path) as container:
        start = origin(container)
        try:
            for packet in container.demux():
                if packet.pts is not None and packet.stream.type in ("video", "audio"):
                    last = float((packet.pts + (packet.duration or 0)) * packet.time_base) - start
                    end = last if end is None else max(end, last)
        except FAILURES:
            return end
    return end
