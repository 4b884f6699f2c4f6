"""Uniform windows and blocks of segments; the rest of grids is in test_foundation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grid import BLOCK, TAIL_HOLD, SegmentGrid, UniformGrid

spans = st.tuples(st.floats(0.0, 5000.0), st.floats(0.1, 9000.0)).map(lambda s: (s[0], s[0] + s[1]))


class TestUniformGrid:
    def test_ten_windows_of_two_seconds_in_ten_seconds(self):
        grid = UniformGrid(number=10, window=2.0, frames=8)
        starts = grid.starts(23.0, 33.0)
        np.testing.assert_allclose(starts, 23.0 + np.arange(10) * 8 / 9)
        np.testing.assert_allclose(grid.centers(23.0, 33.0), np.arange(10) * 8 / 9 + 1.0)
        times = grid.frame_times(23.0, 33.0)
        np.testing.assert_allclose(times[0], 23.0 + (np.arange(8) + 0.5) / 4)
        np.testing.assert_allclose(times[-1], 31.0 + (np.arange(8) + 0.5) / 4)

    def test_frames_at_a_rate_lie_around_the_middle(self):
        times = UniformGrid(number=2, window=2.0, frames=8, rate=16.0).frame_times(0.0, 4.0)
        np.testing.assert_allclose(times[0], 0.75 + (np.arange(8) + 0.5) / 16)
        np.testing.assert_allclose(times[1] - times[0], 2.0)

    def test_short_clips_give_one_window_or_none(self):
        grid = UniformGrid(number=10, window=2.0)
        assert [grid.count(5.0, 5.0 + s) for s in (1.4, 1.6, 2.0, 2.1)] == [0, 1, 1, 10]
        assert grid.starts(5.0, 6.6).tolist() == [5.0]

    @given(span=spans, number=st.integers(1, 12), frames=st.integers(0, 9))
    def test_windows_lie_in_the_clip(self, span, number, frames):
        grid = UniformGrid(number=number, window=2.0, frames=frames)
        starts = grid.starts(*span)
        if grid.count(*span) == 0:
            assert span[1] - span[0] < 2.0 - TAIL_HOLD + 1e-6
            return
        assert starts[0] == span[0]
        assert starts[-1] + 2.0 <= max(span[1], span[0] + 2.0) + 1e-6
        times = grid.frame_times(*span)
        assert times.shape == (len(starts), frames)
        assert (times >= starts[:, None]).all()
        assert (times <= starts[:, None] + 2.0).all()

    @pytest.mark.parametrize(
        "wrong", [{"number": 0}, {"window": 0.0}, {"frames": -1}, {"frames": 8, "rate": 3.0}]
    )
    def test_nonsense_is_refused(self, wrong):
        with pytest.raises(ValueError):
            UniformGrid(**wrong)


@given(
    span=spans,
    grid=st.sampled_from(
        [
            SegmentGrid(),
            SegmentGrid(window=0.96),
            SegmentGrid(hop=0.5, window=2.0, origin=0.25),
            UniformGrid(),
            UniformGrid(number=3, window=0.5),
        ]
    ),
)
def test_blocks_cover_all_segments_once_and_stay_small(span, grid):
    count = grid.count(*span)
    covered = [k for block in grid.blocks(*span) for k in range(count)[block]]
    assert covered == list(range(count))
    for block in grid.blocks(*span):
        first, last = grid.extent(*span, block)
        starts = grid.starts(*span)[block]
        assert first == starts[0]
        assert last >= starts[-1] + grid.span - 1e-9
        assert last - first <= (BLOCK + 1) * 2.0 + 1e-6


def test_an_extent_needs_a_segment():
    with pytest.raises(ValueError, match="no segment"):
        SegmentGrid().extent(0.0, 0.2)
