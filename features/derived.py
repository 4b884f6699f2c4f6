"""Derived artefacts: arrays by row id that were computed from features, found again by hash.

An artefact is one HDF5 file, ``<store>/derived/<name>-<hash>.h5``: the dataset ``id``, named
arrays with as many rows, and as attributes what it was made from. The hash covers inputs, method
and options, so that an artefact whose inputs change is another one and never a stale one.

key = DerivedKey("clip_logits", inputs={"feature": info.label}, method="cosine", options={})
found = find_or_make(store, key, lambda: Derived(key, ids, {"logits": logits}))
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.errors import UserError
from pipeline.files import canonical_json, object_digest, write_atomic

__all__ = [
    "Derived",
    "DerivedKey",
    "find_derived",
    "find_or_make",
    "read_derived",
    "write_derived",
]

FOLDER = "derived"
_SCHEMA = 1
_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")


@dataclass(frozen=True)
class DerivedKey:
    """What an artefact is made from, as plain values that JSON can carry.

    Args:
        name: What it is, such as ``"clip_logits"``.
        inputs: What it was computed from: feature labels, digests of rows and weights.
        method: How; with a version that is raised when the computation changes a value.
        options: The method's settings.
    """

    name: str
    inputs: Mapping[str, Any]
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of an artefact: a-z, 0-9, _ and dots")

    def to_json(self) -> dict[str, Any]:
        """What the hash is made from."""
        return {
            "schema": _SCHEMA,
            "name": self.name,
            "inputs": dict(self.inputs),
            "method": self.method,
            "options": dict(self.options),
        }

    @cached_property
    def id(self) -> str:
        """Twelve hexadecimal digits that name inputs, method and options."""
        return object_digest(self.to_json())

    @property
    def label(self) -> str:
        """The artefact's unambiguous name, ``name-hash``."""
        return f"{self.name}-{self.id}"

    def path(self, store: Path) -> Path:
        """The artefact's file in a store."""
        return store / FOLDER / f"{self.label}.h5"


@dataclass(frozen=True)
class Derived:
    """An artefact in memory.

    Attributes:
        key: What it was made from.
        ids: N different row ids.
        arrays: By name, numbers or truth values of shape (N, ...).
    """

    key: DerivedKey
    ids: tuple[str, ...]
    arrays: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if not self.ids or len(set(self.ids)) != len(self.ids):
            raise ValueError("an artefact needs at least one row, and no id twice")
        for name, array in self.arrays.items():
            if name == "id" or not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of an array")
            if array.dtype.kind not in "biuf" or array.shape[:1] != (len(self.ids),):
                raise ValueError(
                    f"{name} must be numbers in {len(self.ids)} rows, not {array.dtype} of shape "
                    f"{array.shape}"
                )

    def select(self, ids: Sequence[str]) -> np.ndarray:
        """Row numbers of some ids, (M,) int64.

        Raises:
            UserError: If the artefact lacks one of them.
        """
        places = {name: n for n, name in enumerate(self.ids)}
        absent = [name for name in ids if name not in places]
        if absent:
            raise UserError(
                f"{len(absent)} of {len(ids)} rows are not in {self.key.label} (the first is "
                f"{absent[0]!r}); make it again for this manifest."
            )
        return np.array([places[name] for name in ids], dtype=np.int64)


def write_derived(path: Path, artefact: Derived) -> Path:
    """Writes an artefact so that it is there and whole or not there.

    Args:
        path: The file, usually ``artefact.key.path(store)``.
        artefact: What to write.

    Raises:
        UserError: If it cannot be written.
    """
    buffer = io.BytesIO()
    # The newest file format and a checksum a chunk make HDF5 notice every changed byte.
    with h5py.File(buffer, "w", libver="latest") as file:
        file.attrs["key"] = canonical_json(artefact.key.to_json())
        file.attrs["hash"] = artefact.key.id
        names = [name.encode("utf-8", "surrogatepass") for name in artefact.ids]
        arrays = {"id": np.array(names, dtype=f"S{max(map(len, names))}"), **artefact.arrays}
        for name, array in arrays.items():
            file.create_dataset(name, data=array, chunks=True, fletcher32=True)
    try:
        return write_atomic(path, buffer.getvalue())
    except OSError as error:
        raise UserError(
            f"The artefact {path} cannot be written ({error.strerror or error}); free some space, "
            "mend the permissions or choose another place."
        ) from error


def read_derived(path: Path) -> Derived:
    """Reads and checks an artefact.

    Raises:
        UserError: If it is none, or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            return _parse(file)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0][:160]
        raise UserError(
            f"The artefact {path} cannot be read ({why}); delete it and make it again."
        ) from error


def find_derived(store: Path, key: DerivedKey) -> Derived | None:
    """Reads an artefact of a store, or None if it has not been made yet.

    Raises:
        UserError: If it is damaged.
    """
    path = key.path(store)
    if not path.exists():
        return None
    artefact = read_derived(path)
    if artefact.key.id != key.id:
        raise UserError(f"{path} holds {artefact.key.label} instead; delete it and make it again.")
    return artefact


def find_or_make(store: Path, key: DerivedKey, make: Callable[[], Derived]) -> Derived:
    """Finds an artefact by its hash, or makes and keeps it.

    Args:
        store: The store's folder.
        key: What it is made from.
        make: Computes it.

    Raises:
        UserError: If it is damaged, or cannot be written.
    """
    artefact = find_derived(store, key)
    if artefact is None:
        artefact = make()
        write_derived(key.path(store), artefact)
    return artefact


def _parse(file: h5py.File) -> Derived:
    value = json.loads(file.attrs["key"])
    if value["schema"] != _SCHEMA:
        raise ValueError(f"it has schema {value['schema']}, this version reads {_SCHEMA}")
    key = DerivedKey(value["name"], value["inputs"], value["method"], value["options"])
    if file.attrs["hash"] != key.id:
        raise ValueError("its key is not the one that was written")
    arrays = {name: _array(file, name) for name in file}
    ids = arrays.pop("id")
    if ids.dtype.kind != "S":
        raise ValueError("its ids are no texts")
    return Derived(
        key, tuple(name.decode("utf-8", "surrogatepass") for name in ids.tolist()), arrays
    )


def _array(file: h5py.File, name: str) -> np.ndarray:
    """One dataset; what would lead out of the file is refused."""
    hard = isinstance(file.get(name, getlink=True), h5py.HardLink)
    item = file[name] if hard else None
    if not isinstance(item, h5py.Dataset) or item.is_virtual or item.external:
        raise ValueError(f"{name} is no plain array of the file")
    if item.dtype.kind not in "biufS":
        raise ValueError(f"{name} holds {item.dtype} instead of numbers")
    return item[()]
