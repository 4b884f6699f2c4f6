"""Class lists of known data sets, kept as data under ``manifests/<data set>/classes.txt``."""

from __future__ import annotations

from pathlib import Path

import pipeline

__all__ = ["DATA_FOLDER", "class_names"]

DATA_FOLDER = Path(pipeline.__file__).parent.parent / "manifests"
"""Class lists and descriptions of data sets; installed beside the packages."""


def class_names(dataset: str) -> tuple[str, ...]:
    """The classes of a data set in index order, one a line in its file."""
    path = DATA_FOLDER / dataset / "classes.txt"
    return tuple(path.read_text(encoding="utf-8").split("\n"))[:-1]
