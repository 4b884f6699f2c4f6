"""What a shard is: its arrays, its HDF5 file, and the record that makes it exist."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from features.store.keys import RowKey, RowKeys
from features.store.sink import Sink
from pipeline.errors import MEDIA_STATUSES, UserError
from pipeline.files import object_digest, read_sealed

__all__ = [
    "BAD",
    "CLAIM",
    "DTYPES",
    "RECORD",
    "SHARD",
    "Row",
    "RowKey",
    "RowKeys",
    "Shard",
    "ShardRecord",
    "cannot_write",
    "read_shard",
    "shard_name",
    "write_shard",
]

SHARD, RECORD, CLAIM, BAD = ".h5", ".json", ".claim", ".bad"
"""Suffixes of a shard, its commit record, the claim on it, and anything set aside as damaged."""

DTYPES = ("uint8", "float16", "float32")
"""Types that features are stored in."""

DATASETS = ("x", "offset", "t", "media", "start", "end", "status", "reason")

_ENTRIES = {"schema", "shard", "size", "sha256", "shape", "dtype", "places"}
_ENTRIES |= {"keys", "lengths", "failures", "environment"}

_STORED = {np.dtype(name).str: np.dtype(name).itemsize for name in DTYPES}
"""Bytes of a value by what a record calls its type."""


def cannot_write(store: Path, error: OSError) -> UserError:
    """What the user is told when a disk is full, read-only or somebody else's."""
    return UserError(
        f"The store {store} cannot be written ({error.strerror or error}); free some space, "
        "mend its permissions or choose another with --store."
    )


@dataclass(frozen=True)
class Row:
    """The features of one clip, or why there are none.

    Attributes:
        key: What it was computed from.
        x: (T, ...) values, or None for a failed clip.
        t: (T,) seconds of each step from the clip's start, or None.
        status: One of `pipeline.errors.MEDIA_STATUSES`.
        reason: Empty for ``ok``, else one line.
    """

    key: RowKey
    x: np.ndarray | None = None
    t: np.ndarray | None = None
    status: str = "ok"
    reason: str = ""

    def __post_init__(self) -> None:
        if self.status not in MEDIA_STATUSES:
            raise ValueError(f"{self.status!r} is no status; use one of {MEDIA_STATUSES}")
        if (self.status == "ok") != (self.x is not None and self.t is not None):
            raise ValueError("a row is ok exactly if it has values and times")


def shard_name(spec_id: str, keys: Sequence[RowKey]) -> str:
    """Names a shard by what is in it, so that the same work always has the same name."""
    return object_digest([spec_id, [list(key) for key in keys]], 16)


