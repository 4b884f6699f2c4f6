"""The manifest: one header, one row a video interval. See README, "Manifests", for the format."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.files import object_digest
from pipeline.manifest.recorded import check_noise

__all__ = ["LABEL_TYPES", "SPLITS", "Header", "Manifest", "Row"]

SPLITS = ("train", "val", "test", "pool")
"""``pool`` rows only lend audio and are never trained on."""
LABEL_TYPES = ("multiclass", "multilabel", "none")

# The keys of a dict are a set that keeps its order, for errors.
HEADER_REQUIRED = dict.fromkeys(("manifest", "dataset", "label_type", "classes")).keys()
HEADER_OPTIONAL = dict.fromkeys(("media_root", "annotations", "parent", "noise", "corpus")).keys()
ROW_REQUIRED = dict.fromkeys(("id", "start", "end", "split", "labels")).keys()
ROW_OPTIONAL = dict.fromkeys(("video", "audio_id", "group", "labels_audio", "labels_visual")).keys()


@dataclass(frozen=True, slots=True)
class Row:
    """One interval of one video.

    Attributes:
        id: Unique in the manifest; keys features, predictions and noise.
        start, end: Seconds in the file.
        split: One of `SPLITS`.
        labels: Class names; the (possibly noisy) label that trainers see.
        video: File relative to the header's ``media_root``, or None when only features exist.
        audio_id: The row whose audio this clip carries, of the same split or of the pool; its own
            id when nothing was exchanged.
        group: Source of the clip (default: the video); no group stands in two splits.
        labels_audio, labels_visual: Labels of one modality; None means the same as ``labels``.
    """

    id: str
    start: float
    end: float
    split: str
    labels: tuple[str, ...]
    video: str | None = None
    audio_id: str = ""
    group: str = ""
    labels_audio: tuple[str, ...] | None = None
    labels_visual: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        # Equal texts become one: a corpus has a million rows, and nearly all repeat their id.
        if not self.audio_id or self.audio_id == self.id:
            object.__setattr__(self, "audio_id", self.id)
        if not self.group:
            object.__setattr__(self, "group", self.video or self.id)

    def to_json(self) -> dict[str, Any]:
        """The row as it stands in the file; defaults are left out."""
        row: dict[str, Any] = {
            "id": self.id,
            "video": self.video,
            "start": self.start,
            "end": self.end,
            "split": self.split,
            "labels": list(self.labels),
            "audio_id": self.audio_id,
        }
        if self.group != (self.video or self.id):
            row["group"] = self.group
        if self.labels_audio is not None:
            row["labels_audio"] = list(self.labels_audio)
        if self.labels_visual is not None:
            row["labels_visual"] = list(self.labels_visual)
        return row

    @classmethod
    def from_json(cls, value: Any) -> Row:
        """Checks one row by itself.

        Raises:
            ValueError: What is wrong and how to mend it, without the line (the reader adds it).
        """
        _check_keys("row", value, ROW_REQUIRED, ROW_OPTIONAL)
        start, end = (_number(value, key) for key in ("start", "end"))
        if end <= start:
            raise ValueError(
                f"the interval {start} to {end} s is empty; make end larger than start"
            )
        if start < 0:
            raise ValueError(f"start {start} is before the file begins; use 0 or more")
        split = value["split"]
        if split not in SPLITS:
            raise ValueError(f"split {split!r} is unknown; use one of {', '.join(SPLITS)}")
        return cls(
            id=_text(value, "id"),
            start=start,
            end=end,
            split=sys.intern(split),
            labels=_labels(value, "labels"),
            video=None if value.get("video") is None else _text(value, "video"),
            audio_id=_text(value, "audio_id") if "audio_id" in value else "",
            group=_text(value, "group") if "group" in value else "",
            labels_audio=_labels(value, "labels_audio") if "labels_audio" in value else None,
            labels_visual=_labels(value, "labels_visual") if "labels_visual" in value else None,
        )


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a manifest.

    Attributes:
        dataset: Name of the data set.
        label_type: One of `LABEL_TYPES`.
        classes: Class names in index order.
        media_root: Folder of the videos, relative to the manifest's own folder, or absolute.
        annotations: Dense annotations: ``{"file": TSV beside the manifest, "digest": sha256}``
            and, where a data set has several versions, ``"version"``.
        parent: Content digest of the manifest this one was made from.
        noise: What was injected, oldest first.
        corpus: Where a rendered corpus came from: name, version, seed, sizes.
    """

    dataset: str
    label_type: str
    classes: tuple[str, ...]
    media_root: str = "."
    annotations: Mapping[str, str] | None = None
    parent: str | None = None
    noise: tuple[Mapping[str, Any], ...] = ()
    corpus: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The header as it stands in the file."""
        header: dict[str, Any] = {
            "manifest": 1,
            "dataset": self.dataset,
            "label_type": self.label_type,
            "classes": list(self.classes),
            "media_root": self.media_root,
            "annotations": None if self.annotations is None else dict(self.annotations),
            "parent": self.parent,
            "noise": [dict(n) for n in self.noise],
        }
        if self.corpus is not None:
            header["corpus"] = dict(self.corpus)
        return header

    @classmethod
    def from_json(cls, value: Any) -> Header:
        """Checks a header.

        Raises:
            ValueError: What is wrong and how to mend it.
        """
        _check_keys("header", value, HEADER_REQUIRED, HEADER_OPTIONAL)
        if value["manifest"] != 1:
            raise ValueError(
                f"manifest version {value['manifest']!r} is unknown; this reads version 1"
            )
        label_type = value["label_type"]
        if label_type not in LABEL_TYPES:
            raise ValueError(
                f"label_type {label_type!r} is unknown; use one of {', '.join(LABEL_TYPES)}"
            )
        classes = _labels(value, "classes")
        annotations = value.get("annotations")
        if annotations is not None and not (
            isinstance(annotations, dict)
            and {"file", "digest"} <= set(annotations)
            and all(isinstance(v, str) and v for v in annotations.values())
        ):
            raise ValueError('annotations must hold "file" and "digest" as texts; or leave it out')
        noise = value.get("noise", [])
        check_noise(noise)
        if not isinstance(value.get("corpus"), dict | None):
            raise ValueError("corpus must be an object; or leave it out")
        return cls(
            dataset=_text(value, "dataset"),
            label_type=label_type,
            classes=classes,
            media_root=_text(value, "media_root") if "media_root" in value else ".",
            annotations=annotations,
            parent=None if value.get("parent") is None else _text(value, "parent"),
            noise=tuple(noise),
            corpus=value.get("corpus"),
        )


@dataclass(frozen=True)
class Manifest:
    """A header and its rows, checked against each other.

    Args:
        header: The header.
        rows: The rows, in file order.
        path: The file it was read from or will be written to; media and annotations are found
            relative to its folder.

    Raises:
        UserError: If rows contradict the header or each other.
    """

    header: Header
    rows: tuple[Row, ...]
    path: Path | None = None
    _index: dict[str, int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if row.id in self._index:
                raise UserError(
                    f"{self._place(number)}: the id {row.id!r} is taken by "
                    f"line {self._index[row.id] + 2}; ids must be unique."
                )
            self._index[row.id] = number
        known = set(self.header.classes)
        splits_of_group: dict[str, tuple[str, int]] = {}
        for number, row in enumerate(self.rows):
            self._check_row(number, row, known, splits_of_group)

    def _place(self, number: int) -> str:
        """Names a row by its line in the file (the header is line 1)."""
        return f"{self.path.name if self.path else 'manifest'} line {number + 2}"

    def _check_row(
        self,
        number: int,
        row: Row,
        known: set[str],
        splits_of_group: dict[str, tuple[str, int]],
    ) -> None:
        for labels in (row.labels, row.labels_audio or (), row.labels_visual or ()):
            for label in labels:
                if label not in known:
                    raise UserError(
                        f"{self._place(number)}: the label {label!r} is not among the header's "
                        f"{len(known)} classes; correct it or add the class."
                    )
        if self.header.label_type == "none" and row.labels:
            raise UserError(
                f"{self._place(number)}: label_type is none but the row has labels; "
                "set label_type to multiclass or multilabel."
            )
        if self.header.label_type == "multiclass" and row.split != "pool" and len(row.labels) != 1:
            raise UserError(
                f"{self._place(number)}: a multiclass row has exactly one label, this has "
                f"{len(row.labels)}; mend it or set label_type to multilabel."
            )
        if row.audio_id not in self._index:
            raise UserError(
                f"{self._place(number)}: audio_id {row.audio_id!r} is no row of this manifest; "
                "add that row with split pool."
            )
        lender = self.rows[self._index[row.audio_id]]
        if lender.split not in (row.split, "pool"):
            raise UserError(
                f"{self._place(number)}: audio_id {row.audio_id!r} stands in {lender.split} and "
                f"this row in {row.split}; name a row of the same split, or one of split pool."
            )
        split, first = splits_of_group.setdefault(row.group, (row.split, number))
        if split != row.split:
            raise UserError(
                f"{self._place(number)}: group {row.group!r} stands in {row.split} here and in "
                f"{split} on line {first + 2}; keep every group in one split."
            )

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, row_id: str) -> Row:
        return self.rows[self._index[row_id]]

    def __contains__(self, row_id: object) -> bool:
        return row_id in self._index

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in index order."""
        return self.header.classes

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        return self.path.parent if self.path else Path()

    @property
    def media_root(self) -> Path:
        """The folder of the videos."""
        return self.folder / self.header.media_root

    def split(self, *names: str) -> tuple[Row, ...]:
        """The rows of one or more splits, in file order."""
        return tuple(row for row in self.rows if row.split in names)

    def media_path(self, row: Row) -> Path | None:
        """The row's video file, or None when the row has none. The file may not exist."""
        return None if row.video is None else self.media_root / row.video

    def label_matrix(self, rows: Iterable[Row], modality: str | None = None) -> np.ndarray:
        """Labels as zeros and ones.

        Args:
            rows: N rows of this manifest.
            modality: ``"audio"`` or ``"visual"`` for that modality's labels where a row has
                them; None for the clip's labels.

        Returns:
            (N, C) bool.
        """
        column = {name: c for c, name in enumerate(self.classes)}
        rows = tuple(rows)
        matrix = np.zeros((len(rows), len(column)), dtype=bool)
        for n, row in enumerate(rows):
            labels = getattr(row, f"labels_{modality}") if modality else None
            for label in row.labels if labels is None else labels:
                matrix[n, column[label]] = True
        return matrix

    def content_digest(self) -> str:
        """Names the content: sorted (id, split, labels, audio_id, group); no paths, no order."""
        content = sorted(
            [
                row.id,
                row.split,
                sorted(row.labels),
                row.audio_id,
                row.group,
                None if row.labels_audio is None else sorted(row.labels_audio),
                None if row.labels_visual is None else sorted(row.labels_visual),
            ]
            for row in self.rows
        )
        return object_digest(content, 16)

    def with_rows(self, rows: Iterable[Row], **header: Any) -> Manifest:
        """A copy with other rows and, by keyword, other header fields."""
        return Manifest(replace(self.header, **header), tuple(rows), self.path)


