"""A judge says what a method thinks of its training data, and how right it is if that is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.recognition import fit, make_view, small_settings
from trainers.action.detection import TrueNoise, pair_weights
from trainers.action.interface import METHODS
from trainers.action.judging import Judge, Judgement


def _judged(name: str, *, told: bool) -> Judgement:
    view, hp = make_view(), small_settings(name)
    predictor, state, _ = fit(name, view, hp)
    flipped = np.arange(len(view)) % 3 == 0
    truth = TrueNoise(view.labels.numpy(), flipped, ~flipped) if told else None
    return Judge(METHODS.get(name), hp, view, truth)(predictor, state)


@pytest.mark.parametrize("name", ["ce", "ntl"])
def test_a_known_truth_is_told_and_changes_no_verdict(name: str) -> None:
    told, blind = _judged(name, told=True), _judged(name, told=False)
    assert {"detect/label/auroc", "detect/pair/auroc"} <= set(told.metrics)
    assert blind.metrics == {}
    assert (told.own is None) == (blind.own is None) == (name == "ce")
    if told.own is not None and blind.own is not None:
        np.testing.assert_array_equal(told.loss, blind.loss)
        for criterion, keep in told.own.keep.items():
            np.testing.assert_array_equal(keep, blind.own.keep[criterion])


def test_nothing_is_computed_where_nothing_is_judged() -> None:
    blind = _judged("ce", told=False)
    assert (blind.own, len(blind.loss)) == (None, 0)
    assert len(_judged("ce", told=True).loss) == 24


@pytest.mark.parametrize("near", [2, 6])
def test_pairs_are_weighed_alike_for_all_methods(near: int) -> None:
    # What a method calls near is its own matter: the scores of others must compare with its.
    view = make_view()
    for name in ("ce", "xdc_star"):
        hp = small_settings(name)
        predictor, state, _ = fit(name, view, hp)
        truth = TrueNoise(view.labels.numpy(), np.zeros(24, bool), np.arange(24) % 2 == 0)
        found = Judge(METHODS.get(name), hp, view, truth, near)(predictor, state).metrics
        weights = pair_weights(predictor, view.inputs, neighbours=near).mean(1)
        assert found["weight/altered"] == pytest.approx(100 * weights[::2].mean(), abs=1e-4)
