"""What every registered parsing method promises, checked over the whole registry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.contract import (
    Case,
    arrays,
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
from tests.parsing import make_view, small_settings
from trainers.avvp.filters import FILTERS
from trainers.avvp.interface import METHODS, Inputs

NAMES = METHODS.names()
TRAINED = [name for name in NAMES if METHODS.get(name).selections]


def _case(name: str, view: Any = None, **values: Any) -> Case:
    return Case(METHODS.get(name), view or make_view(), small_settings(name, **values))


@pytest.mark.parametrize("name", NAMES)
def test_declarations_are_complete(name: str) -> None:
    method = METHODS.get(name)
    check_declarations(method, name, {"dense_val", "truth", "test_labels", "frames"})
    assert method.filter in FILTERS
    assert method.roles <= {"audio", "visual", "motion", "frames"}
    if method.published is not None:
        assert {k: len(v) for k, v in method.published.items()} == {"segment": 5, "event": 5}


@pytest.mark.parametrize("name", TRAINED)
def test_losses_are_finite_and_probabilities_are_probabilities(name: str) -> None:
    case = _case(name)
    predictor, _, recorder = case.fit()
    check_losses(case, recorder)
    prediction = predictor.predict(case.view.inputs)
    n, t, c = len(case.view), 10, len(case.view.classes)
    shapes = [array.shape for array in arrays(prediction)]
    assert shapes == [(n, t, c), (n, t, c), (n, c), (n, c), (n, c)]
    for array in arrays(prediction)[:4]:
        assert array.dtype == np.float32
        assert ((array >= 0) & (array <= 1)).all()
    assert np.isfinite(prediction.clip).all()


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_result_to_the_bit(name: str) -> None:
    check_seeds(_case(name))


@pytest.mark.parametrize("name", TRAINED)
def test_predicting_changes_nothing(name: str) -> None:
    check_prediction(_case(name))


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trips_through_a_checkpoint(name: str) -> None:
    case = _case(name)
    view = case.view
    inputs = Inputs(
        view.inputs.audio,
        view.inputs.visual,
        view.inputs.motion,
        labels=view.labels,
        dense=torch.zeros(len(view), 10, 2, len(view.classes)),
    )
    check_round_trip(case, inputs)


@pytest.mark.parametrize("name", TRAINED)
def test_every_network_goes_where_it_is_sent(name: str) -> None:
    check_move(_case(name))


@pytest.mark.parametrize("name", TRAINED)
def test_resuming_equals_not_being_interrupted(name: str) -> None:
    case = _case(name)
    check_resuming(
        case,
        lambda predictor, state: case.method().keep_scores(predictor, case.view, case.hp, state),
    )


@pytest.mark.parametrize("name", TRAINED)
def test_dense_validation_is_seen_only_where_declared(name: str) -> None:
    if "dense_val" not in METHODS.get(name).needs:
        check_blindness(_case(name), dense_val=None)


@pytest.mark.parametrize("name", TRAINED)
def test_motion_is_optional(name: str) -> None:
    assert np.isfinite(_case(name, make_view(motion=False)).predict().visual).all()


@pytest.mark.parametrize("name", NAMES)
def test_keep_scores_are_scores_of_the_training_labels(name: str) -> None:
    case = _case(name)
    predictor, state, _ = case.fit()
    keep = case.method().keep_scores(predictor, case.view, case.hp, state)
    if keep is not None:
        assert set(keep) == {"audio", "visual"}
        for scores in keep.values():
            assert scores.shape == tuple(case.view.labels.shape)
            assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to compare with")
@pytest.mark.parametrize("name", TRAINED)
def test_cpu_and_gpu_agree_after_two_steps(name: str) -> None:
    # Dropout draws differ between devices, so only methods' arithmetic is compared.
    case = _case(name, make_view(n=16), epochs=1, dropout=0.0, cls_dropout=0.0)
    check_devices_agree(case, torch.device("cuda"))
