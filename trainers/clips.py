"""Clips that picture and sound share; a clip of a video is a step of its feature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from features.store import FeatureTable
from pipeline.grid import join_steps
from pipeline.manifest import Row

__all__ = ["join_clips"]

Joined = tuple[np.ndarray, np.ndarray, np.ndarray]


def join_clips(
    visual: FeatureTable,
    audio: FeatureTable,
    chosen: np.ndarray,
    rows: Sequence[Row],
    *,
    dtype: type[np.generic],
) -> Joined:
    """Clips that two features share, by time.

    The feature with fewer steps leads: each of them must have its partner in the other.

    Args:
        visual: Of N rows, steps of any shape.
        audio: Likewise.
        chosen: (M,) row numbers that have features.
        rows: N rows, named in errors.
        dtype: Of the values returned.

    Returns:
        (M, S, ...) and (M, S, ...) of picture and sound, zeros where (M, S) bool says that a clip
        is not valid; arrays of their own, no views of the store.

    Raises:
        UserError: If steps do not share a time grid.
    """
    return _aligned(visual, audio, chosen, dtype) or _joined(visual, audio, chosen, rows, dtype)


def _aligned(
    visual: FeatureTable, audio: FeatureTable, chosen: np.ndarray, dtype: type[np.generic]
) -> Joined | None:
    """What `_joined` gives, where all videos have the same steps in both modalities, else None.

    Nearly every corpus is of this kind, and joining one by one would cost minutes on a large one.
    """
    tables = [table.select(chosen) for table in (visual, audio)]
    steps = np.concatenate([table.lengths for table in tables])
    if not len(steps) or (steps != steps[0]).any():
        return None
    t_v, t_a = (table.t.reshape(len(chosen), -1) for table in tables)
    hop = _hop(t_v)
    if np.abs(t_v - t_a).max() > hop / 2:
        return None
    # The store's memory may be shared or of another type; a tensor wants its own.
    x_v, x_a = (np.array(table.stacked(), dtype=dtype) for table in tables)
    return x_v, x_a, np.ones(t_v.shape, dtype=bool)


def _joined(
    visual: FeatureTable,
    audio: FeatureTable,
    chosen: np.ndarray,
    rows: Sequence[Row],
    dtype: type[np.generic],
) -> Joined:
    """Joins video by video; see `join_clips`."""
    steps = int(np.minimum(visual.lengths, audio.lengths)[chosen].max(initial=0))
    x_v = np.zeros((len(chosen), steps, *visual.x.shape[1:]), dtype=dtype)
    x_a = np.zeros((len(chosen), steps, *audio.x.shape[1:]), dtype=dtype)
    valid = np.zeros((len(chosen), steps), dtype=bool)
    for place, n in enumerate(chosen):
        t_v, t_a = (t.t[t.offset[n] : t.offset[n + 1]] for t in (visual, audio))
        what = f"steps of sound and picture of {rows[n].id!r}"
        if len(t_v) <= len(t_a):
            i_v = np.arange(len(t_v))
            i_a = join_steps(t_v, t_a, hop=_hop(t_v), what=what)
        else:
            i_a = np.arange(len(t_a))
            i_v = join_steps(t_a, t_v, hop=_hop(t_a), what=what)
        count = len(i_v)
        x_v[place, :count], x_a[place, :count] = visual.row(n)[i_v], audio.row(n)[i_a]
        valid[place, :count] = True
    return x_v, x_a, valid


def _hop(t: np.ndarray) -> float:
    """Least seconds between two steps; one second where there is one step only."""
    return float(np.diff(t).min()) if t.shape[-1] > 1 else 1.0