def _check_keys(what: str, value: Any, required: Set[str], optional: Set[str]) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"a {what} is a JSON object, this is {type(value).__name__}")
    if unknown := value.keys() - required - optional:
        raise ValueError(
            f"unknown key {min(unknown)!r} in the {what}; "
            f"allowed: {', '.join((*required, *optional))}"
        )
    if not value.keys() >= required:
        absent = next(key for key in required if key not in value)
        raise ValueError(f"the {what} lacks {absent!r}; add it")


def _text(value: Mapping[str, Any], key: str) -> str:
    text = value[key]
    if not isinstance(text, str) or not text:
        raise ValueError(f"{key} must be a text that is not empty, this is {text!r}")
    return text


def _number(value: Mapping[str, Any], key: str) -> float:
    number = value[key]
    # Compared before it is converted: a whole number can be too large for a float.
    if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < 1e12:
        return float(number)
    raise ValueError(f"{key} must be a number of seconds, this is {str(number)[:40]!r}")


def _labels(value: Mapping[str, Any], key: str) -> tuple[str, ...]:
    labels = value[key]
    if not isinstance(labels, list) or not all(isinstance(x, str) and x for x in labels):
        raise ValueError(f"{key} must be a list of names, this is {labels!r}")
    if len(set(labels)) != len(labels):
        raise ValueError(f"{key} repeats a name: {labels}; keep each once")
    return tuple(map(sys.intern, labels))
