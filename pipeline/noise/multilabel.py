"""Labels too few, too many, or in the wrong modality: noise of manifests with several a row.

With one rate, a drawn row changes in one label. With ``--rates`` each class has its own count and a
row can change in several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.errors import UserError, unknown_name
from pipeline.manifest import Row
from pipeline.noise.rates import first_by_class, whole
from pipeline.noise.training import Change, Entries, Task

__all__ = ["CHANGES", "MODALITIES", "Drop", "Modality", "Spurious"]

MODALITIES = ("audio", "visual")
CHANGES = ("flip", "remove", "add")
FIELDS = ("labels", "labels_audio", "labels_visual")


@dataclass(frozen=True, kw_only=True)
class Drop:
    """A label is missing; see ``definition``."""

    name: ClassVar[str] = "drop"
    label_types: ClassVar[tuple[str, ...]] = ("multilabel",)
    default_rate: ClassVar[float | None] = None
    touches: ClassVar[tuple[str, ...]] = FIELDS
    definition: ClassVar[str] = (
        "floor(rate x N) training rows lose one of their labels, each as likely, also from the "
        "lists of single modalities where a row has those. With --rates, class c is lost by "
        "floor(rate of c x the rows that hold it). A row's last label stays: only rows with two or "
        "more are drawn, and where they are too few, all of them."
    )

    allow_empty: bool = False

    def options(self, classes: Sequence[str]) -> dict[str, Any]:
        """See `Kind.options`."""
        return {"allow_empty": self.allow_empty}

    def draw(self, task: Task) -> Change:
        """See `Kind.draw`."""
        entries = task.training.entries
        spare = entries.counts >= (1 if self.allow_empty else 2)
        chosen = _one_a_row(task, entries.counts, "values")
        if task.nominal.by_class is None:
            drawn = task.choose(eligible=spare)
            lost = chosen[drawn]
        else:
            may = np.ones(len(entries.row), dtype=bool)
            if not self.allow_empty:
                # One label of each row is safe whatever the rates are, so that sets nest.
                may[chosen[chosen >= 0]] = False
            lost, drawn = _cells_by_class(task, entries.row, np.where(may, entries.cls, -1))
        rows, cls = entries.row[lost], entries.cls[lost]
        values = {field: _without(task, field, rows, cls) for field in FIELDS}
        return _change(task, drawn, values, cls, int(spare.sum()), "a label to spare")


@dataclass(frozen=True, kw_only=True)
class Spurious:
    """A label too many; see ``definition``."""

    name: ClassVar[str] = "spurious"
    label_types: ClassVar[tuple[str, ...]] = ("multilabel",)
    default_rate: ClassVar[float | None] = None
    touches: ClassVar[tuple[str, ...]] = FIELDS
    definition: ClassVar[str] = (
        "floor(rate x N) training rows gain one label that they lack, each as likely, also in the "
        "lists of single modalities where a row has those. With --rates, class c is gained by "
        "floor(rate of c x the rows that lack it)."
    )

    def options(self, classes: Sequence[str]) -> dict[str, Any]:
        """See `Kind.options`."""
        if len(classes) < 2:
            raise UserError(
                f"--kind spurious needs two classes or more, the manifest has {len(classes)}; add "
                "classes to its header or choose another kind."
            )
        return {}

    def draw(self, task: Task) -> Change:
        """See `Kind.draw`."""
        training = task.training
        entries, n, k = training.entries, len(training), len(training.classes)
        lacking = n - training.holding
        if task.nominal.by_class is None:
            absent = k - entries.counts
            drawn = task.choose(eligible=absent > 0)
            cls = task.streams.below("values", absent, n)
            held = entries.padded()
            # The j-th absent class: every held class that is not larger moves it on by one.
            for column in held.T:
                cls += (column >= 0) & (column <= cls)
            rows, cls = np.flatnonzero(drawn), cls[drawn]
        else:
            rows, cls = self._by_class(task, task.nominal.quotas(lacking))
            drawn = np.isin(np.arange(n), rows)
        values = {field: _with(task, field, rows, cls) for field in FIELDS}
        possible = int((entries.counts < k).sum())
        return _change(task, drawn, values, cls, possible, "a label to gain", counted=lacking)

    def _by_class(self, task: Task, quotas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows and classes that they gain. One class at a time: absent labels are many."""
        entries, n = task.training.entries, len(task.training)
        rows, cls = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for c in np.flatnonzero(quotas):
            lacks = np.ones(n, dtype=bool)
            lacks[entries.row[entries.cls == c]] = False
            order = task.streams.order(f"cells {task.training.classes[c]}", n)
            rows.append(order[lacks[order]][: quotas[c]])
            cls.append(np.full(len(rows[-1]), c))
        return np.concatenate(rows), np.concatenate(cls)


