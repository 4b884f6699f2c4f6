"""The official feature folders of LLP, as published with the data set (YapengTian/AVVP-ECCV20).

``vggish`` (10, 128), ``res152`` (80, 2048: 8 frames a second) and ``r2plus1d_18`` (10, 512), a file
``<11-character YouTube id>.npy`` each.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from features.backbones.interface import BACKBONES
from features.importing.arrays import stored_dtype
from features.importing.folder import ArrayFolder, list_arrays, scan_arrays
from features.importing.job import Imported, Job, run_jobs
from features.importing.matching import match_rows
from features.importing.report import ImportReport
from features.importing.show import Display, silent
from features.spec import FeatureSpec
from features.store import Store
from pipeline.errors import UserError
from pipeline.manifest import Manifest

__all__ = ["FOLDERS", "import_llp"]

FOLDERS = {
    "vggish": ("vggish",),
    "res152": ("resnet152.frames", "resnet152"),
    "r2plus1d_18": ("r2plus1d_18",),
}
"""The feature that a folder holds, then what is computed from it."""


def import_llp(
    folder: Path | str,
    manifest: Manifest,
    store: Store,
    *,
    shard_rows: int = 64,
    display: Display = silent,
) -> ImportReport:
    """Imports the official features of LLP under the names that extraction gives them.

    Their grids are those of our backbones, which were made after the published set, so that both
    are read alike; ``resnet152`` is computed from ``res152`` by the code that extraction uses.

    Args:
        folder: Holds some of the folders `FOLDERS`.
        manifest: LLP's.
        store: Where to.
        shard_rows: Rows a shard.
        display: Shows progress.

    Raises:
        UserError: If none of the folders is there, nothing in one fits the manifest, files change
            meanwhile, or the store cannot be written.
    """
    folder = Path(folder)
    there = [name for name in FOLDERS if (folder / name).is_dir()]
    if not there:
        raise UserError(
            f"{folder} has none of the folders {', '.join(FOLDERS)}; pass the folder that LLP's "
            "features were unpacked to, or use import-npy for other features."
        )
    jobs, strangers = [], {}
    for name in there:
        files = list_arrays(folder / name, nested=False)
        matches = match_rows(manifest, files, what=f"the folder {folder / name}")
        strangers[name] = matches.strangers
        with display(len(files), f"hash {name}", "files") as progress:
            given = scan_arrays(folder / name, files, store.path, progress=progress)
        jobs.append(
            Job(
                _features(name, given),
                given,
                matches.names,
                f"{name} has no file of this clip",
                str(folder / name),
            )
        )
    report = run_jobs(jobs, manifest, store, shard_rows=shard_rows, display=display)
    report.strangers |= strangers
    return report


def _features(folder: str, given: ArrayFolder) -> tuple[Imported, ...]:
    name, *computed = FOLDERS[folder]
    # Nothing is computed by their networks, so the weights need not be here.
    backbone = BACKBONES.get(name)()
    dtype = given.common(shape=backbone.shape).dtype
    imported: dict[str, Any] = {
        "format": "llp",
        "content": given.content,
        "dtype": dtype,
        "shape": list(backbone.shape),
    }
    frames = name.endswith(".frames")
    features = [_feature(name, backbone, imported, stored_dtype(dtype), frames=frames)]
    for other in computed:
        follower = BACKBONES.get(other)()
        values = imported | {"computed": {"from": name} | follower.spec()}
        features.append(
            _feature(other, follower, values, follower.dtype, derive=_as_float32(follower.derive))
        )
    return tuple(features)


def _feature(
    name: str, backbone: Any, imported: dict[str, Any], dtype: str, **how: Any
) -> Imported:
    values = {"imported": imported, "grid": backbone.grid.describe(), "dtype": dtype}
    return Imported(FeatureSpec(name, values), backbone.grid, backbone.shape, dtype, **how)


def _as_float32(derive: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """Backbones give float32; a folder that was shrunk to float16 is widened first."""
    return lambda steps: derive(steps.astype(np.float32, copy=False))
