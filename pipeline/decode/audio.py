"""Reading sound: an interval of a file as mono samples at any rate, placed by time stamps."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from pipeline.decode.container import FAILURES, Decoded, StreamReader, brief
from pipeline.decode.interface import Deadline, require_head, require_tail
from pipeline.errors import MediaError
from pipeline.grid import TAIL_HOLD

__all__ = ["describe_audio", "read_audio", "read_audio_blocks"]

_VERSION = 2
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

_SETTLED = 1.0
"""Seconds after which sound is final. Where time stamps jump back, what comes later replaces what
is younger than this and is left out before; so no block has to wait for the end of the file."""

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
    (samples,) = read_audio_blocks(path, start, end, rate, block=end - start, timeout=timeout)
    return samples


def read_audio_blocks(
    path: str | os.PathLike[str],
    start: float,
    end: float,
    rate: int,
    *,
    block: float = 60.0,
    timeout: float | None = None,
) -> Iterator[np.ndarray]:
    """Reads an interval as `read_audio` does, but in blocks, in memory of two of them.

    Laid end to end the blocks are what `read_audio` returns, to the bit. A failure may come after
    blocks that were fine: sound that ends too soon is found out at its end.

    Args:
        path, start, end, rate: See `read_audio`.
        block: Seconds a block.
        timeout: Seconds of reading after which to give up; the time that the consumer takes
            between two blocks does not count.

    Yields:
        At least one block of samples in [-1, 1], float32; all are (round(block * rate),) but the
        last, which is shorter or as long.

    Raises:
        MediaError: ``missing``, ``no_audio``, ``too_short``, ``decode_error``, ``timeout``.
        ValueError: If the interval is empty.
    """
    if not end > start or rate <= 0 or not block > 0:
        raise ValueError(
            f"an interval needs start < end, a positive rate and positive blocks: {start}, {end}"
        )
    track = _Track(start, end, rate, max(1, round(block * rate)))
    deadline = Deadline(timeout)
    with StreamReader(path, "audio", deadline=deadline) as reader:
        decoded = reader.read_from(max(0.0, start - _PREROLL))
        try:
            while track.wants_more and (batch := list(itertools.islice(decoded, _BATCH))):
                for piece in batch:
                    track.add(piece)
                while (samples := track.take()) is not None:
                    deadline.pause()
                    yield samples
                    deadline.resume()
            track.finish(reader.damage)
        except FAILURES as error:
            raise MediaError(
                "decode_error", f"the sound does not convert: {brief(error)}"
            ) from None
    yield from track.rest()


class _Track:
    """The interval's samples, given out in blocks as they fill, and what is missing from them.

    Args:
        start, end, rate: See `read_audio`.
        size: Samples a block.
    """

    def __init__(self, start: float, end: float, rate: int, size: int) -> None:
        self._start, self._end, self._rate = start, end, rate
        self._size = size
        self._length = round((end - start) * rate)
        self._given = 0
        self._settled = 0
        self._blocks: dict[int, np.ndarray] = {}
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
            run.position += len(part)
            low = max(self._settled, begin + run.hidden)
            high = min(self._length, begin + len(part))
            run.hidden = max(0, run.hidden - len(part))
            while low < high:
                number, at = divmod(low, self._size)
                block = self._block(number)
                count = min(high - low, len(block) - at)
                block[at : at + count] = part[low - begin : low - begin + count]
                low += count
            self._settled = max(self._settled, high - round(_SETTLED * self._rate))

    def _block(self, number: int) -> np.ndarray:
        """A block, silent at first; silent ones take no memory before they are given out."""
        if number not in self._blocks:
            count = min(self._size, self._length - number * self._size)
            self._blocks[number] = np.zeros(count, dtype=np.float32)
        return self._blocks[number]

    def take(self) -> np.ndarray | None:
        """The next block, if it is final and not the last."""
        until = (self._given + 1) * self._size
        return None if until > self._settled or until >= self._length else self._give()

    def rest(self) -> Iterator[np.ndarray]:
        """All blocks that are left, at least one; after `finish`."""
        yield self._give()
        while self._given * self._size < self._length:
            yield self._give()

    def _give(self) -> np.ndarray:
        block = self._block(self._given)
        del self._blocks[self._given]
        self._given += 1
        return np.clip(block, -1.0, 1.0, out=block)


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
