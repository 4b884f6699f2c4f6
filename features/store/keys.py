"""What a row of features was computed from, and many such keys in little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["RowKey", "RowKeys"]


class RowKey(NamedTuple):
    """What a row of features was computed from.

    Attributes:
        media: SHA-256 of the video file, or a pseudo digest that holds a colon.
        start, end: Seconds in the file.
    """

    media: str
    start: float
    end: float


class RowKeys(Sequence[RowKey]):
    """Row keys as three columns: a corpus of them takes a fifth of the memory of tuples.

    Args:
        media: (N,) bytes of a fixed length.
        start, end: (N,) float64 seconds in the file.
    """

    __slots__ = ("end", "media", "start")

    def __init__(self, media: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
        self.media, self.start, self.end = media, start, end

    @classmethod
    def of(cls, media: Iterable[str], start: Iterable[float], end: Iterable[float]) -> RowKeys:
        """Packs N texts and 2 x N seconds.

        Raises:
            ValueError: If their numbers differ, or a text ends in a zero byte, which numpy drops.
        """
        texts = [text.encode("utf-8", "surrogatepass") for text in media]
        if any(text.endswith(b"\0") for text in texts):
            raise ValueError("a media digest ends in a zero byte")
        # Adding zero makes a negative zero positive: both are the same moment.
        seconds = [np.array(list(x), dtype=np.float64) + 0.0 for x in (start, end)]
        if not len(texts) == len(seconds[0]) == len(seconds[1]):
            raise ValueError("the columns of the keys differ in length")
        return cls(np.array(texts, dtype=f"S{max([1, *map(len, texts)])}"), *seconds)

    def __len__(self) -> int:
        return len(self.media)

    def __getitem__(self, n: Any) -> Any:
        if isinstance(n, slice):
            return RowKeys(self.media[n], self.start[n], self.end[n])
        media = self.media[n].decode("utf-8", "surrogatepass")
        return RowKey(media, float(self.start[n]), float(self.end[n]))

    def __iter__(self) -> Iterator[RowKey]:
        texts = (text.decode("utf-8", "surrogatepass") for text in self.media.tolist())
        columns = zip(texts, self.start.tolist(), self.end.tolist(), strict=True)
        return (RowKey(*key) for key in columns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RowKeys({list(self)})"

    @classmethod
    def join(cls, parts: Sequence[RowKeys]) -> RowKeys:
        """All keys of some others in one."""
        if not parts:
            return cls.of((), (), ())
        columns = ("media", "start", "end")
        return cls(*(np.concatenate([getattr(part, c) for part in parts]) for c in columns))

    def hashes(self) -> np.ndarray:
        """A number for every key, (N,) uint64; equal keys have equal numbers."""
        width = -(-self.media.dtype.itemsize // 8) * 8
        words = self.media.astype(f"S{width}").view(np.uint64).reshape(len(self), width // 8)
        mixed = np.zeros(len(self), dtype=np.uint64)
        for column in (*words.T, self.start.view(np.uint64), self.end.view(np.uint64)):
            # Texts differ in length from shard to shard: columns of padding change nothing.
            mixed = np.where(column == 0, mixed, _mix(mixed ^ column))
        return mixed


def _mix(x: np.ndarray) -> np.ndarray:
    """The finishing step of splitmix64 (Steele et al. 2014), with wrap-around."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
