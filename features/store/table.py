"""Features of some clips in memory, with the status of every one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import UserError

__all__ = ["FeatureTable"]


@dataclass(frozen=True)
class FeatureTable:
    """The features of N manifest rows, in the order they were asked for.

    Attributes:
        ids: N row ids.
        x: (sum of T, ...) values.
        offset: (N + 1,) int64; row n is ``x[offset[n]:offset[n + 1]]``.
        t: (sum of T,) float64 seconds of each step from its clip's start.
        status: (N,) texts out of `pipeline.errors.MEDIA_STATUSES`.
        reason: (N,) texts, empty where the status is ``ok``.
        name: The feature, for errors.
    """

    ids: tuple[str, ...]
    x: np.ndarray
    offset: np.ndarray
    t: np.ndarray
    status: np.ndarray
    reason: np.ndarray
    name: str = "feature"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def ok(self) -> np.ndarray:
        """(N,) bool: which rows have features."""
        return self.status == "ok"

    @property
    def lengths(self) -> np.ndarray:
        """(N,) int64 steps of each row; 0 where it failed."""
        return np.diff(self.offset)

    def row(self, n: int) -> np.ndarray:
        """(T, ...) values of one row, a view."""
        return self.x[self.offset[n] : self.offset[n + 1]]

    def stacked(self) -> np.ndarray:
        """The values as one array, a view.

        Returns:
            (N, T, ...).

        Raises:
            UserError: If the rows differ in length, which failed rows (length 0) always do.
        """
        lengths = self.lengths
        if len(lengths) and (lengths != lengths[0]).any():
            odd = int(np.flatnonzero(lengths != np.bincount(lengths).argmax())[0])
            what = f"{int(lengths[odd])} steps" if self.status[odd] == "ok" else self.status[odd]
            raise UserError(
                f"The rows of {self.name} differ in length ({self.ids[odd]}: {what}); leave out "
                "failed rows and cut the clips of the manifest to equal length."
            )
        steps = int(lengths[0]) if len(lengths) else 0
        return self.x.reshape(len(self), steps, *self.x.shape[1:])

    def select(self, index: np.ndarray | Sequence[int] | Any) -> FeatureTable:
        """Some of the rows.

        Args:
            index: (M,) row numbers, or (N,) bool.

        Returns:
            A table of M rows; its values are views if the rows lie one after the other.
        """
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index.astype(np.int64)
        lengths = self.lengths[index]
        offset = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        if len(index) and (np.diff(index) == 1).all():
            steps: Any = slice(self.offset[index[0]], self.offset[index[-1] + 1])
        else:
            begin = self.offset[index] - offset[:-1]
            steps = np.repeat(begin, lengths) + np.arange(offset[-1])
        return FeatureTable(
            tuple(self.ids[n] for n in index),
            self.x[steps],
            offset,
            self.t[steps],
            self.status[index],
            self.reason[index],
            self.name,
        )
