"""Sound that does not belong to the picture: rows that carry the audio of other rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pipeline.errors import UserError, unknown_name
from pipeline.manifest import Row
from pipeline.noise.donors import cycle, repair, shares
from pipeline.noise.training import Change, Entries, Task

__all__ = ["DONORS", "Correspondence"]

DONORS = ("derangement", "shuffle", "external")


@dataclass(frozen=True, kw_only=True)
class Correspondence:
    """Audio of another row; see ``definition``.

    Attributes:
        donors: One of `DONORS`.
        different_class: Whether donor and row must have no label in common.
    """

    name: ClassVar[str] = "correspondence"
    label_types: ClassVar[tuple[str, ...]] = ("multiclass", "multilabel", "none")
    default_rate: ClassVar[float | None] = None
    touches: ClassVar[tuple[str, ...]] = ("audio_id",)
    definition: ClassVar[str] = (
        "floor(rate x N) training rows get the audio of another row; labels stay with the picture. "
        "derangement: the drawn rows exchange audio in one random cycle, so that all change (one "
        "row alone is an error). shuffle: they exchange it by a uniform permutation, in which about"
        " one row keeps its own. external: audio of rows of split pool, each lent once before one "
        "is lent twice. --different-class: the audio's row shares no label with the row that gets "
        "it, by the labels of IN (unlabelled rows share none). With --rates a row of several "
        "labels is counted under one of them, drawn at random."
    )

    donors: str = "derangement"
    different_class: bool = False

    def options(self, classes: Sequence[str]) -> dict[str, Any]:
        """See `Kind.options`."""
        if self.donors not in DONORS:
            raise unknown_name("kind of donors", self.donors, DONORS)
        if self.different_class and not classes:
            raise UserError(
                "--different-class needs labels and this manifest has none; leave it out."
            )
        return {"donors": self.donors, "different_class": self.different_class}

    def draw(self, task: Task) -> Change:
        """See `Kind.draw`."""
        training = task.training
        drawn = task.choose(_counted_under(task))
        rows = training.manifest.rows
        place = {row.id: n for n, row in enumerate(rows)}
        old = np.fromiter((place[r.audio_id] for r in training.rows), np.int64, len(training))
        new, details = old.copy(), {}
        if self.donors == "external":
            lent = self._external(task, drawn, old)
            new[drawn] = lent
            unique = len(np.unique(lent))
            pool = sum(row.split == "pool" for row in rows)
            details["donors"] = {"pool": pool, "used": unique, "reused": unique < len(lent)}
        else:
            new[drawn] = self._exchanged(task, drawn, old)
        changed = np.flatnonzero(new != old)
        values = {
            n: rows[a].id for n, a in zip(changed.tolist(), new[changed].tolist(), strict=True)
        }
        mask = np.zeros(len(training), dtype=bool)
        mask[changed] = True
        entries, k = training.entries, len(training.classes)
        hit = np.bincount(entries.cls[mask[entries.row]], minlength=k)
        return Change(drawn, {"audio_id": values}, training.holding, hit, details)

    def _exchanged(self, task: Task, drawn: np.ndarray, old: np.ndarray) -> np.ndarray:
        """The audio of drawn rows after an exchange among themselves, (M,) int64.

        Args:
            task: What is drawn.
            drawn: (N,) bool, M of them.
            old: (N,) int64, the row in the manifest whose audio each carries.
        """
        rows = np.flatnonzero(drawn)
        audio, m = old[rows], len(rows)
        if self.donors == "derangement" and m == 1:
            n = len(task.training)
            enough = f"a rate of at least {math.ceil(2e4 / n) / 1e4:g} or " if n > 1 else ""
            raise UserError(
                f"One row of {n} was drawn and cannot exchange audio with itself; use {enough}"
                "--donors external."
            )
        donor = cycle(task.streams, m)
        if self.donors == "shuffle":
            donor = task.streams.order("donors", m)
        manifest = task.training.manifest
        own = _classes(task, [task.training.rows[n] for n in rows])
        lent = _classes(task, [manifest.rows[a] for a in audio])
        if self.different_class:
            self._check_possible(task, own, lent)

        def allowed(places: np.ndarray, donors: np.ndarray) -> np.ndarray:
            good = np.ones(len(places), dtype=bool)
            if self.donors == "derangement":
                # A donor may carry the same audio after an earlier noise.
                good &= audio[donors] != audio[places]
            if self.different_class:
                good &= ~shares(own[places], lent[donors])
            return good

        left = repair(donor, allowed, task.streams, block=max(1, m))
        if len(left):
            row = task.training.rows[rows[left[0]]]
            raise UserError(
                f"No exchange among the {m} drawn rows gives row {row.id!r} and {len(left) - 1} "
                "more an audio that is allowed; use --donors external, a higher rate or fewer "
                "conditions."
            )
        return audio[donor]

    def _check_possible(self, task: Task, own: np.ndarray, lent: np.ndarray) -> None:
        """An exchange between classes needs room: those of one class must find others."""
        if task.training.manifest.header.label_type != "multiclass":
            return
        k, m = len(task.training.classes), len(own)
        taken = np.bincount(own[own >= 0], minlength=k) + np.bincount(lent[lent >= 0], minlength=k)
        if (taken > m).any():
            c = int(np.argmax(taken))
            raise UserError(
                f"Class {task.training.classes[c]!r} has {taken[c] / 2:g} of the {m} drawn rows, "
                "more than half, so they cannot all get audio of another class; use --donors "
                "external or give that class a lower rate with --rates."
            )

    def _external(self, task: Task, drawn: np.ndarray, old: np.ndarray) -> np.ndarray:
        """The pool row that lends its audio to each drawn row, (M,) int64.

        A donor depends on the row's rank in the permutation of all rows, not on how many of them
        are drawn: every so many ranks as the pool has rows, the pool is dealt out once.
        """
        manifest, n = task.training.manifest, len(task.training)
        found = [i for i, row in enumerate(manifest.rows) if row.split == "pool"]
        # In id order, as the training rows are.
        pool = np.array(sorted(found, key=lambda i: manifest.rows[i].id), dtype=np.int64)
        size = len(pool)
        if not size:
            raise UserError(
                "--donors external needs rows of split pool and there are none; pass --pool FILE "
                "or use --donors derangement."
            )
        ranked = task.order()
        deals = -(-n // size)
        words = task.streams.words("donors", deals * size).reshape(deals, size)
        donor = np.argsort(words, axis=1, kind="stable").ravel()
        own = _classes(task, task.training.rows)
        lent = _classes(task, [manifest.rows[i] for i in pool])

        def allowed(places: np.ndarray, donors: np.ndarray) -> np.ndarray:
            good = places >= n  # Ranks that fill the last deal belong to no row.
            rows = ranked[np.minimum(places, n - 1)]
            fits = pool[donors] != old[rows]
            if self.different_class:
                fits &= ~shares(own[rows], lent[donors])
            return good | fits

        left = repair(donor, allowed, task.streams, block=size)
        left = left[left < n]
        spare = task.streams.uniform("spare", n)
        for place in left[drawn[ranked[left]]]:
            fitting = np.flatnonzero(allowed(np.full(size, place), np.arange(size)))
            if not len(fitting):
                row = task.training.rows[ranked[place]]
                raise UserError(
                    f"No row of the pool may lend its audio to row {row.id!r} "
                    f"({', '.join(row.labels) or 'no label'}); add rows of other classes with "
                    "--pool or leave --different-class out."
                )
            donor[place] = fitting[int(spare[place] * len(fitting))]
        by_row = np.empty(n, dtype=np.int64)
        by_row[ranked] = donor[:n]
        return pool[by_row[drawn]]


def _counted_under(task: Task) -> np.ndarray:
    """(N,) int64, the class whose rate is a row's: its label, or one of them; -1 without any."""
    entries = task.training.entries
    pick = task.streams.below("counted", entries.counts, len(entries.counts))
    cls = np.full(len(entries.counts), -1, dtype=np.int64)
    some = entries.counts > 0
    cls[some] = entries.cls[(entries.starts + pick)[some]]
    return cls


def _classes(task: Task, rows: Sequence[Row]) -> np.ndarray:
    """(L, A) int64, the classes of rows, filled with -1."""
    return Entries.of([row.labels for row in rows], task.training.classes).padded()
