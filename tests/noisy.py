"""Manifests to make noisy, for tests."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipeline.manifest import Header, Manifest, Row
from pipeline.noise import Injection

__all__ = ["audio_of", "labels_of", "make_manifest", "names"]


def names(classes: int) -> tuple[str, ...]:
    """Class names, in an order that is not alphabetical."""
    return tuple(f"{chr(122 - c % 26)}{c}" for c in range(classes))


def make_manifest(
    n: int = 40,
    classes: int = 5,
    *,
    label_type: str = "multiclass",
    seed: int = 0,
    pool: int = 0,
    lists: bool = False,
) -> Manifest:
    """A manifest of ``n`` training rows among some of all other splits, in no order.

    Args:
        n: Training rows.
        classes: K.
        label_type: Multilabel rows have 1 to K labels, rarely none.
        seed: Of labels and order.
        pool: Rows of split pool.
        lists: Whether about half of the rows have labels of single modalities.
    """
    rng = np.random.default_rng(seed)
    known = names(classes)
    rows = []
    sizes = {"train": n, "val": 4, "test": 4, "pool": pool}
    for split, size in sizes.items():
        for i in range(size):
            labels: tuple[str, ...] = ()
            if label_type == "multiclass":
                labels = (known[rng.integers(classes)],)
            elif label_type == "multilabel":
                labels = tuple(rng.permutation(known)[: rng.integers(0, classes + 1)].tolist())
            own = {}
            if lists and i % 2:
                own["labels_audio"] = tuple(x for x in labels if rng.random() < 0.6)
            rows.append(
                Row(
                    id=f"{split}{i}",
                    start=0.5,
                    end=10.0,
                    split=split,
                    labels=labels,
                    video=f"{split}/{i // 2}.mp4",
                    **own,
                )
            )
    order = rng.permutation(len(rows))
    header = Header("made", label_type, known if label_type != "none" else ())
    return Manifest(header, tuple(rows[i] for i in order))


def labels_of(manifest: Manifest | Injection, split: str = "train") -> dict[str, tuple[str, ...]]:
    """Labels by row id, in the order of the classes."""
    return {row.id: tuple(sorted(row.labels)) for row in _rows(manifest, split)}


def audio_of(manifest: Manifest | Injection, split: str = "train") -> dict[str, str]:
    """Audio ids by row id."""
    return {row.id: row.audio_id for row in _rows(manifest, split)}


def _rows(manifest: Manifest | Injection, split: str) -> Iterable[Row]:
    return (manifest.manifest if isinstance(manifest, Injection) else manifest).split(split)
