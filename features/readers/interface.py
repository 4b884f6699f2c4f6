"""What is read, and how it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from features.backbones.interface import Backbone
from features.decoding import Part
from features.requests import FeatureRequest

__all__ = ["Delivery", "Interval", "Job", "Readers"]


class Interval(NamedTuple):
    """A clip to read.

    Attributes:
        path: The video.
        start, end: Seconds in the file.
    """

    path: str
    start: float
    end: float


@dataclass(frozen=True)
class Job:
    """What to read, and for whom.

    Attributes:
        clips: In the order in which they are wanted.
        requests: The features, N.
        backbones: N backbones that the requests build.
        decoder: Name of the video decoder.
        timeout: Seconds that decoding one clip's pictures may take, and its sound.
        threads: Codec threads, None for the decoder's own choice.
    """

    clips: Sequence[Interval]
    requests: Sequence[FeatureRequest]
    backbones: Sequence[Backbone]
    decoder: str = "pyav"
    timeout: float | None = None
    threads: int | None = None


class Delivery(NamedTuple):
    """A part of a clip.

    Attributes:
        part: A block, or why a feature gets none.
        release: To be called when the block's arrays are no longer looked at.
    """

    part: Part
    release: Callable[[], None]


class Readers(Protocol):
    """Reads the clips of a job, ahead of who consumes them; a context manager."""

    def __enter__(self) -> Readers: ...

    def __exit__(self, *error: object) -> None: ...

    def __iter__(self) -> Iterator[Iterator[Delivery]]:
        """For every clip in order its parts, each to be consumed to the end."""
        ...

    @property
    def seconds(self) -> Mapping[str, float]:
        """Seconds of reading so far, by stage."""
        ...
