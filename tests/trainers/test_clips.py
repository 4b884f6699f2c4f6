"""Clips that picture and sound share: steps of any shape and type, joined by time."""

from __future__ import annotations

import numpy as np
import pytest

from features.store import FeatureTable
from pipeline.errors import UserError
from pipeline.manifest import Row
from trainers.clips import join_clips

ROWS = [Row(id=name, start=0, end=10, split="train", labels=()) for name in "abc"]
EVEN = ([0.5, 1.5, 2.5],) * 3


def _table(times: tuple[list[float], ...], shape: tuple[int, ...], dtype: type) -> FeatureTable:
    """Values count up from the row's tens by the whole seconds of their time."""
    x = [
        np.full(shape, 10 * n + int(t), dtype=dtype)
        for n, steps in enumerate(times)
        for t in steps
    ]  # fmt: skip
    return FeatureTable(
        ids=tuple(row.id for row in ROWS),
        x=np.stack(x),
        offset=np.cumsum([0, *(len(steps) for steps in times)]),
        t=np.concatenate(times),
        status=np.array(["ok"] * len(times)),
        reason=np.array([""] * len(times)),
    )


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 3)])
def test_steps_of_any_shape_keep_their_values(shape: tuple[int, ...]) -> None:
    visual, audio = _table(EVEN, shape, np.uint8), _table(EVEN, (5,), np.uint8)
    chosen = np.array([0, 2])
    x_v, x_a, valid = join_clips(visual, audio, chosen, ROWS, dtype=np.uint8)
    assert (x_v.shape, x_a.shape) == ((2, 3, *shape), (2, 3, 5))
    assert x_v.dtype == x_a.dtype == np.uint8
    assert valid.all()
    expected = np.array([[0, 1, 2], [20, 21, 22]])
    np.testing.assert_array_equal(x_v.reshape(2, 3, -1)[..., 0], expected)
    np.testing.assert_array_equal(x_a[..., 0], expected)
    assert not np.shares_memory(x_v, visual.x)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_uneven_videos_are_joined_one_by_one(dtype: type) -> None:
    short = ([0.5, 1.5, 2.5], [1.5, 2.5], [0.5])
    visual, audio = _table(EVEN, (2, 2), np.uint8), _table(short, (), np.uint8)
    x_v, x_a, valid = join_clips(visual, audio, np.arange(3), ROWS, dtype=dtype)
    assert x_v.dtype == x_a.dtype == dtype
    np.testing.assert_array_equal(valid, [[True] * 3, [True, True, False], [True, False, False]])
    np.testing.assert_array_equal(x_a, [[0, 1, 2], [11, 12, 0], [20, 0, 0]])
    np.testing.assert_array_equal(x_v[..., 0, 0], x_a)


def test_no_video_gives_no_clip() -> None:
    table = _table(EVEN, (2, 2), np.uint8)
    x_v, x_a, valid = join_clips(table, table, np.arange(0), ROWS, dtype=np.float32)
    assert x_v.shape == x_a.shape == (0, 0, 2, 2)
    assert valid.shape == (0, 0)


def test_steps_of_other_times_are_refused_by_name() -> None:
    late = ([0.5, 1.5, 2.5], [4.5, 5.5, 6.5], [0.5, 1.5, 2.5])
    visual, audio = _table(EVEN, (2,), np.float32), _table(late, (2,), np.float32)
    with pytest.raises(UserError, match="of 'b' do not share a time grid"):
        join_clips(visual, audio, np.arange(3), ROWS, dtype=np.float32)
