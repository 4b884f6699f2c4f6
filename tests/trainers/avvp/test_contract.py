"""What every registered parsing method promises, checked over the whole registry."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
import torch

from tests.parsing import fit, make_view, small_settings
from trainers.avvp.filters import FILTERS
from trainers.avvp.interface import METHODS, Hyperparameters, Inputs, Prediction
from trainers.fitting import Selection

NAMES = METHODS.names()
TRAINED = [name for name in NAMES if METHODS.get(name).selections]


def _arrays(prediction: Prediction) -> list[np.ndarray]:
    return [getattr(prediction, f.name) for f in dataclasses.fields(prediction)]


def _equal(one: Prediction, other: Prediction) -> bool:
    pairs = zip(_arrays(one), _arrays(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_declarations_are_complete(name: str) -> None:
    method = METHODS.get(name)
    assert method.name == name
    assert method.title
    assert method.paper
    assert method.supervision
    assert method.filter in FILTERS
    assert method.needs <= {"dense_val", "truth", "test_labels", "frames"}
    assert method.roles <= {"audio", "visual", "motion", "frames"}
    assert all(isinstance(rule, Selection) for rule in method.selections.values())
    assert issubclass(method.hyperparameters, Hyperparameters)
    assert method.hyperparameters() == method.hyperparameters()
    if not method.released:
        assert not hasattr(method.hyperparameters(), "as_released")
    if method.published is not None:
        assert {k: len(v) for k, v in method.published.items()} == {"segment": 5, "event": 5}


@pytest.mark.parametrize("name", TRAINED)
def test_losses_are_finite_and_probabilities_are_probabilities(name: str) -> None:
    view = make_view()
    predictor, _, recorder = fit(name, view, small_settings(name))
    assert recorder.logs
    assert all(math.isfinite(value) for log in recorder.logs for value in log.values())
    assert all("loss" in log for log in recorder.logs)
    declared = list(METHODS.get(name).selections)
    assert {phase for phase, _ in recorder.epochs} <= set(declared)
    assert recorder.epochs[-1][0] == declared[-1]
    prediction = predictor.predict(view.inputs)
    n, t, c = len(view), 10, len(view.classes)
    shapes = [array.shape for array in _arrays(prediction)]
    assert shapes == [(n, t, c), (n, t, c), (n, c), (n, c), (n, c)]
    for array in _arrays(prediction)[:4]:
        assert array.dtype == np.float32
        assert ((array >= 0) & (array <= 1)).all()
    assert np.isfinite(prediction.clip).all()


@pytest.mark.parametrize("name", TRAINED)
def test_same_seed_same_result_to_the_bit(name: str) -> None:
    view = make_view()
    runs = [
        fit(name, view, small_settings(name), seed)[0].predict(view.inputs) for seed in (3, 3, 4)
    ]
    assert _equal(runs[0], runs[1])
    assert not _equal(runs[0], runs[2])


@pytest.mark.parametrize("name", TRAINED)
def test_predicting_changes_nothing(name: str) -> None:
    view = make_view()
    predictor, _, _ = fit(name, view, small_settings(name))
    before = torch.get_rng_state()
    first = predictor.predict(view.inputs)
    assert _equal(first, predictor.predict(view.inputs))
    assert torch.equal(before, torch.get_rng_state())
    one_by_one = Prediction.concatenate(
        [predictor.predict(view.inputs[i : i + 1]) for i in range(3)]
    )
    for whole, single in zip(_arrays(first), _arrays(one_by_one), strict=True):
        np.testing.assert_allclose(whole[:3], single, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_state_round_trips_through_a_checkpoint(name: str) -> None:
    view = make_view()
    method, hp = METHODS.get(name), small_settings(name)
    predictor, _, _ = fit(name, view, hp)
    buffer = io.BytesIO()
    torch.save(predictor.state_dict(), buffer)
    buffer.seek(0)
    again = method().build(view.inputs.widths, view.classes, hp)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    inputs = Inputs(
        view.inputs.audio,
        view.inputs.visual,
        view.inputs.motion,
        labels=view.labels,
        dense=torch.zeros(len(view), 10, 2, len(view.classes)),
    )
    assert _equal(predictor.predict(inputs), again.predict(inputs))


@pytest.mark.parametrize("name", TRAINED)
def test_resuming_equals_not_being_interrupted(name: str) -> None:
    view, hp = make_view(), small_settings(name)
    whole, _, recorder = fit(name, view, hp)
    expected = whole.predict(view.inputs)
    for stop in range(1, len(recorder.epochs) + 1):
        _, _, cut = fit(name, view, hp, interrupt_after=stop)
        rest, _, after = fit(name, view, hp, resume=cut.saved, seed=0)
        assert cut.epochs + after.epochs == recorder.epochs
        assert _equal(rest.predict(view.inputs), expected), f"stopped after {cut.epochs[-1]}"


@pytest.mark.parametrize("name", TRAINED)
def test_dense_validation_is_seen_only_where_declared(name: str) -> None:
    view, hp = make_view(), small_settings(name)
    blind = dataclasses.replace(view, dense_val=None)
    if "dense_val" not in METHODS.get(name).needs:
        seen, unseen = (fit(name, v, hp)[0].predict(view.inputs) for v in (view, blind))
        assert _equal(seen, unseen)


@pytest.mark.parametrize("name", TRAINED)
def test_motion_is_optional(name: str) -> None:
    view = make_view(motion=False)
    predictor, _, _ = fit(name, view, small_settings(name))
    assert np.isfinite(predictor.predict(view.inputs).visual).all()


@pytest.mark.parametrize("name", NAMES)
def test_keep_scores_are_scores_of_the_training_labels(name: str) -> None:
    view, hp = make_view(), small_settings(name)
    predictor, state, _ = fit(name, view, hp)
    keep = METHODS.get(name)().keep_scores(predictor, view, hp, state)
    if keep is not None:
        assert set(keep) == {"audio", "visual"}
        for scores in keep.values():
            assert scores.shape == tuple(view.labels.shape)
            assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU to compare with")
@pytest.mark.parametrize("name", TRAINED)
def test_cpu_and_gpu_agree_after_two_steps(name: str) -> None:
    view = make_view(n=16)
    # Dropout draws differ between devices, so only methods' arithmetic is compared.
    hp = small_settings(name, **dict.fromkeys(("dropout", "cls_dropout"), 0.0), epochs=1)
    moved = dataclasses.replace(
        view,
        inputs=view.inputs.to(torch.device("cuda")),
        labels=view.labels.cuda(),
        labels_audio=view.labels_audio.cuda(),
        labels_visual=view.labels_visual.cuda(),
    )
    cpu = fit(name, view, hp)[0].predict(view.inputs)
    gpu = fit(name, moved, hp)[0].predict(moved.inputs)
    for a, b in zip(_arrays(cpu), _arrays(gpu), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
