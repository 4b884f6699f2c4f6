"""HDF5 files of a whole data set, (N, T, ...) in one array, as AVE's release has them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from features.importing.arrays import Form, Stamp, stored_dtype
from features.importing.folder import hash_file, pieces
from features.importing.job import Imported, Job, run_jobs
from features.importing.matching import match_rows
from features.importing.npy import check_name
from features.importing.order import read_order
from features.importing.report import ImportReport
from features.importing.show import Display, silent
from features.spec import FeatureSpec
from features.store import Store
from pipeline.errors import MediaError, UserError
from pipeline.files import object_digest
from pipeline.grid import Grid
from pipeline.manifest import Manifest

__all__ = ["import_hdf5"]

DATASET = "avadataset"
"""Name of the array in AVE's files."""
CHUNK_CACHE = 64 << 20
"""Bytes: a compressed chunk that holds several rows is unpacked once."""


def import_hdf5(
    file: Path | str,
    manifest: Manifest,
    store: Store,
    *,
    order: Sequence[Path],
    name: str,
    grid: Grid,
    annotations: Path | None = None,
    dataset: str | None = None,
    shard_rows: int = 64,
    display: Display = silent,
) -> ImportReport:
    """Imports an array (N, T, ...), slice by slice.

    Args:
        file: The HDF5 file.
        manifest: The rows.
        store: Where to.
        order: Files that say which clip each of the N rows is; see `read_order`.
        name: The feature's name from now on.
        grid: When the steps are; a clip has exactly as many as its grid says.
        annotations: The list that index files pick from.
        dataset: The array's name; `DATASET`, or the only one there is, if left out.
        shard_rows: Rows a shard.
        display: Shows progress.

    Raises:
        UserError: If file, array, order or name make no sense, nothing fits the manifest, the file
            changes meanwhile, or the store cannot be written.
    """
    path = Path(file)
    check_name(name)
    key, shape, dtype = _inspect(path, dataset)
    ids = read_order(order, annotations, shape[0])
    # Of a clip that is listed twice (AVE has some, under two categories) the first row counts.
    places = {ids[n]: n for n in reversed(range(len(ids)))}
    matches = match_rows(manifest, dict.fromkeys(ids), what=f"the order of {path}")
    with display(pieces(path.stat().st_size), "hash", "pieces") as progress:
        stamp, digest = hash_file(path, store.path, progress=progress)
    content = object_digest({"file": digest, "dataset": key, "order": ids}, 64)
    values = {
        "imported": {
            "format": "hdf5",
            "content": f"sha256:{content}",
            "dtype": dtype,
            "shape": list(shape[2:]),
        },
        "grid": grid.describe(),
        "dtype": stored_dtype(dtype),
    }
    feature = Imported(FeatureSpec(name, values), grid, shape[2:], stored_dtype(dtype))
    given = _HdfRows(path, stamp, key, Form(shape[1:], dtype), places)
    job = Job((feature,), given, matches.names, "the order names no such clip", str(path))
    report = run_jobs([job], manifest, store, shard_rows=shard_rows, display=display)
    report.strangers[path.name] = matches.strangers
    if len(places) < len(ids):
        report.notes.append(
            f"{len(ids) - len(places)} rows of {path.name} repeat a clip; its first row counts"
        )
    return report


def _inspect(path: Path, wanted: str | None) -> tuple[str, tuple[int, ...], str]:
    """Name, shape and type of the array to import."""
    try:
        with h5py.File(path, "r") as file:
            key = wanted or _find(file, path)
            data = file.get(key)
            if not isinstance(data, h5py.Dataset):
                raise UserError(
                    f"{path} has no data set {key!r} (it has: {_listed(file)}); correct --dataset."
                )
            # A missing source of such an array reads as zeros without a word, and a file of
            # somebody else's must not make us read any other.
            if data.is_virtual or data.external or data.file.filename != file.filename:
                raise UserError(
                    f"{key!r} in {path} keeps its values in other files; copy it into one ordinary "
                    "data set first."
                )
            if data.shape is None or data.ndim < 2:
                raise UserError(f"{key!r} in {path} has no rows of steps; correct --dataset.")
            if stored_dtype(data.dtype.name) is None:
                raise UserError(
                    f"{key!r} in {path} holds {data.dtype.name} values, which are no features; "
                    "correct --dataset."
                )
            return key, data.shape, data.dtype.name
    except OSError as error:
        raise UserError(
            f"{path} cannot be read as HDF5 ({error.strerror or 'it is damaged or no such file'}); "
            "correct its path."
        ) from error


def _find(file: h5py.File, path: Path) -> str:
    if DATASET in file:
        return DATASET
    keys = list(file)
    if len(keys) != 1:
        raise UserError(f"{path} holds {_listed(file)}; choose one with --dataset.")
    return keys[0]


def _listed(file: h5py.File) -> str:
    return ", ".join(map(repr, file)) or "nothing"


@dataclass(frozen=True)
class _HdfRows:
    """Rows of an array by clip.

    Attributes:
        path: The file.
        stamp: Of the file when it was hashed.
        key: The array's name.
        every: Shape (T, ...) and type of each row.
        places: Row number by id.
    """

    path: Path
    stamp: Stamp
    key: str
    every: Form
    places: Mapping[str, int]

    def form(self, name: str) -> Form:
        """See `Given`; all rows have one form."""
        return self.every

    def read(self, names: Sequence[str]) -> list[np.ndarray | MediaError]:
        """See `Given`."""
        wanted = [self.places[name] for name in names]
        found: dict[int, np.ndarray | MediaError] = {}
        try:
            status = os.stat(self.path)
            if (status.st_size, status.st_mtime_ns) != self.stamp:
                raise self._changed()
            with h5py.File(self.path, "r", rdcc_nbytes=CHUNK_CACHE) as file:
                data = file[self.key]
                for first, last in _runs(sorted(set(wanted))):
                    found |= _read_run(data, first, last)
        except (OSError, KeyError) as error:
            raise self._changed() from error
        return [found[n] for n in wanted]

    def _changed(self) -> UserError:
        return UserError(f"{self.path} was changed while it was imported; run the command again.")


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ascending numbers as runs (first, last + 1)."""
    first = 0
    for n in range(1, len(numbers) + 1):
        if n == len(numbers) or numbers[n] != numbers[n - 1] + 1:
            yield numbers[first], numbers[n - 1] + 1
            first = n


def _read_run(data: h5py.Dataset, first: int, last: int) -> dict[int, np.ndarray | MediaError]:
    """Reads rows that lie together; where that fails, one by one, to lose no more than needed."""
    try:
        values: np.ndarray = data[first:last]
        return dict(zip(range(first, last), values, strict=True))
    except OSError:
        if last - first == 1:
            return {first: MediaError("decode_error", "its bytes in the HDF5 file are damaged")}
        return {n: v for k in range(first, last) for n, v in _read_run(data, k, k + 1).items()}
