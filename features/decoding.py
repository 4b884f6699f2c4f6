"""One decode pass for one clip, whatever number of features is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from features.backbones.interface import Backbone, Clip
from pipeline.decode import Decoder, read_audio
from pipeline.errors import MediaError, UserError

__all__ = ["read_clip"]


def read_clip(
    path: str,
    start: float,
    end: float,
    backbones: Sequence[Backbone],
    *,
    decoder: Decoder,
    timeout: float | None = None,
) -> dict[str, Clip | MediaError]:
    """Decodes what some backbones need of a clip.

    Pictures are decoded once, at the union of all frame times; every frame is shrunk by each
    backbone's ``prepare`` as soon as it is there, so that memory does not grow with the size of
    the picture. Sound is decoded once for each sample rate and length.

    What one feature gets never depends on which others are asked for: when the common pass fails
    half-way, features that have all their frames keep them, and the others are tried alone.

    Args:
        path: The video file.
        start, end: Seconds in the file.
        backbones: Whose input to prepare.
        decoder: For the pictures.
        timeout: Seconds that decoding the pictures may take, and the sound.

    Returns:
        By feature name, the clip or why there is none.
    """
    results: dict[str, Clip | MediaError] = {}
    counts = {backbone.name: backbone.grid.count(start, end) for backbone in backbones}
    for backbone in backbones:
        if counts[backbone.name] == 0:
            results[backbone.name] = MediaError(
                "too_short",
                f"the clip of {end - start:g} s holds no segment of {backbone.grid.span:g} s",
            )
    todo = [backbone for backbone in backbones if counts[backbone.name]]
    results |= _read_sound(path, start, end, [b for b in todo if b.modality == "audio"], timeout)
    results |= _read_pictures(
        path, start, end, [b for b in todo if b.modality == "visual"], decoder, timeout
    )
    return results


def _read_sound(
    path: str, start: float, end: float, backbones: Sequence[Backbone], timeout: float | None
) -> dict[str, Clip | MediaError]:
    decoded: dict[tuple[int, float, float], np.ndarray | MediaError] = {}
    results: dict[str, Clip | MediaError] = {}
    for backbone in backbones:
        starts = backbone.grid.starts(start, end)
        first, last = backbone.grid.extent(start, end)
        want = (backbone.audio_rate or 0, first, last)
        if want not in decoded:
            decoded[want] = _decode_sound(path, *want, timeout)
        sound = decoded[want]
        if isinstance(sound, MediaError):
            results[backbone.name] = sound
        else:
            results[backbone.name] = Clip(len(starts), waveform=sound, starts=starts - first)
    return results


def _decode_sound(
    path: str, rate: int, start: float, end: float, timeout: float | None
) -> np.ndarray | MediaError:
    try:
        waveform = read_audio(path, start, end, rate, timeout=timeout)
    except Exception as error:
        return _as_media_error(error)
    if not np.isfinite(waveform).all():
        return MediaError("decode_error", "the sound holds values that are no finite numbers")
    return waveform


def _read_pictures(
    path: str,
    start: float,
    end: float,
    backbones: Sequence[Backbone],
    decoder: Decoder,
    timeout: float | None,
) -> dict[str, Clip | MediaError]:
    if not backbones:
        return {}
    times = {b.name: b.grid.frame_times(start, end).ravel() for b in backbones}
    frames, error = _decode_pictures(path, times, backbones, decoder, timeout)
    results: dict[str, Clip | MediaError] = {}
    for backbone in backbones:
        prepared = frames[backbone.name]
        if error is None or all(frame is not None for frame in prepared):
            results[backbone.name] = Clip(backbone.grid.count(start, end), frames=prepared)
        elif len(backbones) > 1:
            results |= _read_pictures(path, start, end, [backbone], decoder, timeout)
        else:
            results[backbone.name] = error
    return results


def _decode_pictures(
    path: str,
    times: Mapping[str, np.ndarray],
    backbones: Sequence[Backbone],
    decoder: Decoder,
    timeout: float | None,
) -> tuple[dict[str, list[Any]], MediaError | None]:
    """Decodes the union of all times; returns what was prepared until an error, and the error."""
    union = np.unique(np.concatenate(list(times.values())))
    wanted = {name: np.searchsorted(union, moments) for name, moments in times.items()}
    prepared: dict[str, list[Any]] = {name: [None] * len(m) for name, m in times.items()}
    stream = _guarded(decoder.frames(path, union, timeout=timeout))
    for item in stream:
        if isinstance(item, MediaError):
            return prepared, item
        span, frame = item
        for backbone in backbones:
            low, high = np.searchsorted(wanted[backbone.name], [span.start, span.stop])
            if high > low:
                # A frame that stays on screen over several moments is shrunk once.
                prepared[backbone.name][low:high] = [backbone.prepare(frame)] * (high - low)
    absent = next((name for name, got in prepared.items() if any(f is None for f in got)), None)
    if absent is not None:
        return prepared, MediaError("decode_error", "the decoder stopped before the clip's end")
    return prepared, None


def _guarded(stream: Iterator[Any]) -> Iterator[Any]:
    """Yields what the decoder yields; whatever it raises comes last, as a `MediaError`.

    Only the decoder's own code runs inside: a mistake in a backbone is no fault of the clip.
    """
    while True:
        try:
            item = next(stream)
        except StopIteration:
            return
        except Exception as error:
            yield _as_media_error(error)
            return
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
