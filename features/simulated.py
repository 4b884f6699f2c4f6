"""Simulated instances: pairs of features with a class, an identity and nuisance of their own.

    manifest, store = simulated_corpus("data/simulated")

A benchmark that costs seconds and whose truth is known: what is seen and heard of an instance
shares a latent vector and nothing else. Noise is put into its manifest as into any other; sounds of
another source come from its pool. The constants are those of benchmark S, on which methods against
noisy labels and noisy correspondence have known results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.sources import row_media
from features.spec import FeatureSpec
from features.store import Row as StoredRow
from features.store import RowKey, Shard, Store
from pipeline.errors import UserError
from pipeline.grid import SegmentGrid
from pipeline.manifest import SPLITS, Header, Manifest, Row, read_manifest, write_manifest

__all__ = [
    "SIMULATED_FEATURES",
    "SIMULATED_SIZES",
    "Instances",
    "Simulation",
    "simulate_instances",
    "simulated_corpus",
]

SIMULATED_FEATURES = {"audio": "simulated_audio", "visual": "simulated_visual"}
"""Feature by role."""
SIMULATED_SIZES = {"train": 2000, "val": 0, "test": 600, "pool": 2000}
"""Instances of each split of benchmark S."""

_SECONDS = 2.0
_SHARD_ROWS = 512
_VERSION = 1
"""Raised by hand whenever a value of a seed changes."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """How instances are made; the defaults are benchmark S.

    Attributes:
        classes: K.
        latent: Numbers that picture and sound of an instance share.
        width: Numbers of a clip's feature in each modality.
        clips: Clips of an instance (C).
        spread: Standard deviation of instances around their class centre, whose own is 1.
        nuisance: Standard deviation of what is an instance's and one modality's alone.
        noise: Standard deviation of what is one clip's alone.
    """

    classes: int = 20
    latent: int = 16
    width: int = 64
    clips: int = 4
    spread: float = 0.7
    nuisance: float = 1.0
    noise: float = 0.5

    def __post_init__(self) -> None:
        for name in ("classes", "latent", "width", "clips"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Instances:
    """N simulated instances.

    Attributes:
        visual, audio: (N, C, D) float32.
        labels: (N,) int64 classes, uniform over K.
    """

    visual: np.ndarray
    audio: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def simulate_instances(
    count: int, *, seed: int, split: str = "train", simulation: Simulation | None = None
) -> Instances:
    """Draws instances: a clip's feature is ReLU(u W + n M + noise), W and M of its modality.

    u is the class centre plus the instance's own deviation, the same for picture and sound; n is
    the nuisance of one instance in one modality. Centres, W and M depend on the seed alone; the
    first n instances of a split do not depend on how many there are.

    Args:
        count: N.
        seed: Of everything.
        split: Names the draw: two splits of a seed share the world and no instance.
        simulation: The constants.

    Raises:
        ValueError: If there are fewer than 0 instances.
    """
    if count < 0:
        raise ValueError(f"there cannot be {count} instances")
    sim = simulation or Simulation()
    centres = _stream(seed, "centres").standard_normal((sim.classes, sim.latent))
    labels = _stream(seed, split, "labels").integers(sim.classes, size=count)
    own = _stream(seed, split, "instances").standard_normal((count, sim.latent))
    u = centres[labels] + sim.spread * own  # (N, latent)
    seen = {}
    for modality in ("visual", "audio"):
        # Standard deviation 1/4 at 16 latent numbers: sums then have about that of one of them.
        mixing, disturbing = _stream(seed, modality).standard_normal(
            (2, sim.latent, sim.width)
        ) / np.sqrt(sim.latent)
        n = _stream(seed, split, modality, "nuisance").standard_normal((count, sim.latent))
        clip = _stream(seed, split, modality, "clips").standard_normal(
            (count, sim.clips, sim.width)
        )
        instance = u @ mixing + sim.nuisance * n @ disturbing  # (N, D)
        x = np.maximum(instance[:, None] + sim.noise * clip, 0.0)  # (N, C, D)
        seen[modality] = x.astype(np.float32)
    return Instances(seen["visual"], seen["audio"], labels)


def simulated_corpus(
    folder: Path | str,
    seed: int = 0,
    *,
    sizes: dict[str, int] | None = None,
    simulation: Simulation | None = None,
) -> tuple[Path, Path]:
    """Writes a manifest of simulated instances and commits their features, `SIMULATED_FEATURES`.

    Rows have no video and their features are keyed by row, as imported ones are. What is there is
    left as it is.

    Args:
        folder: Gets ``manifest.jsonl`` and ``store``; one folder a seed.
        seed: Of the instances.
        sizes: Instances by split; default `SIMULATED_SIZES`.
        simulation: The constants.

    Returns:
        The manifest and the store.

    Raises:
        UserError: If a size or split makes no sense, or the folder holds another corpus.
    """
    folder = Path(folder)
    sim = simulation or Simulation()
    sizes = dict(SIMULATED_SIZES if sizes is None else sizes)
    for split, size in sizes.items():
        if split not in SPLITS or size < 0:
            raise UserError(
                f"{size} instances of {split!r} make no sense; give 0 or more of "
                f"{', '.join(SPLITS)}."
            )
    names = [f"class {k:02d}" for k in range(sim.classes)]
    store = Store(folder / "store")
    rows: list[Row] = []
    made: list[Instances] = []
    for split, size in sizes.items():
        made.append(simulate_instances(size, seed=seed, split=split, simulation=sim))
        rows += [_row(split, n, names[label], sim.clips) for n, label in enumerate(made[-1].labels)]
    header = Header(f"simulated-{seed}", "multiclass", tuple(names))
    manifest = Manifest(header, tuple(rows), folder / "manifest.jsonl")
    if manifest.path.exists():
        if read_manifest(manifest.path) != manifest:
            raise UserError(f"{folder} holds another simulated corpus; give another folder.")
    else:
        write_manifest(manifest, manifest.path)
    for role, name in SIMULATED_FEATURES.items():
        x = np.concatenate([getattr(instances, role) for instances in made])
        _commit(store, _spec(name, role, seed, sim), manifest, x)
    return manifest.path, store.path


def _stream(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and its name only."""
    key = hashlib.sha256("/".join((str(seed), *names)).encode()).digest()
    return np.random.default_rng(int.from_bytes(key[:16], "big"))


