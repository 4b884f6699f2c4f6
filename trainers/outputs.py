"""Files that a run leaves for other programs, whole or not there."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py

from pipeline.files import write_atomic

__all__ = ["write_h5", "write_predictions", "write_tsv"]


def write_h5(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Writes an HDF5 file so that a killed process leaves the old one or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "w") as file:
            fill(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_predictions(
    path: Path,
    ids: Mapping[str, Sequence[str]],
    predictions: Mapping[str, Mapping[str, Any]],
) -> None:
    """Writes ``/<split>/<last|selected>/`` with ``id`` and every array before any threshold.

    Args:
        path: The file.
        ids: By split, N ids.
        predictions: By epoch and split, a dataclass of arrays (N, ...).
    """

    def fill(file: h5py.File) -> None:
        for epoch, by_split in predictions.items():
            for name, prediction in by_split.items():
                group = file.create_group(f"{name}/{epoch}")
                group.create_dataset("id", data=list(ids[name]), dtype=h5py.string_dtype())
                for field in dataclasses.fields(prediction):
                    group.create_dataset(field.name, data=getattr(prediction, field.name))

    write_h5(path, fill)


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a table whose cells are separated by tabs."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomic(path, buffer.getvalue())
