"""Units of work as plain values: a clip, and a shard of clips with the features they lack."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from features.requests import FeatureRequest
from features.store.layout import RowKey

__all__ = ["ClipRow", "ShardTask", "ShardTasks"]


class ClipRow(NamedTuple):
    """One clip to extract, as plain values.

    Attributes:
        media: Digest of its video when the plan was made, or the pseudo digest of a missing one.
        start, end: Seconds in the file.
        path: The video, or None where there is none to read.
        stamp: The file's size and modification time in nanoseconds when the plan was made.
        gone: The pseudo digest to file the clip under should the video be missing.
        problem: Why there is no video.
    """

    media: str
    start: float
    end: float
    path: str | None
    stamp: tuple[int, int] | None
    gone: str
    problem: str = ""

    @property
    def key(self) -> RowKey:
        """What the clip's features are filed under."""
        return RowKey(self.media, self.start, self.end)


@dataclass(frozen=True)
class ShardTask:
    """One shard's worth of work: plain values only, so that it can travel as JSON or pickle.

    Attributes:
        store: The store's folder.
        features: What the rows lack.
        rows: The clips, in manifest order.
        decoder: Name of the video decoder.
        device: ``"cpu"`` or ``"cuda"``.
        timeout: Seconds that decoding one clip's pictures may take, and its sound.
        held: Names of the features that the store could compute for all rows from another feature
            when the plan was made; None where nobody has looked.
    """

    store: str
    features: tuple[FeatureRequest, ...]
    rows: tuple[ClipRow, ...]
    decoder: str = "pyav"
    device: str = "cpu"
    timeout: float | None = None
    held: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values."""
        return {
            "store": self.store,
            "features": [
                [f.name, [list(option) for option in f.options], f.weights, f.random_weights]
                for f in self.features
            ],
            "rows": [list(row) for row in self.rows],
            "decoder": self.decoder,
            "device": self.device,
            "timeout": self.timeout,
            "held": None if self.held is None else list(self.held),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShardTask:
        """Reads what `to_json` gave."""
        return cls(
            value["store"],
            tuple(
                FeatureRequest(name, tuple((key, x) for key, x in options), weights, seed)
                for name, options, weights, seed in value["features"]
            ),
            tuple(
                ClipRow(m, start, end, path, None if stamp is None else tuple(stamp), gone, problem)
                for m, start, end, path, stamp, gone, problem in value["rows"]
            ),
            value["decoder"],
            value["device"],
            value["timeout"],
            None if value["held"] is None else tuple(value["held"]),
        )

    def pack(self) -> bytes:
        """The task as compressed JSON: a third of its text, and a tenth of its objects."""
        return zlib.compress(json.dumps(self.to_json(), separators=(",", ":")).encode(), 1)

    @classmethod
    def unpack(cls, data: bytes) -> ShardTask:
        """Reads what `pack` gave."""
        return cls.from_json(json.loads(zlib.decompress(data)))


class ShardTasks(Sequence[ShardTask]):
    """Tasks that are kept packed and unpacked one at a time: a corpus has thousands.

    Args:
        packed: What `ShardTask.pack` gave.
        device: The device of all of them.
    """

    def __init__(self, packed: Sequence[bytes], device: str) -> None:
        self._packed = packed
        self._device = device

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, n: Any) -> Any:
        if isinstance(n, slice):
            return ShardTasks(self._packed[n], self._device)
        return replace(ShardTask.unpack(self._packed[n]), device=self._device)
