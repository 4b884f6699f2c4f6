"""One decode pass for one clip, whatever number of features is asked for, block by block."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from features.backbones.interface import Backbone, Clip
from pipeline.decode import Decoder, read_audio_blocks
from pipeline.errors import MediaError, UserError
from pipeline.stages import stage

__all__ = [
    "CLIP_TIMEOUT",
    "Block",
    "Failed",
    "Part",
    "Tools",
    "passes",
    "read_clip",
    "read_pass",
    "time_limit",
    "too_short",
]

CLIP_TIMEOUT = 300.0
"""Seconds that decoding the pictures of a clip of up to a minute may take by default, and its
sound."""

SOUND_CHUNK = 60.0
"""Seconds of sound that are read at a time."""

_STOPPED = "the decoder stopped before the clip's end"


class Block(NamedTuple):
    """What one backbone needs of some segments of a clip.

    Attributes:
        feature: The backbone's name.
        number: Index into ``grid.blocks(start, end)``. Number 0 begins the feature anew: what was
            made of earlier blocks is void.
        clip: The input.
    """

    feature: str
    number: int
    clip: Clip


class Failed(NamedTuple):
    """Why a backbone gets nothing of a clip; voids the blocks that it got before.

    Attributes:
        feature: The backbone's name.
        error: Status and reason.
    """

    feature: str
    error: MediaError


Part = Block | Failed


def _new_array(feature: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.empty(shape, dtype=dtype)


def _nobody_watches(seconds: float | None) -> None:
    pass


@dataclass(frozen=True)
class Tools:
    """What a pass decodes with.

    Args:
        decoder: For the pictures.
        timeout: Seconds that decoding the pictures may take, and the sound, see `time_limit`; None
            for no limit.
        room: Makes the array for a block, given the feature's name and the array's shape and dtype.
        expect: Told before every step how many seconds the step may take, and after it None.
    """

    decoder: Decoder
    timeout: float | None = None
    room: Callable[[str, tuple[int, ...], Any], np.ndarray] = _new_array
    expect: Callable[[float | None], None] = _nobody_watches


def read_clip(
    path: str, start: float, end: float, backbones: Sequence[Backbone], tools: Tools
) -> Iterator[Part]:
    """Decodes what some backbones need of a clip.

    Pictures are decoded once, at the union of all frame times; every frame is shrunk by each
    backbone's ``prepare`` as soon as it is there, and blocks are given out as they fill, so that
    memory grows neither with the size of the picture nor with the length of the clip. Sound is
    decoded once for each sample rate and extent.

    What one feature gets never depends on which others are asked for: when the common pass fails
    half-way, features that have all their frames keep them, and the others are tried alone.

    Args:
        path: The video file.
        start, end: Seconds in the file.
        backbones: Whose input to prepare.
        tools: What to decode with.

    Yields:
        For every feature its blocks in order, or `Failed` at the latest after the last of them.

    Raises:
        UserError: If the decoder raises one.
    """
    for backbone in backbones:
        if (error := too_short(backbone, start, end)) is not None:
            yield Failed(backbone.name, error)
    for some in passes(backbones, start, end):
        yield from read_pass(path, start, end, some, tools)


def too_short(backbone: Backbone, start: float, end: float) -> MediaError | None:
    """The error of a clip that holds no segment."""
    if backbone.grid.count(start, end):
        return None
    return MediaError(
        "too_short",
        f"the clip of {end - start:g} s holds no segment of {backbone.grid.span:g} s",
    )


def passes(backbones: Sequence[Backbone], start: float, end: float) -> list[list[Backbone]]:
    """Groups backbones by what they decode; those for which the clip is too short are left out."""
    groups: dict[Any, list[Backbone]] = {}
    for backbone in backbones:
        if not backbone.grid.count(start, end):
            continue
        # One track at one rate, cut at two places, is not the same to the bit: codecs carry state.
        sound = (backbone.audio_rate, *backbone.grid.extent(start, end))
        groups.setdefault(sound if backbone.modality == "audio" else None, []).append(backbone)
    return list(groups.values())


def read_pass(
    path: str, start: float, end: float, backbones: Sequence[Backbone], tools: Tools
) -> Iterator[Part]:
    """Decodes what one of the groups that `passes` makes needs; see `read_clip`."""
    read = _read_sound if backbones[0].modality == "audio" else _read_pictures
    tools = replace(tools, timeout=time_limit(tools.timeout, start, end))
    return read(path, start, end, backbones, tools)


def time_limit(timeout: float | None, start: float, end: float) -> float | None:
    """Seconds that decoding a clip's pictures, or its sound, may take.

    Args:
        timeout: The limit of a clip of up to a minute; that of longer ones grows in proportion.
        start, end: Seconds in the file.
    """
    return None if timeout is None else timeout * max(1.0, (end - start) / 60)


class _Cut(NamedTuple):
    """A block of sound: its place among the samples of the pass, and its segments' starts."""

    feature: str
    number: int
    first: int
    last: int
    starts: np.ndarray