@dataclass(frozen=True)
class Shard:
    """The arrays of one shard: N rows whose steps lie one after the other.

    Attributes:
        x: (sum of T, ...) uint8, float16 or float32.
        offset: (N + 1,) int64; row n is ``x[offset[n]:offset[n + 1]]``.
        t: (sum of T,) float64 seconds of each step from its clip's start.
        keys: N row keys.
        status, reason: N texts; a failed row has length 0.
    """

    x: np.ndarray
    offset: np.ndarray
    t: np.ndarray
    keys: tuple[RowKey, ...]
    status: tuple[str, ...]
    reason: tuple[str, ...]

    @classmethod
    def pack(cls, rows: Sequence[Row], *, shape: Sequence[int], dtype: str = "float32") -> Shard:
        """Packs rows.

        Args:
            rows: N rows.
            shape: Shape of one step, which a shard of failed rows cannot tell.
            dtype: One of `DTYPES`.

        Raises:
            ValueError: If a row's values have another shape, or are not finite.
        """
        if dtype not in DTYPES:
            raise ValueError(f"features are stored as one of {DTYPES}, not {dtype!r}")
        lengths = [0 if row.x is None else len(row.x) for row in rows]
        offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        x = np.empty((int(offset[-1]), *shape), dtype=dtype)
        t = np.empty(int(offset[-1]), dtype=np.float64)
        for row, low, high in zip(rows, offset[:-1], offset[1:], strict=True):
            if row.x is None or row.t is None:
                continue
            if row.x.shape[1:] != tuple(shape) or row.t.shape != (len(row.x),):
                raise ValueError(
                    f"steps of shape {row.x.shape[1:]} and {row.t.shape} times do not fit a "
                    f"feature of shape {tuple(shape)} and {len(row.x)} steps"
                )
            if not np.isfinite(row.x).all():
                raise ValueError(f"the features of {row.key} are not finite")
            x[low:high], t[low:high] = row.x, row.t
        return cls(
            x,
            offset,
            t,
            tuple(row.key for row in rows),
            tuple(row.status for row in rows),
            tuple(row.reason for row in rows),
        )

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class ShardRecord:
    """What a shard's commit record says. What has no record does not exist.

    Attributes:
        shard: The shard's name.
        size, sha256: Of the HDF5 file.
        shape: Shape of one step.
        dtype: Stored type, with its byte order.
        places: Byte position of ``x`` and ``t`` in the file. Contiguous datasets lie in one
            piece, so that a reader needs one system call and no HDF5 library call for a shard.
        keys: N row keys.
        lengths: N numbers of steps.
        failures: Row number to (status, reason), for rows that are not ok.
        environment: Library versions, device, threads and date: recorded, never hashed.
    """

    shard: str
    size: int
    sha256: str
    shape: tuple[int, ...]
    dtype: str
    places: Mapping[str, int]
    keys: Sequence[RowKey]
    lengths: tuple[int, ...]
    failures: Mapping[int, tuple[str, str]]
    environment: Mapping[str, Any] = field(default_factory=dict)

    def statuses(self) -> list[str]:
        """N statuses."""
        return [self.failures[n][0] if n in self.failures else "ok" for n in range(len(self.keys))]

    def to_json(self) -> dict[str, Any]:
        """The record as it is written."""
        return {
            "schema": 1,
            "shard": self.shard,
            "size": self.size,
            "sha256": self.sha256,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "places": dict(self.places),
            "keys": [list(key) for key in self.keys],
            "lengths": list(self.lengths),
            "failures": {str(n): list(failure) for n, failure in self.failures.items()},
            "environment": dict(self.environment),
        }

    @classmethod
    def from_json(cls, value: Any) -> ShardRecord:
        """Reads a record and refuses what could not have been committed.

        Its shard's name becomes part of a path and its numbers address memory, and whoever made a
        store may be a stranger.

        Raises:
            ValueError: If it is no record.
        """
        try:
            rows = value["keys"]
            media, start, end = zip(*rows, strict=True) if rows else ((), (), ())
            return cls.from_columns(value, media, start, end)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"not a shard record ({type(error).__name__}: {error})") from error

    @classmethod
    def from_columns(
        cls, value: Any, media: Sequence[str], start: Sequence[float], end: Sequence[float]
    ) -> ShardRecord:
        """Reads a record whose keys come as columns; like `from_json`, with any exception."""
        if value["schema"] != 1:
            raise ValueError(f"record version {value['schema']!r} is unknown")
        record = cls(
            value["shard"],
            value["size"],
            value["sha256"],
            tuple(value["shape"]),
            value["dtype"],
            dict(value["places"]),
            RowKeys.of(media, start, end),
            tuple(value["lengths"]),
            {int(n): (status, reason) for n, (status, reason) in value["failures"].items()},
            value.get("environment", {}),
        )
        record.check()
        return record

    def check(self) -> None:
        """Checks every value by itself and against the others.

        Raises:
            ValueError: What is wrong.
        """
        if not re.fullmatch("[0-9a-f]{16}", self.shard):
            raise ValueError(f"{self.shard!r} is no shard's name")
        numbers = (self.size, *self.shape, *self.places.values(), *self.lengths)
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("sizes, places and lengths are whole numbers of 0 or more")
        if self.dtype not in _STORED:
            raise ValueError(f"features are stored as one of {DTYPES}, not as {self.dtype!r}")
        if len(self.lengths) != len(self.keys):
            raise ValueError(f"{len(self.keys)} rows have {len(self.lengths)} lengths")
        for n, (status, reason) in self.failures.items():
            texts = isinstance(status, str) and isinstance(reason, str)
            if not (0 <= n < len(self.keys) and texts and self.lengths[n] == 0):
                raise ValueError(f"there is no failed row {n}")
        steps = sum(self.lengths)
        # In whole Python numbers: numpy's would wrap around.
        for name, step in (("x", math.prod(self.shape) * _STORED[self.dtype]), ("t", 8)):
            if steps and self.places[name] + steps * step > self.size:
                raise ValueError(f"{name} lies outside the shard's file")

    @classmethod
    def read(cls, path: Path) -> ShardRecord:
        """Reads a record file.

        Raises:
            ValueError: If it is not one.
            OSError: If it cannot be read.
        """
        value = read_sealed(path.read_bytes())
        if unknown := value.keys() - _ENTRIES:
            raise ValueError(f"not a shard record (it holds {sorted(unknown)})")
        return cls.from_json(value)


