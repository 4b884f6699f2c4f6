"""What every registered recognition method promises, checked over the whole registry."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.contract import (
    Case,
    check_blindness,
    check_declarations,
    check_devices_agree,
    check_losses,
    check_move,
    check_prediction,
    check_resuming,
    check_round_trip,
    check_seeds,
)
from tests.recognition import make_view, small_settings
from trainers.action.interface import METHODS, Inputs
from trainers.fitting import FitState

NAMES = METHODS.names()
READS_IN_ORDER = frozenset({"adamml"})
"""Methods whose prediction of a clip depends on the clips before it, by design."""
WITHOUT_LEVEL = {"coteaching": {"forget": 0.3}, "dividemix": {"penalty": "off"}}
"""Settings with which methods that are told the noise level do without it."""


def _case(name: str, view: Any = None, **values: Any) -> Case:
    # So many that dividemix finds a batch of clean and one of noisy labels for both networks.
    return Case(METHODS.get(name), view or make_view(n=32), small_settings(name, **values))


@pytest.mark.parametrize("name", NAMES)
def test_declarations_are_complete(name: str) -> None:
    method = METHODS.get(name)
    check_declarations(method, name, {"noise_level", "truth", "test_labels"})
    assert method.selections
    hp = method.hyperparameters()
    assert hp.passes() >= 1
    assert hp.steps_per_epoch(1000) >= 1


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_and_logits_have_their_shape(name: str) -> None:
    case = _case(name)
    view = case.view
    predictor, _, recorder = case.fit()
    check_losses(case, recorder)
    prediction = predictor.predict(view.inputs)
    assert prediction.logits.shape == (len(view), 3, len(view.classes))
    assert prediction.logits.dtype == np.float32
    assert np.isfinite(prediction.logits).all()
    np.testing.assert_array_equal(prediction.valid, view.inputs.valid.numpy())


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_unit_vectors_of_every_clip(name: str) -> None:
    case = _case(name)
    view = case.view
    found = case.fit()[0].embed(view.inputs)
    assert found.visual.shape[:2] == found.audio.shape[:2] == (len(view), 3)
    for z in found:
        norms = z.norm(dim=-1)[view.inputs.valid]
        torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_result_to_the_bit(name: str) -> None:
    check_seeds(_case(name))


@pytest.mark.parametrize("name", NAMES)
def test_predicting_changes_nothing(name: str) -> None:
    case = _case(name)
    check_prediction(case, between=lambda predictor: predictor.embed(case.view.inputs))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in READS_IN_ORDER])
def test_predictions_do_not_depend_on_the_order_of_clips(name: str) -> None:
    case = _case(name)
    inputs, order = case.view.inputs, torch.tensor([2, 0, 1])
    turned = Inputs(*(x[:, order] for x in (inputs.visual, inputs.audio, inputs.valid)))
    predictor, _, _ = case.fit()
    plain, other = predictor.predict(inputs), predictor.predict(turned)
    np.testing.assert_allclose(plain.logits[:, order.numpy()], other.logits, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trips_through_a_checkpoint(name: str) -> None:
    case = _case(name)
    inputs = case.view.inputs
    predictor, again = check_round_trip(case, inputs)
    for one, other in zip(predictor.embed(inputs), again.embed(inputs), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_goes_where_it_is_sent(name: str) -> None:
    check_move(_case(name))


@pytest.mark.parametrize("name", NAMES)
def test_resuming_equals_not_being_interrupted(name: str) -> None:
    case = _case(name)

    def judge(predictor: Any, state: FitState) -> dict[str, np.ndarray] | None:
        verdict = case.method().verdict(predictor, case.view, case.hp, state)
        if verdict is None:
            return None
        own = {"weights": verdict.weights, "corrected": verdict.corrected}
        return dict(verdict.keep) | {name: x for name, x in own.items() if x is not None}

    check_resuming(case, judge)


@pytest.mark.parametrize("name", NAMES)
def test_the_noise_level_is_seen_only_where_declared(name: str) -> None:
    case = _case(name, **WITHOUT_LEVEL.get(name, {}))
    assert "noise_level" not in case.method.needs - case.hp.spared()
    check_blindness(case, noise=None)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_may_have_one_video_or_none(name: str) -> None:
    view = make_view()
    labels = view.labels.clone()
    labels[labels == 0] = 1
    labels[0], labels[labels == 4] = 0, 3
    predictor, _, recorder = _case(name, dataclasses.replace(view, labels=labels)).fit()
    assert all(math.isfinite(value) for log in recorder.logs for value in log.values())
    assert np.isfinite(predictor.predict(view.inputs).logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_verdicts_are_verdicts_on_the_training_data(name: str) -> None:
    case = _case(name)
    view = case.view
    predictor, state, _ = case.fit()
    verdict = case.method().verdict(predictor, view, case.hp, state)
    if verdict is None:
        return
    n = len(view)
    for scores in verdict.keep.values():
        assert scores.shape == (n,)
        assert np.isfinite(scores).all()
    if verdict.weights is not None:
        assert verdict.weights.shape == (n, 2)
        assert np.isfinite(verdict.weights).all()
    if verdict.corrected is not None:
        assert verdict.corrected.shape == (n,)
        assert set(np.unique(verdict.corrected)) <= set(range(len(view.classes)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to compare with")
@pytest.mark.parametrize("name", NAMES)
def test_cpu_and_gpu_agree_through_all_phases(name: str) -> None:
    case = _case(name)
    if hasattr(case.hp, "dropout"):
        # Dropout draws differ between devices, so only methods' arithmetic is compared.
        case = dataclasses.replace(case, hp=dataclasses.replace(case.hp, dropout=0.0))
    check_devices_agree(case, torch.device("cuda"))