def _row(split: str, n: int, label: str, clips: int) -> Row:
    return Row(id=f"{split}-{n:05d}", start=0.0, end=clips * _SECONDS, split=split, labels=(label,))


def _grid() -> SegmentGrid:
    return SegmentGrid(hop=_SECONDS)


def _spec(name: str, role: str, seed: int, sim: Simulation) -> FeatureSpec:
    values: dict[str, Any] = {
        "imported": {"format": "simulated", "modality": role, "seed": seed, "version": _VERSION},
        "simulation": asdict(sim),
        "grid": _grid().describe(),
        "dtype": "float32",
    }
    return FeatureSpec(name, values)


def _commit(store: Store, spec: FeatureSpec, manifest: Manifest, x: np.ndarray) -> None:
    """Commits (N, C, D) features of all rows; shards that are there are left as they are."""
    for first in range(0, len(x), _SHARD_ROWS):
        part: Sequence[Row] = manifest.rows[first : first + _SHARD_ROWS]
        stored = [
            StoredRow(_key(manifest, row), values, _grid().centers(0.0, row.end))
            for row, values in zip(part, x[first:], strict=False)
        ]
        store.commit(spec, Shard.pack(stored, shape=x.shape[2:]))


def _key(manifest: Manifest, row: Row) -> RowKey:
    return RowKey(row_media(manifest.header.dataset, row.id), row.start, row.end)