def _read_sound(
    path: str, start: float, end: float, backbones: Sequence[Backbone], tools: Tools
) -> Iterator[Part]:
    rate = backbones[0].audio_rate or 0
    begin, until = backbones[0].grid.extent(start, end)
    cuts = sorted(
        (cut for backbone in backbones for cut in _cuts(backbone, start, end)),
        key=lambda cut: cut.last,
    )
    tape = _Tape()
    stream = read_audio_blocks(path, begin, until, rate, block=SOUND_CHUNK, timeout=tools.timeout)
    for item in _steps(stream, "sound", tools):
        if not isinstance(item, MediaError) and not np.isfinite(item).all():
            item = MediaError("decode_error", "the sound holds values that are no finite numbers")
        if isinstance(item, MediaError):
            yield from (Failed(backbone.name, item) for backbone in backbones)
            return
        tape.add(item)
        while cuts and cuts[0].last <= tape.end:
            cut = cuts.pop(0)
            sound = tape.cut(cut.first, cut.last)
            clip = Clip(len(cut.starts), waveform=sound, starts=cut.starts)
            yield Block(cut.feature, cut.number, clip)
        tape.forget(min((cut.first for cut in cuts), default=tape.end))
    stopped = MediaError("decode_error", _STOPPED)
    yield from (Failed(feature, stopped) for feature in sorted({cut.feature for cut in cuts}))


def _cuts(backbone: Backbone, start: float, end: float) -> Iterator[_Cut]:
    grid, rate = backbone.grid, backbone.audio_rate or 0
    starts = grid.starts(start, end)
    begin, _ = grid.extent(start, end)
    for number, block in enumerate(grid.blocks(start, end)):
        low, high = (round((at - begin) * rate) for at in grid.extent(start, end, block))
        # Whole samples, so that a segment starts at the same one whichever block it is in.
        samples = np.array([round((at - begin) * rate) - low for at in starts[block]])
        yield _Cut(backbone.name, number, low, high, samples / rate)


