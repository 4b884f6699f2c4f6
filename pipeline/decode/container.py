"""Opening containers with PyAV, and reading one stream of them in presentation order."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import av

from pipeline.decode.interface import BOUNDARY, Deadline
from pipeline.errors import MediaError
from pipeline.stages import stage

__all__ = [
    "FAILURES",
    "Decoded",
    "StreamReader",
    "brief",
    "open_container",
    "origin",
    "pick_stream",
    "threads_for",
]

FAILURES = (av.error.FFmpegError, OSError, ValueError)
"""What PyAV raises for media that cannot be read; FFmpeg's own errors and, where it maps them or
checks arguments itself, Python's."""

NEAR = 5.0
"""Seconds of media that are decoded rather than jumped over; key frames are seldom closer."""

_STEPS_BACK = (0.0, 2.0, 10.0, 60.0)
"""Seconds before the target at which a seek is tried, in turn, until one lands early enough.
MPEG streams have no index and land late; the last resort is to read from the beginning."""


class Decoded(NamedTuple):
    """A decoded video frame or block of samples with its place in time.

    Attributes:
        frame: PyAV's frame.
        begin: Seconds from the container's start at which it is presented.
        end: Seconds at which it says to end; ``begin`` where nothing is said.
        damage: Why packets between the frame before and this one did not decode, if any.
    """

    frame: Any
    begin: float
    end: float
    damage: str | None = None


_new = tuple.__new__
"""Makes a `Decoded` at a fifth of the cost of calling the class, which small pictures feel."""


def open_container(path: str | os.PathLike[str], *, timeout: float | None = None) -> Any:
    """Opens a media file for reading.

    Raises:
        MediaError: ``missing`` without such a file, ``decode_error`` if it is no media,
            ``timeout``.
    """
    if not os.path.isfile(path):
        raise MediaError("missing", f"there is no file {os.fspath(path)}")
    try:
        with stage("open"):
            # Tags in odd encodings are no reason to refuse pictures and sound.
            return av.open(os.fspath(path), metadata_errors="replace", timeout=timeout)
    except av.error.ExitError:
        raise MediaError("timeout", f"opening took longer than {timeout:g} s") from None
    except FAILURES as error:
        raise MediaError("decode_error", f"the container does not open: {brief(error)}") from None


def origin(container: Any) -> float:
    """Zero of a container's time: the earliest presentation time of its streams, in seconds."""
    return (container.start_time or 0) / av.time_base


def pick_stream(container: Any, kind: Literal["video", "audio"]) -> Any:
    """The stream of a kind that players choose.

    Raises:
        MediaError: ``no_video`` or ``no_audio`` if there is none (a cover picture is none),
            ``decode_error`` if its coding is unknown.
    """
    related = container.streams.best("video") if kind == "audio" else None
    stream = container.streams.best(kind, related=related)
    if stream is not None and kind == "video":
        cover = stream.disposition & av.stream.Disposition.attached_pic
        stream = None if cover else stream
    if stream is None:
        if any(s.type == kind and s.codec_context is None for s in container.streams):
            raise MediaError("decode_error", f"there is no decoder for the {kind} coding")
        raise MediaError(f"no_{kind}", f"the file has no {kind} stream")
    return stream


class StreamReader:
    """One stream of a file, decoded in presentation order, with seeks that land early enough.

    A packet that does not decode is left out, and the next frame that does tells so; ``damage``
    says it of packets after the last frame. What decodes is used.

    Args:
        path: The file.
        kind: Which stream.
        deadline: Checked with every packet.
        threads: Codec threads; None picks by picture size, see `pipeline.decode.pyav`.

    Raises:
        MediaError: As `open_container` and `pick_stream`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        kind: Literal["video", "audio"],
        *,
        deadline: Deadline,
        threads: int | None = None,
    ) -> None:
        self.path = path
        self.kind = kind
        self.damage: str | None = None
        self._deadline = deadline
        self._threads = threads
        self._container: Any = None
        self._open()

    def __enter__(self) -> StreamReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._container.close()

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = open_container(self.path, timeout=self._deadline.left)
        try:
            self._stream = pick_stream(self._container, self.kind)
        except MediaError:
            self._container.close()
            raise
        for other in self._container.streams:
            if other is not self._stream:
                # Sound is a hundredth of most files; the rest need not be read for it.
                other.discard = av.stream.Discard.all
        context = self._stream.codec_context
        threads = self._threads
        if threads is None:
            threads = threads_for(context.width * context.height) if self.kind == "video" else 1
        context.thread_type = "AUTO" if threads > 1 else "SLICE"
        context.thread_count = threads
        self._origin = origin(self._container)
        self._tick = float(self._stream.time_base)
        rate = self._stream.average_rate if self.kind == "video" else None
        self._step = float(1 / rate) if rate else 0.0
        self._untouched = True

    def read_from(self, target: float) -> Iterator[Decoded]:
        """Reads on from a frame at or before ``target`` seconds, where the stream has one.

        Call again to jump; the iterator of the call before must not be used any more. Where no
        seek lands early enough, the stream is read from its beginning.

        Raises:
            MediaError: ``timeout``; also while iterating.
        """
        for back in _STEPS_BACK:
            if target - back <= NEAR:
                break
            frames = self._seek(target - back)
            first = next(frames, None)
            if first is None or first.begin > target + BOUNDARY:
                continue
            # A decoder that starts between key frames shows pictures with parts missing, and some
            # files need their first packet (x264 4:4:4 names its version there and only there).
            if self.kind == "audio" or (first.frame.key_frame and not first.frame.is_corrupt):
                return itertools.chain([first], frames)
        if not self._untouched:
            self._open()
        return self._decode()

    def _seek(self, seconds: float) -> Iterator[Decoded]:
        self._untouched = False
        ticks = int((seconds + self._origin) / self._tick)
        try:
            self._container.seek(ticks, stream=self._stream)
        except FAILURES as error:
            self.damage = brief(error)
            return iter(())
        return self._decode()

    def _decode(self) -> Iterator[Decoded]:
        self._untouched = False
        expected = 0.0
        tick, zero, step, audio = self._tick, self._origin, self._step, self.kind == "audio"
        for packet in self._packets():
            try:
                frames = packet.decode()
            except av.error.EOFError:
                continue
            except FAILURES as error:
                self.damage = brief(error)
                continue
            for frame in frames:
                ticks = frame.pts
                if ticks is None:
                    ticks = frame.dts
                begin = expected if ticks is None else ticks * tick - zero
                lasts = frame.samples / frame.sample_rate if audio else frame.duration * tick
                expected = begin + (lasts or step)
                damage, self.damage = self.damage, None
                yield _new(Decoded, (frame, begin, expected, damage))

    def _packets(self) -> Iterator[Any]:
        """Packets of the stream; one that cannot be read is the last."""
        packets = self._container.demux(self._stream)
        while True:
            self._deadline.check()
            try:
                packet = next(packets, None)
            except av.error.ExitError:
                raise self._deadline.error() from None
            except FAILURES as error:
                self.damage = brief(error)
                return
            if packet is None:
                return
            yield packet


def brief(error: Exception) -> str:
    """What went wrong in FFmpeg's words, without error numbers and paths."""
    return getattr(error, "strerror", None) or str(error)


def threads_for(pixels: int) -> int:
    """Codec threads for a picture size; measured on two cores.

    Handing rows to threads costs more than decoding small pictures (128x96: three times slower),
    and large ones are decoded nearly twice as fast. No pixel depends on it.
    """
    return 1 if pixels < 640 * 360 else min(4, os.cpu_count() or 1)
