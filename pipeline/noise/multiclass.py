"""Wrong classes: noise of manifests whose rows have one label each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from pipeline.errors import UserError, unknown_name
from pipeline.files import object_digest
from pipeline.noise.rates import whole
from pipeline.noise.training import Change, Task

__all__ = ["FLIPS", "Asymmetric", "Symmetric", "Transition", "check_matrix"]

FLIPS = ("pairflip", "cycle", "half", "custom")
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, kw_only=True)
class Symmetric:
    """Another class, each as likely; see ``definition``."""

    name: ClassVar[str] = "symmetric"
    label_types: ClassVar[tuple[str, ...]] = ("multiclass",)
    default_rate: ClassVar[float | None] = None
    touches: ClassVar[tuple[str, ...]] = ("labels",)
    definition: ClassVar[str] = (
        "Exactly floor(rate x N) training rows get one of the K-1 other classes, each as likely."
    )

    inclusive: bool = False

    def options(self, classes: Sequence[str]) -> dict[str, Any]:
        """See `Kind.options`."""
        _check_classes(self.name, classes)
        return {"inclusive": self.inclusive}

    def draw(self, task: Task) -> Change:
        """See `Kind.draw`."""
        old, k = task.training.labels, len(task.training.classes)
        if self.inclusive:
            new = task.streams.below("values", k, len(old))
        else:
            new = task.streams.below("values", k - 1, len(old))
            new += new >= old
        return _relabelled(task, task.choose(old), new)


@dataclass(frozen=True, kw_only=True)
class Asymmetric:
    """Each class has one it is mistaken for; see ``definition``.

    Attributes:
        flip: One of `FLIPS`.
        half_exact: Draw from mapped classes only, so that the realised rate is the nominal one.
        map: Class to class, for ``custom``; classes that it leaves out never change.
    """

    name: ClassVar[str] = "asymmetric"
    label_types: ClassVar[tuple[str, ...]] = ("multiclass",)
    default_rate: ClassVar[float | None] = None
    touches: ClassVar[tuple[str, ...]] = ("labels",)
    definition: ClassVar[str] = (
        "floor(rate x N) training rows are drawn from all classes and get the class that theirs is "
        "mapped to. pairflip: the next one in the order of the manifest's header, the last one to "
        "the first. cycle: the next one in a random cycle through all classes. half: floor(K/2) "
        "random classes are mapped one-to-one to as many others; rows of the rest stay as they "
        "are, so about half of the nominal rate is realised. custom: by --map."
    )

    flip: str = "pairflip"
    half_exact: bool = False
    map: Mapping[str, str] | None = None

    def options(self, classes: Sequence[str]) -> dict[str, Any]:
        """See `Kind.options`."""
        _check_classes(self.name, classes)
        if self.flip not in FLIPS:
            raise unknown_name("flip", self.flip, FLIPS)
        if (self.map is not None) != (self.flip == "custom"):
            raise UserError("--map FILE and --flip custom belong together; pass both or neither.")
        if self.half_exact and self.flip != "half":
            raise UserError("--half-exact belongs to --flip half; leave it out or pass that too.")
        options: dict[str, Any] = {"flip": self.flip, "half_exact": self.half_exact}
        if self.map is not None:
            _check_map(self.map, classes)
            options["map"] = dict(sorted(self.map.items()))
        return options

    def targets(self, task: Task) -> np.ndarray:
        """(K,) int64, the class that each class becomes; -1 where it stays."""
        classes = task.training.classes
        k = len(classes)
        target = np.full(k, -1, dtype=np.int64)
        if self.map is not None:
            column = {name: c for c, name in enumerate(classes)}
            for name, other in self.map.items():
                target[column[name]] = column[other]
            return target
        if self.flip == "pairflip":
            return (np.arange(k) + 1) % k
        order = task.fixed.order("classes", k)
        if self.flip == "cycle":
            target[order] = np.roll(order, -1)
        else:
            target[order[: k // 2]] = order[k // 2 : 2 * (k // 2)]
        return target

    def draw(self, task: Task) -> Change:
        """See `Kind.draw`."""
        classes, old = task.training.classes, task.training.labels
        target = self.targets(task)
        mapped = target[old] >= 0
        if self.half_exact:
            self._check_half(task, int(mapped.sum()))
        drawn = task.choose(old, mapped if self.half_exact else None)
        change = _relabelled(task, drawn, np.where(mapped, target[old], old))
        if self.flip in ("pairflip", "custom"):
            return change
        names = {classes[c]: classes[t] for c, t in enumerate(target) if t >= 0}
        return Change(change.drawn, change.values, change.counted, change.hit, {"map": names})

    def _check_half(self, task: Task, mapped: int) -> None:
        if task.nominal.by_class is not None:
            raise UserError("--half-exact and --rates exclude each other; leave one out.")
        n, wanted = len(task.training), whole(task.nominal.rate or 0.0, len(task.training))
        if wanted > mapped:
            raise UserError(
                f"--half-exact wants {wanted} rows of mapped classes and there are {mapped}; use "
                f"a rate of at most {mapped / n:.4f} or leave --half-exact out."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Transition:
    """Labels drawn from a matrix; see ``definition``.

    Attributes:
        matrix: (K, K), probability of each noisy label (column) given the label (row), in index
            order of the classes.
    """

    name: ClassVar[str] = "transition"
    label_types: ClassVar[tuple[str, ...]] = ("multiclass",)
    default_rate: ClassVar[float | None] = 1.0
    touches: ClassVar[tuple[str, ...]] = ("labels",)
    definition: ClassVar[str] = (
        "floor(rate x N) training rows (default: all) get a label drawn from their class's row of "
        "the matrix, which may be the one they have: the realised rate is about what stands off "
        "the diagonal."
    )

    matrix: np.ndarray | None = None

    def options(self, classes: Sequence[str]) -> dict[str, Any]:
        """See `Kind.options`."""
        _check_classes(self.name, classes)
        if self.matrix is None:
            raise UserError("--kind transition needs --matrix FILE; pass one, CSV or JSON.")
        # A matrix can be larger than its manifest; the digest is enough to know it again.
        return {"matrix": object_digest(check_matrix(self.matrix, classes).tolist(), 16)}

    def draw(self, task: Task) -> Change:
        """See `Kind.draw`."""
        old = task.training.labels
        cumulated = np.cumsum(check_matrix(self.matrix, task.training.classes), axis=1)
        uniform = task.streams.uniform("values", len(old))
        new = old.copy()
        for c in np.unique(old):
            rows = np.flatnonzero(old == c)
            # Over the last sum, so that rounding can never lead past the last class with a share.
            steps = cumulated[c] / cumulated[c, -1]
            new[rows] = np.searchsorted(steps, uniform[rows], side="right")
        change = _relabelled(task, task.choose(old), new)
        return replace(change, details={"nominal": self._nominal(task)})

    def _nominal(self, task: Task) -> dict[str, Any]:
        """The share of rows that get another label: of those drawn, what the matrix states.

        The rate itself, which the header records too, says only how many are drawn.
        """
        classes, counts = task.training.classes, task.training.holding
        matrix = check_matrix(self.matrix, classes)
        # 1 - diagonal, without its rounding: 1 - 0.9 is 0.09999999999999998.
        off = matrix.sum(axis=1, where=~np.eye(len(classes), dtype=bool))
        rate, by_class = task.nominal.rate or 0.0, task.nominal.by_class
        drawn = np.array([rate if by_class is None else by_class[name] for name in classes])
        shares = drawn * np.minimum(off, 1)
        return {
            "overall": float(shares @ counts / counts.sum()),
            "per_class": dict(zip(classes, shares.tolist(), strict=True)),
        }


def check_matrix(matrix: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Checks that a transition matrix is one.

    Args:
        matrix: (K, K) by class in index order.
        classes: K names.

    Returns:
        The matrix as float64.

    Raises:
        UserError: If it is not square, of other size, or not row-stochastic; names the row.
    """
    matrix = np.asarray(matrix, dtype=np.float64)
    k = len(classes)
    if matrix.shape != (k, k):
        raise UserError(
            f"The transition matrix has the shape {matrix.shape}, not ({k}, {k}); "
            "give one row and one column for each class of the manifest."
        )
    for name, row in zip(classes, matrix, strict=True):
        shares = np.isfinite(row) & (row >= 0)
        if not shares.all():
            raise UserError(
                f"Row {name!r} of the transition matrix holds {row[~shares][0]:g}; "
                "probabilities are numbers from 0 to 1."
            )
        if abs(row.sum() - 1) > SUM_TOLERANCE:
            raise UserError(
                f"Row {name!r} of the transition matrix sums to {row.sum():.6g}, not 1; "
                "every row holds the probabilities of all noisy labels of one class."
            )
    return matrix


def _check_classes(name: str, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise UserError(
            f"--kind {name} needs another class to change labels to, and the manifest has "
            f"{len(classes)}; add classes to its header or choose another kind."
        )


def _check_map(mapping: Mapping[str, str], classes: Sequence[str]) -> None:
    if not mapping:
        raise UserError(
            '--map names no class, so no row can change; give {"class": "other class"}.'
        )
    for name, other in mapping.items():
        for known in (name, other):
            if known not in classes:
                raise unknown_name("class", known, classes)
        if name == other:
            raise UserError(f"--map maps {name!r} to itself; leave out classes that never change.")


def _relabelled(task: Task, drawn: np.ndarray, new: np.ndarray) -> Change:
    """Gives drawn rows their (N,) new classes."""
    classes, old = task.training.classes, task.training.labels
    changed = np.flatnonzero(drawn & (new != old))
    labels = [(name,) for name in classes]
    values = {n: labels[c] for n, c in zip(changed.tolist(), new[changed].tolist(), strict=True)}
    hit = np.bincount(old[changed], minlength=len(classes))
    return Change(drawn, {"labels": values}, task.training.holding, hit)
