"""Any folder of ``<id>.npy`` files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from features.importing.arrays import stored_dtype
from features.importing.folder import list_arrays, scan_arrays
from features.importing.job import Imported, Job, run_jobs
from features.importing.matching import match_rows
from features.importing.report import ImportReport
from features.importing.show import Display, silent
from features.spec import FeatureSpec
from features.store import Store
from pipeline.errors import UserError
from pipeline.grid import Grid, SegmentGrid, UniformGrid
from pipeline.manifest import Manifest

__all__ = ["check_name", "import_npy", "make_grid"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+]*(-[A-Za-z0-9_.+]+)*")
"""A name becomes part of a folder's."""
SPEC_END = re.compile(r".*-[0-9a-f]{12}")


def import_npy(
    folder: Path | str,
    manifest: Manifest,
    store: Store,
    *,
    name: str,
    grid: Grid,
    shape: Sequence[int] | None = None,
    shard_rows: int = 64,
    display: Display = silent,
) -> ImportReport:
    """Imports a folder of arrays (T, ...), a file a clip.

    Args:
        folder: Holds ``<id>.npy``, or sub-folders that do; an id is a manifest row's, or the name
            of its video without suffix.
        manifest: The rows.
        store: Where to.
        name: The feature's name from now on.
        grid: When the steps are; a clip has exactly as many as its grid says.
        shape: Shape of one step; the most frequent one if left out.
        shard_rows: Rows a shard.
        display: Shows progress.

    Raises:
        UserError: If a name or shape makes no sense, nothing fits the manifest, files change
            meanwhile, or the store cannot be written.
    """
    folder = Path(folder)
    check_name(name)
    files = list_arrays(folder)
    if not files:
        raise UserError(f"{folder} holds no .npy files, nor do its sub-folders; correct its path.")
    matches = match_rows(manifest, files, what=f"the folder {folder}")
    with display(len(files), "hash", "files") as progress:
        given = scan_arrays(folder, files, store.path, progress=progress)
    form = given.common(shape=shape)
    dtype = stored_dtype(form.dtype)
    values = {
        "imported": {
            "format": "npy",
            "content": given.content,
            "dtype": form.dtype,
            "shape": list(form.step),
        },
        "grid": grid.describe(),
        "dtype": dtype,
    }
    feature = Imported(FeatureSpec(name, values), grid, form.step, dtype)
    job = Job((feature,), given, matches.names, "the folder has no file of this clip", str(folder))
    report = run_jobs([job], manifest, store, shard_rows=shard_rows, display=display)
    report.strangers[folder.name] = matches.strangers
    return report


def check_name(name: str) -> None:
    """Refuses names that would make a strange folder, or look like another feature's.

    Raises:
        UserError: If it is one.
    """
    if NAME.fullmatch(name) is None or SPEC_END.fullmatch(name) or len(name) > 100:
        raise UserError(
            f"{name!r} is no name of a feature; use letters, digits, dots, underscores and single "
            "dashes, without a spec id at the end."
        )


def make_grid(
    *,
    hop: float = 1.0,
    window: float | None = None,
    origin: float = 0.0,
    number: int | None = None,
) -> Grid:
    """A grid from options.

    Args:
        hop: Seconds from one step to the next.
        window: Seconds that a step covers; default the hop.
        origin: Seconds from the clip's start to the first step's.
        number: Steps spread evenly over a clip of any length, in place of hop and origin.

    Raises:
        UserError: If they make no sense.
    """
    numbers = [x for x in (hop, window, origin) if x is not None]
    if not all(map(math.isfinite, numbers)) or origin < 0:
        raise UserError("--hop, --window and --origin are seconds, 0 or more; mend them.")
    try:
        if number is None:
            return SegmentGrid(hop=hop, window=window, origin=origin)
        if window is None:
            raise UserError("--number needs --window, the seconds that each step covers; add it.")
        return UniformGrid(number=number, window=window)
    except ValueError as error:
        raise UserError(f"The grid makes no sense: {error}.") from error