class _Tape:
    """Samples of a pass, as far as they are still needed.

    Attributes:
        end: Samples added so far.
    """

    def __init__(self) -> None:
        self.end = 0
        self._pieces: list[tuple[int, np.ndarray]] = []

    def add(self, samples: np.ndarray) -> None:
        self._pieces.append((self.end, samples))
        self.end += len(samples)

    def cut(self, first: int, last: int) -> np.ndarray:
        """Samples ``first`` to ``last``, a view where they lie in one piece."""
        parts = [
            samples[max(0, first - at) : last - at]
            for at, samples in self._pieces
            if at < last and first < at + len(samples)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def forget(self, first: int) -> None:
        """Drops the pieces that end before a sample."""
        self._pieces = [(at, s) for at, s in self._pieces if at + len(s) > first]


def _read_pictures(
    path: str, start: float, end: float, backbones: Sequence[Backbone], tools: Tools
) -> Iterator[Part]:
    fills = [_Filling(backbone, start, end, tools.room) for backbone in backbones]
    union = np.unique(np.concatenate([fill.moments for fill in fills]))
    for fill in fills:
        fill.place(union)
    error = MediaError("decode_error", _STOPPED)
    stream = tools.decoder.frames(path, union, timeout=tools.timeout)
    for item in _steps(stream, "decode", tools):
        if isinstance(item, MediaError):
            error = item
            break
        span, frame = item
        shared: dict[Any, np.ndarray] = {}
        for fill in fills:
            places = fill.take(span.stop)
            if len(places):
                # A frame that stays on screen over several moments is shrunk once.
                yield from fill.put(places, _prepare(fill.backbone, frame, shared, tools))
    late = [fill.backbone for fill in fills if not fill.complete]
    if len(backbones) == 1:
        yield from (Failed(backbone.name, error) for backbone in late)
    else:
        for backbone in late:
            yield from _read_pictures(path, start, end, [backbone], tools)


def _prepare(
    backbone: Backbone, frame: np.ndarray, shared: dict[Any, np.ndarray], tools: Tools
) -> np.ndarray:
    """Shrinks a frame, once for all backbones that want it alike."""
    key = getattr(backbone, "preparation", None)
    if key is not None and key in shared:
        return shared[key]
    tools.expect(tools.timeout)
    with stage("resize"):
        prepared = backbone.prepare(frame)
    tools.expect(None)
    if key is not None:
        shared[key] = prepared
    return prepared


class _Filling:
    """One backbone's blocks of frames while they fill.

    Args:
        backbone: The backbone.
        start, end: Seconds in the file.
        room: See `Tools`.

    Attributes:
        moments: The moments at which it wants frames, (T * F,) seconds, ascending. Segments may
            overlap, so this is not the order of the segments.
    """

    def __init__(
        self,
        backbone: Backbone,
        start: float,
        end: float,
        room: Callable[[str, tuple[int, ...], Any], np.ndarray],
    ) -> None:
        self.backbone = backbone
        grid = backbone.grid
        times = grid.frame_times(start, end).ravel()
        self._blocks = grid.blocks(start, end)
        bounds = np.array([(b.start, b.stop) for b in self._blocks]) * grid.frames
        self._first, self._size = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
        self._order = np.argsort(times, kind="stable")
        self._block = np.searchsorted(bounds[:, 1], self._order, side="right")
        self.moments = times[self._order]
        self._room = room
        self._index = np.zeros(0, dtype=np.int64)
        self._taken = 0
        self._open: dict[int, np.ndarray] = {}
        self._lack = self._size.copy()

    @property
    def complete(self) -> bool:
        """Whether every block was given out."""
        return not self._lack.any()

    def place(self, union: np.ndarray) -> None:
        """Finds its moments among those that are decoded, (n,) seconds ascending."""
        self._index = np.searchsorted(union, self.moments)

    def take(self, stop: int) -> range:
        """Its moments not taken so far among the first ``stop`` that are decoded."""
        first = self._taken
        self._taken = int(np.searchsorted(self._index, stop))
        return range(first, self._taken)

    def put(self, places: range, prepared: np.ndarray) -> Iterator[Block]:
        """Files a frame under some of its moments; yields the blocks that are full by now."""
        for place in places:
            number = int(self._block[place])
            if number not in self._open:
                shape = (int(self._size[number]), *prepared.shape)
                self._open[number] = self._room(self.backbone.name, shape, prepared.dtype)
            frames = self._open[number]
            if frames.shape[1:] != prepared.shape or frames.dtype != prepared.dtype:
                raise ValueError(
                    f"{self.backbone.name} prepares frames of {prepared.shape} {prepared.dtype} "
                    f"after one of {frames.shape[1:]} {frames.dtype}; all must be alike"
                )
            frames[self._order[place] - self._first[number]] = prepared
            self._lack[number] -= 1
            if not self._lack[number]:
                block = self._blocks[number]
                clip = Clip(block.stop - block.start, frames=self._open.pop(number))
                yield Block(self.backbone.name, number, clip)


def _steps(stream: Iterator[Any], name: str, tools: Tools) -> Iterator[Any]:
    """Yields what a decoder yields; whatever it raises comes last, as a `MediaError`.

    Only the decoder's own code runs inside: a mistake in a backbone is no fault of the clip.
    """
    left = tools.timeout
    while True:
        began = time.monotonic()
        tools.expect(left)
        try:
            with stage(name):
                item = next(stream)
        except StopIteration:
            return
        except Exception as error:
            yield _as_media_error(error)
            return
        finally:
            tools.expect(None)
        if left is not None:
            left = max(0.0, left - (time.monotonic() - began))
        yield item


def _as_media_error(error: Exception) -> MediaError:
    """What a decoder raised, as a status; mistakes of the user stay what they are."""
    if isinstance(error, UserError):
        raise error
    if isinstance(error, MediaError):
        return error
    if isinstance(error, MemoryError):
        return MediaError("decode_error", "decoding needs more memory than there is")
    return MediaError("decode_error", f"{type(error).__name__}: {error}")
