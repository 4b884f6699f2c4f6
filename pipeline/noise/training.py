"""What kinds of noise are: they read training rows as arrays and say what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from pipeline.manifest import Manifest, Row
from pipeline.noise.rates import Nominal, first_by_class, whole
from pipeline.noise.streams import Streams

__all__ = ["Change", "Entries", "Kind", "Task", "Training"]


@dataclass(frozen=True)
class Entries:
    """All labels of N rows, one after the other, by row and then by class.

    Attributes:
        row: (E,) int64, the row of each label.
        cls: (E,) int64, its class.
        counts: (N,) int64, labels of each row.
    """

    row: np.ndarray
    cls: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, labels: Sequence[Sequence[str]], classes: Sequence[str]) -> Entries:
        """Reads the labels of N rows."""
        column = {name: c for c, name in enumerate(classes)}
        counts = np.fromiter(map(len, labels), np.int64, len(labels))
        flat = np.fromiter((column[x] for row in labels for x in row), np.int64, counts.sum())
        row = np.repeat(np.arange(len(labels)), counts)
        return cls(row, flat[np.lexsort((flat, row))], counts)

    @property
    def starts(self) -> np.ndarray:
        """(N,) int64, where each row's labels begin."""
        return np.cumsum(self.counts) - self.counts

    def padded(self) -> np.ndarray:
        """(N, L) int64 classes of each row, filled with -1."""
        table = np.full((len(self.counts), max(1, int(self.counts.max(initial=0)))), -1)
        table[self.row, np.arange(len(self.row)) - self.starts[self.row]] = self.cls
        return table


class Training:
    """The training rows of a manifest.

    Args:
        manifest: The manifest to make noisy.

    Attributes:
        rows: N rows sorted by id, so that the order of the file changes no draw.
        positions: (N,) int64, where they stand in ``manifest.rows``.
        classes: K names in index order.
    """

    def __init__(self, manifest: Manifest) -> None:
        found = [n for n, row in enumerate(manifest.rows) if row.split == "train"]
        found.sort(key=lambda n: manifest.rows[n].id)
        self.manifest = manifest
        self.rows: tuple[Row, ...] = tuple(manifest.rows[n] for n in found)
        self.positions = np.array(found, dtype=np.int64)
        self.classes = manifest.classes

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def entries(self) -> Entries:
        """The labels of the clips."""
        return Entries.of([row.labels for row in self.rows], self.classes)

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64, the class of each row of a multiclass manifest."""
        return self.entries.cls

    @property
    def holding(self) -> np.ndarray:
        """(K,) int64, how many rows hold each class."""
        return np.bincount(self.entries.cls, minlength=len(self.classes))


@dataclass(frozen=True)
class Task:
    """One noise to be drawn.

    Attributes:
        training: What it is drawn over.
        nominal: The rate asked for.
        streams: Random numbers of this parent, kind, options and seed; the rate is not among
            what they depend on.
        fixed: Random numbers that depend on classes, options and seed alone.
    """

    training: Training
    nominal: Nominal
    streams: Streams
    fixed: Streams

    def order(self) -> np.ndarray:
        """(N,) int64, the permutation of the rows whose first ones are drawn."""
        return self.streams.order("rows", len(self.training))

    def choose(
        self, classes: np.ndarray | None = None, eligible: np.ndarray | None = None
    ) -> np.ndarray:
        """Draws rows.

        Args:
            classes: (N,) int64, under which class each row is counted; for class-conditional
                rates. -1 is counted nowhere.
            eligible: (N,) bool, those that may be drawn; where they are too few, all of them are.

        Returns:
            (N,) bool.
        """
        n = len(self.training)
        order = self.order()
        if eligible is not None:
            order = order[eligible[order]]
        if self.nominal.by_class is None:
            chosen = order[: whole(self.nominal.rate or 0.0, n)]
        else:
            counts = np.bincount(classes[classes >= 0], minlength=len(self.training.classes))
            chosen = first_by_class(order, classes, self.nominal.quotas(counts))
        drawn = np.zeros(n, dtype=bool)
        drawn[chosen] = True
        return drawn


@dataclass(frozen=True)
class Change:
    """What a noise does.

    Attributes:
        drawn: (N,) bool, rows that were drawn; not all of them need to change.
        values: Field of a row to training row to new value. Only true changes.
        counted: (K,) int64, what class-conditional rates are shares of.
        hit: (K,) int64, how much of it changed.
        details: JSON values for the manifest's header.
        note: A sentence for the user, or "".
    """

    drawn: np.ndarray
    values: Mapping[str, Mapping[int, Any]]
    counted: np.ndarray
    hit: np.ndarray
    details: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def changed(self) -> np.ndarray:
        """(N,) bool."""
        mask = np.zeros(len(self.drawn), dtype=bool)
        for rows in self.values.values():
            mask[list(rows)] = True
        return mask


class Kind(Protocol):
    """A kind of noise. Its options are the fields of a frozen dataclass.

    Class attributes:
        name: What ``--kind`` takes.
        label_types: Which manifests it makes noisy.
        definition: What it does, for ``--help``.
        default_rate: The rate where none is given; None asks for one.
        touches: Fields of a row that it may change.
    """

    name: ClassVar[str]
    label_types: ClassVar[tuple[str, ...]]
    definition: ClassVar[str]
    default_rate: ClassVar[float | None]
    touches: ClassVar[tuple[str, ...]]

    def options(self, classes: Sequence[str]) -> dict[str, Any]:
        """All options as JSON, what the noise id is hashed from; checks them.

        Raises:
            UserError: If they contradict each other or the classes.
        """
        ...

    def draw(self, task: Task) -> Change:
        """Draws the noise.

        Raises:
            UserError: If it is not possible on these rows.
        """
        ...
