"""Features as somebody else would hand them over, for the tests of importing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from features.store import Store
from pipeline.manifest import Header, Manifest, Row, write_manifest
from pipeline.manifest.llp import import_llp as import_llp_tables

SAMPLE = Path(__file__).parents[1] / "data" / "llp_sample"
LLP_SHAPES = {"vggish": (10, 128), "res152": (80, 2048), "r2plus1d_18": (10, 512)}


def llp_manifest(folder: Path) -> Manifest:
    """The made-up sample of LLP's tables as a manifest; there are no videos."""
    return import_llp_tables(SAMPLE, folder / "llp.jsonl").manifest


def llp_array(name: str, clip: str) -> np.ndarray:
    """The same random values for the same clip, float32."""
    rng = np.random.default_rng([*clip.encode(), len(name)])
    return rng.standard_normal(LLP_SHAPES[name], dtype=np.float32)


def write_llp(folder: Path, manifest: Manifest, *names: str) -> Path:
    """Writes the official layout for every clip of a manifest."""
    for name in names or LLP_SHAPES:
        (folder / name).mkdir(parents=True)
        for row in manifest:
            np.save(folder / name / f"{row.id[:11]}.npy", llp_array(name, row.id))
    return folder


def clips(folder: Path, *ids: str, seconds: float = 4.0, video: str | None = None) -> Manifest:
    """A manifest of clips that no video is there for, written to ``folder``.

    Args:
        folder: Where to.
        ids: Row ids.
        seconds: Length of every clip.
        video: Pattern of the videos' names with ``{}`` for the id, or None for none.
    """
    rows = tuple(
        Row(i, 0.0, seconds, "train", (), video=None if video is None else video.format(i))
        for i in ids
    )
    folder.mkdir(parents=True, exist_ok=True)
    return write_manifest(Manifest(Header("toy", "none", ()), rows), folder / "m.jsonl")


def steps(seed: int, *shape: int, dtype: str = "float32") -> np.ndarray:
    """Random values between 0 and 255."""
    return (np.random.default_rng(seed).random(shape) * 255).astype(dtype)


def folder_of(path: Path, **arrays: np.ndarray) -> Path:
    """A folder with a file for every array."""
    path.mkdir(parents=True, exist_ok=True)
    for name, x in arrays.items():
        np.save(path / f"{name}.npy", x)
    return path


def statuses(store: Store, manifest: Manifest, name: str = "f") -> dict[str, tuple[str, str]]:
    """Status and reason of every row of a feature."""
    table = store.read(store.find(name), manifest, manifest.rows)
    found = zip(table.status.tolist(), table.reason.tolist(), strict=True)
    return dict(zip(table.ids, found, strict=True))