@dataclass(frozen=True, kw_only=True)
class Modality:
    """A label in the wrong modality; see ``definition``.

    Attributes:
        change: One of `CHANGES`.
        modality: Out of `MODALITIES`, the one whose list changes; None for either.
    """

    name: ClassVar[str] = "modality"
    label_types: ClassVar[tuple[str, ...]] = ("multilabel",)
    default_rate: ClassVar[float | None] = None
    touches: ClassVar[tuple[str, ...]] = ("labels_audio", "labels_visual")
    definition: ClassVar[str] = (
        "In floor(rate x N) training rows one of the clip's labels, each as likely, changes in the "
        "list of one modality: it is removed where both modalities hold it, and added where one "
        "does not (--change remove or add does one of the two). The clip's own labels stay, and "
        "each stays in one modality at least; a modality may end without any. With --rates, class "
        "c changes in floor(rate of c x the rows that hold it)."
    )

    change: str = "flip"
    modality: str | None = None

    def options(self, classes: Sequence[str]) -> dict[str, Any]:
        """See `Kind.options`."""
        if self.change not in CHANGES:
            raise unknown_name("change", self.change, CHANGES)
        if self.modality is not None and self.modality not in MODALITIES:
            raise unknown_name("modality", self.modality, MODALITIES)
        return {"change": self.change, "modality": self.modality}

    def draw(self, task: Task) -> Change:
        """See `Kind.draw`."""
        training, entries = task.training, task.training.entries
        held = np.stack([_held(training.rows, entries, training.classes, m) for m in MODALITIES], 1)
        entry, side = np.nonzero(self._changeable(held))  # (M,) cells, by row
        of_row = np.bincount(entries.row[entry], minlength=len(training))
        if task.nominal.by_class is None:
            drawn = task.choose(eligible=of_row > 0)
            cells = _one_a_row(task, of_row, "values")[drawn]
        else:
            # A label changes in one modality at most, else it could leave both.
            of_entry = np.bincount(entry, minlength=len(entries.row))
            first = np.cumsum(of_entry) - of_entry
            picked = first + task.streams.below("side", of_entry, len(of_entry))
            cls = np.where(of_entry > 0, entries.cls, -1)
            changed, drawn = _cells_by_class(task, entries.row, cls)
            cells = picked[changed]
        entry, side = entry[cells], side[cells]
        rows, cls = entries.row[entry], entries.cls[entry]
        values = {}
        for m, name in enumerate(MODALITIES):
            field, here = f"labels_{name}", side == m
            values[field] = self._rewritten(task, field, rows[here], cls[here])
        return _change(task, drawn, values, cls, int((of_row > 0).sum()), "such a label")

    def _changeable(self, held: np.ndarray) -> np.ndarray:
        """Which of (E, 2) held labels may change, (E, 2) bool."""
        both = held.all(axis=1, keepdims=True)
        may = {"flip": both | ~held, "remove": both & held, "add": ~held}[self.change]
        if self.modality is not None:
            may[:, 1 - MODALITIES.index(self.modality)] = False
        return may

    def _rewritten(
        self, task: Task, field: str, rows: np.ndarray, cls: np.ndarray
    ) -> dict[int, tuple[str, ...]]:
        names = task.training.classes
        index = {name: c for c, name in enumerate(names)}
        values: dict[int, tuple[str, ...]] = {}
        for n, c in zip(rows.tolist(), cls.tolist(), strict=True):
            row = task.training.rows[n]
            own = getattr(row, field)
            old = values.get(n, row.labels if own is None else own)
            # It was there if it is removed and was not if it is added: the same operation.
            values[n] = _sorted(set(old) ^ {names[c]}, index)
        return values


