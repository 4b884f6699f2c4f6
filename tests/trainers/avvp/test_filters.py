"""Prediction filters on two clips worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pipeline.errors import UserError
from trainers.avvp.filters import FILTERS, apply_filter
from trainers.avvp.interface import Prediction

BELOW = np.nextafter(np.float32(0.5), np.float32(0))


def _prediction() -> Prediction:
    """Two clips, three segments, two classes."""
    audio = [[[0.9, 0.5], [0.4, 0.5], [0.6, BELOW]], [[0.5, 0.9], [0.5, 0.9], [0.1, 0.9]]]
    visual = [[[0.7, 0.1], [0.7, 0.5], [0.2, 0.8]], [[0.9, 0.3], [BELOW, 0.5], [0.8, 0.6]]]
    return Prediction(
        audio=np.array(audio, dtype=np.float32),
        visual=np.array(visual, dtype=np.float32),
        audio_clip=np.array([[0.5, 0.8], [BELOW, 0.6]], dtype=np.float32),
        visual_clip=np.array([[0.2, 0.5], [0.9, 0.1]], dtype=np.float32),
        clip=np.array([[BELOW, 0.9], [0.5, 0.3]], dtype=np.float32),
    )


EXPECTED = {
    # P is below the threshold for class 0 of clip 0 and class 1 of clip 1.
    "video": (
        [[[0, 1], [0, 1], [0, 0]], [[1, 0], [1, 0], [0, 0]]],
        [[[0, 0], [0, 1], [0, 1]], [[1, 0], [0, 0], [1, 0]]],
    ),
    # P_a takes class 0 from clip 1, P_v class 0 from clip 0 and class 1 from clip 1.
    "modality": (
        [[[1, 1], [0, 1], [1, 0]], [[0, 1], [0, 1], [0, 1]]],
        [[[0, 0], [0, 1], [0, 1]], [[1, 0], [0, 0], [1, 0]]],
    ),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_by_hand(name: str) -> None:
    audio, visual = apply_filter(name, _prediction())
    assert audio.dtype == bool
    assert visual.dtype == bool
    np.testing.assert_array_equal(audio, np.array(EXPECTED[name][0], dtype=bool))
    np.testing.assert_array_equal(visual, np.array(EXPECTED[name][1], dtype=bool))


def test_every_filter_is_worked_out() -> None:
    assert set(FILTERS) == set(EXPECTED)


# Whether audio and visual predictions stay when one kind of probability falls below.
STAYS = {
    "video": {"audio": (False, True), "visual": (True, False), "clip": (False, False)},
    "modality": {
        "audio": (False, True),
        "visual": (True, False),
        "audio_clip": (False, True),
        "visual_clip": (True, False),
    },
}


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_exactly_the_threshold_counts(name: str) -> None:
    shapes = [(1, 2, 3), (1, 2, 3), (1, 3), (1, 3), (1, 3)]
    at = Prediction(*(np.full(shape, 0.5, dtype=np.float32) for shape in shapes))
    assert all(x.all() for x in apply_filter(name, at))
    for field in dataclasses.fields(at):
        below = np.full_like(getattr(at, field.name), BELOW)
        audio, visual = apply_filter(name, dataclasses.replace(at, **{field.name: below}))
        assert (audio.all(), visual.all()) == STAYS[name].get(field.name, (True, True))


def test_unknown_filter_offers_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'modality'"):
        apply_filter("modalities", _prediction())
