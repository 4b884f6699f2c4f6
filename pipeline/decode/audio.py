"""Reading sound: an interval of a file as mono samples at any rate, placed by time stamps."""

from __future__ import annotations

import itertools
import math
import os
from typing import Any

import av
import numpy as np

from pipeline.decode.container import FAILURES, Decoded, StreamReader, brief
from pipeline.decode.interface import Deadline, require_head, require_tail
from pipeline.errors import MediaError
from pipeline.grid import TAIL_HOLD

__all__ = ["describe_audio", "read_audio"]

_VERSION = 1
"""Raised by hand when code below changes which samples come out."""

_JITTER = 0.02
"""Seconds by which a time stamp may be off the end of the samples before it without meaning a
gap; Matroska rounds time stamps to milliseconds, others to more."""

_MARGIN = 0.1
"""Seconds of sound around the interval that the resampler sees, so that it meets no edge."""

_NORMALISED = {"rematrix_maxval": "1.0"}
"""Makes the weights of a downmix sum to one for every sample format. Left alone, libswresample
does so for integers only: the sum of two like channels would clip, and depend on the codec."""

_BATCH = 32
"""Blocks that are decoded, then resampled, in one go. Doing both block by block takes a fifth
longer, because each step pushes the other out of the processor's caches."""

_GATHERED = 2**15
"""Samples that the resampler gathers before it gives them out, for the same reason."""

_PREROLL = 1.0
"""Seconds before the interval from which decoding starts: codecs overlap their blocks, and MP3
keeps bits in earlier ones."""


def describe_audio(rate: int) -> dict[str, Any]:
    """All of `read_audio` that changes a sample, as plain values for a feature's spec."""
    return {
        "decoder": "pyav",
        "rate": rate,
        "resampler": "libswresample, its default filter",
        "downmix": "libswresample, its default matrix, weights summing to one",
        "layout": "float32 mono, clipped to [-1, 1]",
        "time": "presentation time from the start of the container, gaps silent",
        "tail_hold": TAIL_HOLD,
        "version": _VERSION,
    }


def read_audio(
    path: str | os.PathLike[str],
    start: float,
    end: float,
    rate: int,
    *,
    timeout: float | None = None,
) -> np.ndarray:
    """Reads an interval of a file's sound as mono, resampled, aligned with the pictures.

    Sample j of the file's time is the sound at j / rate seconds from the container's start, to
    the accuracy of the file's time stamps, whichever interval asks for it. Gaps between time
    stamps are silent. Up to `TAIL_HOLD` seconds that are missing at either end of the interval
    are silent too.

    Args:
        path: The file.
        start: First second, counted from the container's start.
        end: Last second.
        rate: Samples a second.
        timeout: Seconds after which to give up; looked at between packets.

    Returns:
        Samples in [-1, 1], (round((end - start) * rate),) float32.

    Raises:
        MediaError: ``missing``, ``no_audio``, ``too_short``, ``decode_error``, ``timeout``.
        ValueError: If the interval is empty.
    """
    if not end > start or rate <= 0:
        raise ValueError(f"an interval needs start < end and a positive rate: {start}, {end}")
    track = _Track(start, end, rate)
    deadline = Deadline(timeout)
    with StreamReader(path, "audio", deadline=deadline) as reader:
        blocks = reader.read_from(max(0.0, start - _PREROLL))
        try:
            while track.wants_more and (batch := list(itertools.islice(blocks, _BATCH))):
                for block in batch:
                    track.add(block)
            track.finish(reader.damage)
        except FAILURES as error:
            raise MediaError(
                "decode_error", f"the sound does not convert: {brief(error)}"
            ) from None
    return np.clip(track.samples, -1.0, 1.0, out=track.samples)


