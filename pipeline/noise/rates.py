"""How many rows a noise draws, and which: the first ones of a permutation, so that sets nest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from pipeline.errors import UserError, unknown_name

__all__ = ["Nominal", "first_by_class", "whole"]


def whole(rate: float, n: int) -> int:
    """floor(rate x n), where 0.29 of 100 are 29 although the product is 28.999999999999996."""
    return math.floor(rate * n + 1e-9)


@dataclass(frozen=True)
class Nominal:
    """The asked rate: one for all rows, or one a class.

    Attributes:
        rate: Share of the rows, 0 to 1; None where every class has its own.
        by_class: Share by class, in index order; None where all share one.
    """

    rate: float | None
    by_class: Mapping[str, float] | None = None

    @classmethod
    def make(
        cls, rate: float | None, rates: Mapping[str, float] | None, classes: Sequence[str]
    ) -> Nominal:
        """Checks rates; classes that ``rates`` leaves out get ``rate``.

        Raises:
            UserError: If there is none, one is no share, or a class is unknown or left out.
        """
        if rate is not None:
            _check(rate, "The rate")
        if rates is None:
            if rate is None:
                raise UserError("No rate was given; pass --rate, such as 0.4, or --rates FILE.")
            return cls(float(rate))
        for name, value in rates.items():
            if name not in classes:
                raise unknown_name("class", name, classes)
            _check(value, f"The rate of class {name!r}")
        absent = [name for name in classes if name not in rates]
        if absent and rate is None:
            raise UserError(
                f"--rates leaves out {len(absent)} of {len(classes)} classes, first {absent[0]!r}; "
                "add them or pass --rate for the rest."
            )
        return cls(None, {name: float(rates.get(name, rate)) for name in classes})

    def quotas(self, counts: np.ndarray) -> np.ndarray:
        """How many of (K,) counted rows, or labels, of each class are drawn, (K,) int64."""
        rates = list((self.by_class or {}).values())
        return np.array([whole(r, int(n)) for r, n in zip(rates, counts, strict=True)], np.int64)

    def mean(self, counts: np.ndarray) -> float:
        """The rate of all rows together, from the (K,) rows that each class counts."""
        if self.by_class is None:
            return self.rate or 0.0
        rates = np.array(list(self.by_class.values()))
        return float(rates @ counts / counts.sum()) if counts.sum() else 0.0


def _check(rate: float, what: str) -> None:
    if isinstance(rate, bool) or not isinstance(rate, Real) or not 0 <= rate <= 1:
        raise UserError(f"{what} is {rate!r}; use a share from 0 to 1, such as 0.4.")


def first_by_class(order: np.ndarray, classes: np.ndarray, quotas: np.ndarray) -> np.ndarray:
    """The first ones of each class in a permutation.

    Args:
        order: (M,) int64, which of N come first.
        classes: (N,) int64, the class of each; -1 is never chosen.
        quotas: (K,) int64, how many of each class; a class that has fewer gives all.

    Returns:
        Those chosen out of ``order``, (L,) int64.
    """
    order = order[classes[order] >= 0]
    order = order[np.argsort(classes[order], kind="stable")]
    of = classes[order]
    counts = np.bincount(of, minlength=len(quotas))
    rank = np.arange(len(of)) - (np.cumsum(counts) - counts)[of]
    return order[rank < quotas[of]]
