"""Small recognition corpora on disk for tests: a manifest, noise and its truth, a store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from features.store import Store
from pipeline.manifest import Header, Manifest, Row, read_manifest, write_manifest
from pipeline.noise import Correspondence, Symmetric, inject, write_noisy
from tests.corpora import commit
from tests.recognition import make_inputs

__all__ = ["FEATURES", "make_noisy", "write_action_corpus"]

FEATURES = ["--features", "audio=sound", "visual=sight"]
CLASSES = 5


def write_action_corpus(
    folder: Path,
    *,
    sizes: tuple[int, int, int] = (40, 15, 20),
    clips: int = 3,
    failed: Collection[str] = (),
    deaf: Collection[str] = (),
    dataset: str = "made",
) -> tuple[Path, Path]:
    """Writes a clean multiclass corpus whose features carry signal; two videos make a group.

    Args:
        folder: Where to.
        sizes: Videos of train, val and test.
        clips: Of each video.
        failed: Rows without a visual feature.
        deaf: Rows without an audio feature.
        dataset: Its name.

    Returns:
        The manifest and the store.
    """
    names = tuple(f"class {c}" for c in range(CLASSES))
    rows, labels = [], []
    for split, size in zip(("train", "val", "test"), sizes, strict=True):
        for n in range(size):
            labels.append(n % CLASSES)
            rows.append(
                Row(id=f"{split}{n}", start=0, end=10, split=split, labels=(names[n % CLASSES],),
                    group=f"{split} source {n // 2}")
            )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    manifest = write_manifest(
        Manifest(Header(dataset, "multiclass", names), tuple(rows)), folder / "made.jsonl"
    )
    store = Store(folder / "store")
    inputs = make_inputs(np.array(labels), seed=7, clips=clips)
    for name, x, broken in (("sound", inputs.audio, deaf), ("sight", inputs.visual, failed)):
        commit(store, name, manifest, x.numpy(), set(broken))
    return folder / "made.jsonl", folder / "store"


def make_noisy(
    clean: Path, *, label: float = 0.4, audio: float = 0.25, seed: int = 0, name: str = "noisy"
) -> Path:
    """Writes a noisy manifest and its truth beside a clean one."""
    manifest = read_manifest(clean)
    kinds: Sequence[tuple[object, float]] = ((Symmetric(), label), (Correspondence(), audio))
    truth = None
    for kind, rate in kinds:
        injection = inject(manifest, kind, rate=rate, seed=seed, truth=truth)
        manifest, truth = injection.manifest, injection.truth
    return write_noisy(injection, clean.with_name(f"{name}.jsonl"))
