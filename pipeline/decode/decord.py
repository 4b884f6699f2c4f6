"""The second video decoder: decord, in a child process that may crash or hang."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from pipeline.decode.container import (
    FAILURES,
    brief,
    open_container,
    origin,
    pick_stream,
    threads_for,
)
from pipeline.decode.interface import (
    BOUNDARY,
    FRAME_RULE,
    Deadline,
    check_times,
    require_head,
    require_tail,
    upright,
)
from pipeline.decode.probe import probe
from pipeline.errors import MediaError, UserError
from pipeline.stages import stage

__all__ = ["DecordDecoder"]

_VERSION = 1
"""Raised by hand when code below changes which frame or pixel comes out."""

_UPRIGHT = {"mov": True, "matroska": False}
"""Containers that decord reads exactly to the frame, and whether it turns their pictures upright.
In MPEG streams, which have no index, it gives other frames than asked for, without an error."""

WORKER = Path(__file__).with_name("decord_worker.py")
"""The program that runs in child processes."""

_CHUNK_BYTES = 16 * 2**20


class DecordDecoder:
    """Decodes with decord; a frame is found by its time stamp, then asked for by its number.

    Time stamps are read from the packets, because decord rounds them to single precision and
    counts them from the first picture instead of the container's start. What it would misplace
    without a word (MPEG streams, files trimmed by an edit list, pictures replaced by their
    neighbours) is a ``decode_error`` here.

    Children live on from clip to clip; several threads may share one decoder.

    Args:
        threads: Codec threads, which change no pixel; None picks by picture size.

    Raises:
        UserError: If decord is not installed.
    """

    name: ClassVar[str] = "decord"

    def __init__(self, *, threads: int | None = None) -> None:
        if importlib.util.find_spec("decord") is None:
            raise UserError(
                "decord is not installed (it exists for Linux on x86-64 only); use --decoder pyav."
            )
        self.threads = threads
        self._idle: list[_Child] = []

    def describe(self) -> dict[str, Any]:
        """See `pipeline.decode.interface.Decoder`."""
        return FRAME_RULE | {"decoder": self.name, "chroma": "decord 0.6", "version": _VERSION}

    def frames(
        self, path: str | os.PathLike[str], times: np.ndarray, *, timeout: float | None = None
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """See `pipeline.decode.interface.Decoder`."""
        times = check_times(times)
        if len(times) == 0:
            return
        deadline = Deadline(timeout)
        with stage("open"):
            video = _inspect(path, deadline)
        shown = np.searchsorted(video.begins, times + BOUNDARY, side="right") - 1
        indices, starts = np.unique(shown.clip(0), return_index=True)
        stops = np.append(starts[1:], len(times))
        child = self._take()
        try:
            threads = self.threads or threads_for(video.size[0] * video.size[1])
            with stage("open"):
                child.send("open", os.fspath(path), threads)
                (begins,) = child.receive(deadline)
            _check_begins(begins, video.begins)
            require_head("video", video.begins[0], times[0])
            require_tail("video", video.end, times[-1])
            child.send("read", indices, video.seekable, _CHUNK_BYTES)
            done = 0
            while answer := child.receive(deadline):
                for picture in answer[0]:
                    if tuple(sorted(picture.shape[:2])) != video.size:
                        raise MediaError("decode_error", "decord chose another video stream")
                    deadline.pause()
                    yield slice(int(starts[done]), int(stops[done])), upright(picture, video.turn)
                    deadline.resume()
                    done += 1
            self._idle.append(child)
            child = None
        finally:
            # After an error, or when the consumer stops early, nobody knows what it is doing.
            if child is not None:
                child.kill()

    def _take(self) -> _Child:
        """A child that waits for work, or a new one."""
        while self._idle:
            child = self._idle.pop()
            if child.alive():
                return child
        return _Child()


class _Video(NamedTuple):
    """What decord does not tell, or not exactly.

    Attributes:
        begins: Presentation times in seconds from the container's start, (n,) ascending.
        end: Seconds at which the last picture ends.
        seekable: Whether decord's frame numbers stay true when it seeks.
        size: Shorter and longer side in pixels.
        turn: Clockwise degrees by which decord's pictures are still to be turned.
    """

    begins: np.ndarray
    end: float
    seekable: bool
    size: tuple[int, int]
    turn: int


def _inspect(path: str | os.PathLike[str], deadline: Deadline) -> _Video:
    """Lists a video's packets, without decoding them.

    Raises:
        MediaError: If the file cannot be read, or not by decord.
    """
    with open_container(path, timeout=deadline.left) as container:
        stream = pick_stream(container, "video")
        family = container.format.name.split(",")[0]
        if family not in _UPRIGHT:
            raise _misplaced(f"{family} files")
        ticks: list[int] = []
        keys: list[int] = []
        last = 0
        try:
            for packet in container.demux(stream):
                deadline.check()
                if packet.size == 0:
                    continue
                if packet.is_discard or packet.pts is None:
                    raise _misplaced("trimmed files")
                if packet.is_keyframe:
                    keys.append(len(ticks))
                ticks.append(packet.pts)
                last = max(last, packet.pts + (packet.duration or 0))
        except FAILURES as error:
            raise MediaError("decode_error", f"a packet cannot be read: {brief(error)}") from None
        if not ticks:
            raise MediaError("decode_error", "the video stream holds no picture")
        tick, zero = float(stream.time_base), origin(container)
        context = stream.codec_context
        sides = sorted((context.height, context.width))
        # x264 names its version in the first packet of a stream and nowhere else; without it
        # decoders misread the 4:4:4 pictures of older versions, and decord does not tell.
        needs_first = context.name == "h264" and (context.pix_fmt or "").startswith("yuv444")
    begins = np.sort(ticks)
    return _Video(
        begins=begins * tick - zero,
        end=last * tick - zero,
        # decord numbers key frames as they are stored and all others as they are shown. The two
        # differ where pictures that are shown before a key frame are stored after it (open GOP).
        seekable=not needs_first and all(begins[k] == ticks[k] for k in keys),
        size=(sides[0], sides[1]),
        turn=0 if _UPRIGHT[family] else probe(path).rotation,
    )


def _check_begins(theirs: np.ndarray, ours: np.ndarray) -> None:
    """Checks that decord and PyAV list the same pictures; decord counts from the first one.

    Raises:
        MediaError: If a frame number would mean another picture to decord.
    """
    if len(theirs) != len(ours) or np.abs(theirs - (ours - ours[0])).max() > 1e-3 + 1e-6 * ours[-1]:
        raise _misplaced("a file with these time stamps")


def _misplaced(what: str) -> MediaError:
    return MediaError(
        "decode_error", f"decord does not place the pictures of {what} in time; use --decoder pyav"
    )


class _Child:
    """A process that runs decord, and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # -P keeps the worker's own folder, with its decord.py, off the module path.
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(WORKER), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._connection = Connection(ours.detach())
        self.kill = weakref.finalize(self, _end, self._process, self._connection)

    def alive(self) -> bool:
        """Whether the process has not ended, of itself or by the system's hand."""
        return self._process.poll() is None

    def send(self, *request: Any) -> None:
        """Asks; see `pipeline.decode.decord_worker`."""
        try:
            self._connection.send(request)
        except OSError:
            raise self._ended() from None

    def receive(self, deadline: Deadline) -> tuple[Any, ...]:
        """The answer without its first word; empty when there is no more.

        Raises:
            MediaError: ``decode_error`` for errors and crashes, ``timeout``.
        """
        try:
            if not self._connection.poll(deadline.left):
                raise deadline.error()
            kind, *values = self._connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if kind == "error":
            raise MediaError("decode_error", f"decord: {_first_words(values[0])}")
        return tuple(values)

    def _ended(self) -> MediaError:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return MediaError("decode_error", f"decord's process ended with {how}")


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    connection.close()
    process.kill()
    process.wait()


def _first_words(message: str) -> str:
    """The first line of decord's message without times, source files and the stack trace."""
    lines = [re.sub(r"\[[\d:]+\] \S+:\d+: ", "", line).strip() for line in message.splitlines()]
    return next((line for line in lines if line), "unknown error")
