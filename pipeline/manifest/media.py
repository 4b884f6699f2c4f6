"""How long files are and whether they have sound, for importers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import MediaError
from pipeline.progress import Advance

__all__ = ["Measured", "Show", "measure", "measure_all"]

Show = Callable[[int], AbstractContextManager[Advance | None]]
"""Makes a progress display for so many files, which only the importer can count."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a file says of itself.

    Attributes:
        seconds: Its length to the millisecond, or None if it is not known.
        sound: Whether it has an audio stream.
        reason: Why the length is not known.
    """

    seconds: float | None
    sound: bool = False
    reason: str = ""


def measure(path: Path) -> Measured:
    """Reads a file's description; a file that cannot be read has no length and no sound."""
    # PyAV takes a second to import and most uses of manifests never touch media.
    from pipeline.decode import probe

    try:
        info = probe(path)
    except MediaError as error:
        return Measured(None, reason=str(error))
    sound = info.audio_codec is not None
    if info.duration is None or round(info.duration, 3) <= 0:
        return Measured(None, sound, "the container states no length")
    return Measured(round(info.duration, 3), sound)


def measure_all(paths: Iterable[Path], show: Show | None = None) -> dict[Path, Measured]:
    """Measures files one after the other; ``show`` hears ``failed`` where no length is known."""
    paths = tuple(paths)
    found = {}
    with nullcontext() if show is None else show(len(paths)) as progress:
        for path in paths:
            found[path] = measure(path)
            if progress is not None:
                progress.advance("failed" if found[path].seconds is None else "ok")
    return found
