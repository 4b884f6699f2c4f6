"""Choosing rows by seed, so that a choice can be repeated anywhere from the same lists."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from pipeline.errors import UserError
from pipeline.manifest.schema import Row

__all__ = ["check_share", "choose", "hold_out"]

_SAMPLE, _HOLD_OUT = 0, 1


def choose(names: Iterable[str], count: int, *, seed: int, key: str) -> tuple[str, ...]:
    """Chooses some of a set of names.

    The choice depends on the set, not on its order, and on nothing that is chosen under another
    key; a smaller one is the beginning of a larger one.

    Args:
        names: What to choose from.
        count: How many; all of them if there are fewer.
        seed: 0 or more.
        key: Names the choice, such as ``"train/archery"``.

    Returns:
        The chosen names, in the order of choice.
    """
    return _shuffled(names, seed, key, _SAMPLE)[:count]


def check_share(share: float) -> None:
    """Checks a share to hold out, before work that would be lost.

    Raises:
        UserError: If it is not from 0 to below 1.
    """
    if not 0 <= share < 1:
        raise UserError(f"--val-share is {share:g}; use a share from 0 to below 1.")


def hold_out(rows: Sequence[Row], share: float, *, seed: int) -> tuple[Row, ...]:
    """Moves a share of the training groups of every class to the validation split.

    Groups are whole, because clips of one source are nearly the same. A class with a single
    group keeps it for training.

    Args:
        rows: Multiclass rows of any splits.
        share: Of the groups of a class, below 1; rounded, but at least one group.
        seed: 0 or more.

    Returns:
        All rows in the same order; those held out have the split ``val``.

    Raises:
        UserError: If the share is not from 0 to below 1.
    """
    check_share(share)
    if share == 0:
        return tuple(rows)
    groups: dict[str, set[str]] = {}
    for row in rows:
        if row.split == "train":
            groups.setdefault(row.labels[0], set()).add(row.group)
    held: set[str] = set()
    for label, names in groups.items():
        count = min(max(1, round(share * len(names))), len(names) - 1)
        held.update(_shuffled(names, seed, label, _HOLD_OUT)[:count])
    return tuple(
        replace(row, split="val") if row.split == "train" and row.group in held else row
        for row in rows
    )


def _shuffled(names: Iterable[str], seed: int, key: str, purpose: int) -> tuple[str, ...]:
    if seed < 0:
        raise UserError(f"--seed is {seed}; use 0 or more.")
    digest = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=(purpose, digest)))
    ordered = sorted(set(names))
    return tuple(ordered[k] for k in rng.permutation(len(ordered)))