def write_shard(path: Path, shard: Shard, *, feature: str, spec_id: str) -> dict[str, int]:
    """Writes a shard's HDF5 file. The same shard always gives the same bytes.

    Returns:
        Byte position of ``x`` and ``t`` in the file, 0 for an empty one.

    Raises:
        OSError: If it cannot be written.
    """
    with open(path, "w+b", buffering=0) as raw:
        sink = Sink(raw)
        with h5py.File(sink, "w") as file:
            places = _fill(file, shard, feature, spec_id)
        sink.check()
    return places


def _fill(file: h5py.File, shard: Shard, feature: str, spec_id: str) -> dict[str, int]:
    file.attrs["schema"] = 1
    file.attrs["feature"] = feature
    file.attrs["spec"] = spec_id
    datasets = {
        name: file.create_dataset(name, data=getattr(shard, name)) for name in ("x", "offset", "t")
    }
    file["start"] = np.array([key.start for key in shard.keys], dtype=np.float64)
    file["end"] = np.array([key.end for key in shard.keys], dtype=np.float64)
    for name, texts in (
        ("media", [key.media for key in shard.keys]),
        ("status", shard.status),
        ("reason", shard.reason),
    ):
        # Fixed length: variable-length texts live in a heap whose layout is the library's
        # business, and a damaged one would take the whole file with it.
        raw = [text.encode() for text in texts]
        kind = h5py.string_dtype("utf-8", max([1, *map(len, raw)]))
        file.create_dataset(name, data=np.array(raw, dtype=kind))
    file.flush()
    return {name: int(datasets[name].id.get_offset() or 0) for name in ("x", "t")}


def read_shard(path: Path) -> tuple[Shard, dict[str, int]]:
    """Reads a whole shard through the HDF5 library.

    Returns:
        The shard, and where ``x`` and ``t`` lie in the file.

    Raises:
        OSError: If the file is no HDF5 file.
        KeyError: If a dataset is missing.
        ValueError: If a dataset takes its values from another file.
    """
    with h5py.File(path, "r") as file:
        for name in DATASETS:
            _refuse_foreign(file, name)
        media, status, reason = (
            [text.decode() for text in file[name][()]] for name in ("media", "status", "reason")
        )
        keys = tuple(
            RowKey(m, float(start), float(end))
            for m, start, end in zip(media, file["start"][()], file["end"][()], strict=True)
        )
        places = {name: int(file[name].id.get_offset() or 0) for name in ("x", "t")}
        arrays = (file[name][()] for name in ("x", "offset", "t"))
        return Shard(*arrays, keys, tuple(status), tuple(reason)), places


def _refuse_foreign(file: h5py.File, name: str) -> None:
    """Refuses HDF5's three ways of showing another file's bytes as one's own."""
    linked = not isinstance(file.get(name, getlink=True), h5py.HardLink)
    if linked or file[name].external or file[name].is_virtual:
        raise ValueError(f"{name} takes its values from elsewhere")
