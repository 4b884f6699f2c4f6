"""What every video decoder promises, and the rules of time that all of them share.

A decoder answers one question: which picture is on screen at a moment? It is the last one whose
presentation time is not after the moment, counted from the start of the container, so that sound
and pictures share one zero. Frame numbers never enter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from pipeline.errors import MediaError
from pipeline.grid import TAIL_HOLD

__all__ = [
    "BOUNDARY",
    "FRAME_RULE",
    "Deadline",
    "Decoder",
    "MediaInfo",
    "check_times",
    "require_head",
    "require_tail",
    "upright",
]

BOUNDARY = 1e-6
"""Seconds by which a picture may begin late and still be on screen: containers state their start
in whole microseconds, which puts exact boundaries off by up to half of one."""

FRAME_RULE: dict[str, Any] = {
    "time": "last picture with presentation time <= t from the start of the container",
    "boundary": BOUNDARY,
    "tail_hold": TAIL_HOLD,
    "rotation": "display matrix, quarter turns",
    "layout": "uint8 rgb24, height x width x 3, full range",
    "matrix": "as tagged, BT.601 where untagged",
    "range": "as tagged, limited where untagged",
}
"""What both decoders have in common, for the specs of features."""


@dataclass(frozen=True)
class MediaInfo:
    """What a container says of itself.

    Attributes:
        duration: Seconds from the container's start to the end of its longest stream; None where
            nothing tells.
        width: Width of an upright frame in pixels, 0 without video.
        height: Height of an upright frame in pixels, 0 without video.
        rotation: Clockwise degrees by which stored pictures are turned to stand upright
            (0, 90, 180 or 270); ``Decoder.frames`` has done so already.
        video_rate: Mean frames a second, None without video or where not stated.
        audio_rate: Samples a second, None without audio.
        video_codec: Name of the video coding, None without video.
        audio_codec: Name of the audio coding, None without audio.
    """

    duration: float | None
    width: int
    height: int
    rotation: int
    video_rate: float | None
    audio_rate: int | None
    video_codec: str | None
    audio_codec: str | None


@runtime_checkable
class Decoder(Protocol):
    """Gives the frames of a video at given moments."""

    name: ClassVar[str]

    def describe(self) -> dict[str, Any]:
        """All of the decoder that changes a pixel, as plain values for a feature's spec."""
        ...

    def frames(
        self, path: str | os.PathLike[str], times: np.ndarray, *, timeout: float | None = None
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Decodes the frames that are on screen at some moments, once and in order.

        Before the first frame and after the last one ends, the edge frame stands in for at most
        `pipeline.grid.TAIL_HOLD` seconds. Memory does not grow with the video's length.

        Args:
            path: The video.
            times: Moments in seconds from the container's start, (n,), ascending.
            timeout: Seconds of decoding after which to give up; the time that the consumer
                takes between two frames does not count.

        Yields:
            A slice of ``times`` and the upright frame on screen at those moments,
            (H, W, 3) uint8 RGB. The slices cover every index exactly once, in order.

        Raises:
            MediaError: ``missing``, ``no_video``, ``too_short``, ``decode_error``, ``timeout``.
        """
        ...


class Deadline:
    """A budget of seconds that runs only while decoding does.

    Args:
        seconds: The budget; None for none.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._spent = 0.0
        self._since = time.monotonic()

    @property
    def left(self) -> float | None:
        """Seconds left, never negative; None without a budget."""
        if self._seconds is None:
            return None
        return max(0.0, self._seconds - self._spent - (time.monotonic() - self._since))

    def pause(self) -> None:
        """Stops counting while a consumer works on a frame."""
        if self._seconds is not None:
            self._spent += time.monotonic() - self._since

    def resume(self) -> None:
        """Counts again."""
        if self._seconds is not None:
            self._since = time.monotonic()

    def check(self) -> None:
        """Raises `MediaError` ``timeout`` when the budget is spent."""
        if self._seconds is not None and self.left == 0.0:
            raise self.error()

    def error(self) -> MediaError:
        """The error of a spent budget."""
        return MediaError("timeout", f"decoding took longer than {self._seconds:g} s")


def check_times(times: np.ndarray) -> np.ndarray:
    """Moments as float64.

    Raises:
        ValueError: If they are not one ascending row of finite numbers.
    """
    times = np.asarray(times, dtype=np.float64)
    if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError("times must be one row of finite seconds in ascending order")
    return times


def require_head(what: str, begin: float, wanted: float) -> None:
    """Checks that media begin soon enough for a moment.

    Raises:
        MediaError: ``too_short`` if more than `TAIL_HOLD` seconds are missing.
    """
    if begin - wanted > TAIL_HOLD + BOUNDARY:
        raise MediaError(
            "too_short", f"the {what} begins at {begin:.3f} s and is wanted from {wanted:.3f} s"
        )


def require_tail(what: str, end: float, wanted: float) -> None:
    """Checks that media last long enough for a moment.

    Raises:
        MediaError: ``too_short`` if more than `TAIL_HOLD` seconds are missing.
    """
    if wanted - end > TAIL_HOLD + BOUNDARY:
        raise MediaError(
            "too_short", f"the {what} ends at {end:.3f} s and is wanted until {wanted:.3f} s"
        )


def upright(picture: np.ndarray, rotation: int) -> np.ndarray:
    """Turns a stored picture upright.

    Args:
        picture: (H, W, 3).
        rotation: Clockwise degrees, a multiple of 90.

    Returns:
        The picture, contiguous, (H, W, 3) or (W, H, 3).
    """
    if rotation % 360 == 0:
        return picture
    return np.ascontiguousarray(np.rot90(picture, -(rotation // 90)))