def _one_a_row(task: Task, counts: np.ndarray, purpose: str) -> np.ndarray:
    """One of each row's cells, uniformly: (N,) positions in the flat list; -1 for rows of none."""
    first = np.cumsum(counts) - counts
    picked = first + task.streams.below(purpose, counts, len(counts))
    return np.where(counts > 0, picked, -1)


def _cells_by_class(
    task: Task, rows: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draws labels by the rate of their class.

    Args:
        task: What is drawn.
        rows: (E,) int64, the row of each label.
        classes: (E,) int64, its class; -1 for labels that may not be drawn.

    Returns:
        The labels drawn, (L,) int64, and the rows that they are in, (N,) bool.
    """
    order = task.streams.order("cells", len(rows))
    cells = first_by_class(order, classes, task.nominal.quotas(task.training.holding))
    drawn = np.zeros(len(task.training), dtype=bool)
    drawn[rows[cells]] = True
    return np.sort(cells), drawn


def _held(
    rows: Sequence[Row], entries: Entries, classes: Sequence[str], modality: str
) -> np.ndarray:
    """Whether a modality holds each of the clips' labels, (E,) bool."""
    held = np.ones(len(entries.row), dtype=bool)
    starts = entries.starts
    for n, row in enumerate(rows):
        own = getattr(row, f"labels_{modality}")
        if own is not None:
            cells = slice(starts[n], starts[n] + entries.counts[n])
            held[cells] = [classes[c] in own for c in entries.cls[cells]]
    return held


def _without(
    task: Task, field: str, rows: np.ndarray, cls: np.ndarray
) -> dict[int, tuple[str, ...]]:
    """New lists of one field for rows that lose classes; one row may stand several times."""
    names = task.training.classes
    lost: dict[int, set[str]] = {}
    for n, c in zip(rows.tolist(), cls.tolist(), strict=True):
        lost.setdefault(n, set()).add(names[c])
    values = {}
    for n, gone in lost.items():
        old = getattr(task.training.rows[n], field)
        if old is not None and not gone.isdisjoint(old):
            values[n] = tuple(name for name in old if name not in gone)
    return values


def _with(task: Task, field: str, rows: np.ndarray, cls: np.ndarray) -> dict[int, tuple[str, ...]]:
    """New lists of one field for rows that gain classes; one row may stand several times."""
    names = task.training.classes
    index = {name: c for c, name in enumerate(names)}
    gained: dict[int, set[str]] = {}
    for n, c in zip(rows.tolist(), cls.tolist(), strict=True):
        gained.setdefault(n, set()).add(names[c])
    values = {}
    for n, more in gained.items():
        old = getattr(task.training.rows[n], field)
        if old is not None and not more.issubset(old):
            values[n] = _sorted(more.union(old), index)
    return values


def _sorted(labels: set[str], index: dict[str, int]) -> tuple[str, ...]:
    # In class order: a label that was put last would tell that it is new.
    return tuple(sorted(labels, key=index.__getitem__))


def _change(
    task: Task,
    drawn: np.ndarray,
    values: dict[str, dict[int, tuple[str, ...]]],
    cls: np.ndarray,
    possible: int,
    what: str,
    *,
    counted: np.ndarray | None = None,
) -> Change:
    """Puts a change together and says where fewer rows were drawn than the rate asks for.

    Args:
        task: What was drawn.
        drawn: (N,) bool.
        values: New lists by field.
        cls: (L,) int64, the class of each label that changed.
        possible: Rows that could be drawn.
        what: What those have.
        counted: (K,) what rates are shares of; default the rows that hold each class.
    """
    training = task.training
    counted = training.holding if counted is None else counted
    hit = np.bincount(cls, minlength=len(training.classes))
    note = ""
    if task.nominal.by_class is None:
        wanted = whole(task.nominal.rate or 0.0, len(training))
        if wanted > possible:
            note = (
                f"{possible} of {len(training)} training rows have {what}; "
                f"all were drawn instead of {wanted}."
            )
    elif (short := np.flatnonzero(hit < task.nominal.quotas(counted))).size:
        c = short[0]
        note = (
            f"{len(short)} classes have fewer rows with {what} than their rates ask for, first "
            f"{training.classes[c]!r}: {hit[c]} of {task.nominal.quotas(counted)[c]}."
        )
    kept = {field: rows for field, rows in values.items() if rows}
    return Change(drawn, kept, counted, hit, note=note)