class _Track:
    """The interval's samples, filled block by block, and what is missing from them."""

    def __init__(self, start: float, end: float, rate: int) -> None:
        self.samples = np.zeros(round((end - start) * rate), dtype=np.float32)
        self._start, self._end, self._rate = start, end, rate
        self._first = round(start * rate)
        self._run: _Run | None = None
        self._kind: tuple[str, str, int] | None = None
        self._due = 0
        self._reached: float | None = None
        self._lost = 0.0

    @property
    def wants_more(self) -> bool:
        """Whether the interval's end is still to come."""
        return self._reached is None or self._reached < self._end + _MARGIN

    def add(self, block: Decoded) -> None:
        """Takes the next decoded block."""
        frame, begin, end = block.frame, block.begin, block.end
        if block.damage is not None:
            self._lose(begin, block.damage)
        if self._reached is None:
            require_head("sound", begin, self._start)
            self._reached = end
        elif end > self._reached:
            self._reached = end
        index = self._place(frame, begin)
        if end <= self._start - _MARGIN or begin >= self._end + _MARGIN:
            return
        if self._run is None:
            self._run = _Run(index, frame.sample_rate, self._rate)
            if self._run.lead:
                self._write(self._run.feed(_silence(frame, self._run.lead)))
        frame.pts = None
        if parts := self._run.feed(frame):
            self._write(parts)

    def _place(self, frame: Any, begin: float) -> int:
        """Index of a block's first sample in the file's time, at the block's own rate."""
        rate = frame.sample_rate
        kind = (frame.format.name, frame.layout.name, rate)
        index = round(begin * rate)
        if kind == self._kind and abs(index - self._due) <= _JITTER * rate:
            # Counted, not read from the time stamp: rounded stamps would tear the sound apart.
            index = self._due
        else:
            self._flush()
        self._kind = kind
        self._due = index + frame.samples
        return index

    def finish(self, damage: str | None) -> None:
        """Checks that the end was reached; ``damage`` says why what follows does not decode."""
        if damage is not None:
            self._lose(self._end, damage)
        if self._reached is None:
            why = "holds no sound" if damage is None else f"does not decode: {damage}"
            raise MediaError("decode_error", f"the audio stream {why}")
        require_tail("sound", self._reached, self._end)
        self._flush()

    def _lose(self, until: float, why: str) -> None:
        """Counts what did not decode inside the interval, and refuses too much of it."""
        since = self._start if self._reached is None else max(self._reached, self._start)
        self._lost += max(0.0, min(until, self._end) - since)
        if self._lost > TAIL_HOLD:
            raise MediaError(
                "decode_error", f"{self._lost:.2f} s of the sound do not decode: {why}"
            )

    def _flush(self) -> None:
        if self._run is not None:
            self._write(self._run.feed(None))
            self._run = None

    def _write(self, parts: list[np.ndarray]) -> None:
        run = self._run
        for part in parts:
            begin = run.position - self._first
            low = max(0, begin + run.hidden)
            high = min(len(self.samples), begin + len(part))
            if low < high:
                self.samples[low:high] = part[low - begin : high - begin]
            run.position += len(part)
            run.hidden = max(0, run.hidden - len(part))


class _Run:
    """Blocks of one format without a gap, on their way through one resampler.

    Attributes:
        lead: Samples of silence to feed first. The clocks of source and target tick together once
            in so many samples; starting on such a tick makes every output sample fall on its place
            in the file's time exactly, wherever decoding began.
        hidden: Output samples still to come that belong to that silence.
        position: Index in the file's time of the next output sample.
    """

    def __init__(self, first: int, source: int, rate: int) -> None:
        self.lead = first % (source // math.gcd(source, rate))
        self.hidden = math.ceil(self.lead * rate / source)
        self.position = (first - self.lead) * rate // source
        self._resampler = av.AudioResampler(
            format="flt", layout="mono", rate=rate, frame_size=_GATHERED, options=_NORMALISED
        )

    def feed(self, frame: Any | None) -> list[np.ndarray]:
        """Resamples a frame, or what is left where there is none, to arrays (n,) float32."""
        return [out.to_ndarray()[0] for out in self._resampler.resample(frame)]


def _silence(frame: Any, samples: int) -> Any:
    """A frame of silence in the format of another."""
    channels = len(frame.layout.channels)
    shape = (channels, samples) if frame.format.is_planar else (1, channels * samples)
    like = frame.to_ndarray()
    middle = 128 if like.dtype == np.uint8 else 0
    silence = av.AudioFrame.from_ndarray(
        np.full(shape, middle, like.dtype), format=frame.format.name, layout=frame.layout.name
    )
    silence.sample_rate = frame.sample_rate
    return silence
