"""The default video decoder: PyAV, in this process, one pass, only the wanted frames converted."""

from __future__ import annotations

import itertools
import math
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from av.video.reformatter import VideoReformatter

from pipeline.decode.container import NEAR, Decoded, StreamReader
from pipeline.decode.interface import (
    BOUNDARY,
    FRAME_RULE,
    Deadline,
    check_times,
    require_head,
    require_tail,
    upright,
)
from pipeline.errors import MediaError
from pipeline.grid import TAIL_HOLD

__all__ = ["PyAVDecoder", "quarter_turns"]

_VERSION = 1
"""Raised by hand when code below changes which frame or pixel comes out."""


class PyAVDecoder:
    """Decodes with FFmpeg's libraries through PyAV.

    The timeout is looked at between packets; a codec that hangs inside one is beyond it.

    Args:
        threads: Codec threads, which change no pixel. None takes one for pictures below 640x360
            and up to four for larger ones; conversion to RGB always runs in the caller's thread.
    """

    name: ClassVar[str] = "pyav"

    def __init__(self, *, threads: int | None = None) -> None:
        self.threads = threads

    def describe(self) -> dict[str, Any]:
        """See `pipeline.decode.interface.Decoder`."""
        return FRAME_RULE | {"decoder": self.name, "chroma": "bilinear", "version": _VERSION}

    def frames(
        self, path: str | os.PathLike[str], times: np.ndarray, *, timeout: float | None = None
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """See `pipeline.decode.interface.Decoder`."""
        times = check_times(times)
        if len(times) == 0:
            return
        deadline = Deadline(timeout)
        # One reformatter keeps its conversion tables from frame to frame. A second thread costs
        # more than it saves: with PyAV's default of all cores small frames take ten times longer.
        reformatter = VideoReformatter()

        def convert(frame: Any) -> np.ndarray:
            rgb = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
            return upright(rgb, quarter_turns(frame)) if frame.rotation else rgb

        with StreamReader(path, "video", deadline=deadline, threads=self.threads) as reader:
            for item in _on_screen(reader, times.tolist(), convert):
                deadline.pause()
                yield item
                deadline.resume()


def quarter_turns(frame: Any) -> int:
    """Clockwise degrees (0, 90, 180, 270) that turn a frame upright, from its display matrix."""
    # PyAV states the matrix's angle anticlockwise.
    return round(-frame.rotation / 90) % 4 * 90


def _on_screen(
    reader: StreamReader, times: list[float], convert: Callable[[Any], np.ndarray]
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields what is on screen at ascending moments, (n,) seconds, with the moments it covers.

    Raises:
        MediaError: If a moment has no picture.
    """
    # Small pictures cost as little to decode as a few lines of Python, so this loop is spare:
    # moments are Python's floats (comparing NumPy's would double it) and tuples are unpacked once.
    done, due = 0, times[0]
    may_jump = True
    shown: Decoded | None = None
    shown_begin, image = -math.inf, None
    pictures = reader.read_from(due)
    while (picture := next(pictures, None)) is not None:
        frame, begin, end, damage = picture
        if begin - BOUNDARY <= shown_begin:
            continue
        if due < begin - BOUNDARY:
            if shown is None:
                _check_head(picture, due)
            else:
                until = bisect_left(times, begin - BOUNDARY, done)
                if damage is not None:
                    _check_gap(shown, times[until - 1], damage)
                yield slice(done, until), convert(shown.frame) if image is None else image
                if until == len(times):
                    return
                done, due = until, times[until]
        shown, shown_begin = picture, begin
        # Only the next picture tells for certain that this one is wanted, but by then its pixels
        # have left the processor's cache: where its own duration tells, it is converted at once.
        image = convert(frame) if begin - BOUNDARY <= due < end else None
        if may_jump and due - begin > NEAR:
            pictures, may_jump = _jump(reader, due, picture)
    if shown is None:
        raise _no_picture(reader)
    if reader.damage is not None:
        _check_gap(shown, times[-1], reader.damage)
    require_tail("video", shown.end, times[-1])
    yield slice(done, len(times)), convert(shown.frame) if image is None else image


def _jump(reader: StreamReader, target: float, shown: Decoded) -> tuple[Iterator[Decoded], bool]:
    """Goes on near a distant moment; also tells whether that got past what was decoded before.

    In a stream with few key frames a jump lands behind its own start. It is tried once there, so
    that the cost stays one pass.
    """
    pictures = reader.read_from(target)
    first = next(pictures, None)
    if first is None:
        return pictures, False
    return itertools.chain([first], pictures), first.begin > shown.begin


def _no_picture(reader: StreamReader) -> MediaError:
    if reader.damage is None:
        return MediaError("decode_error", "the video stream holds no picture")
    return MediaError("decode_error", f"no picture decodes: {reader.damage}")


def _check_head(first: Decoded, wanted: float) -> None:
    if first.damage is not None and first.begin - wanted > TAIL_HOLD:
        raise MediaError(
            "decode_error", f"nothing decodes before {first.begin:.3f} s: {first.damage}"
        )
    require_head("video", first.begin, wanted)


def _check_gap(shown: Decoded, wanted: float, damage: str) -> None:
    """Refuses a picture that stands in for lost ones longer than at the ends of a video."""
    if wanted - shown.end > TAIL_HOLD:
        raise MediaError(
            "decode_error",
            f"nothing decodes between {shown.end:.3f} s and {wanted:.3f} s: {damage}",
        )
