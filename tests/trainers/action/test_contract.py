"""What every registered recognition method promises, checked over the whole registry."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
import pytest
import torch

from tests.recognition import fit, make_view, small_settings
from trainers.action.interface import METHODS, Hyperparameters, Inputs, Prediction
from trainers.checkpoints import moved
from trainers.fitting import Selection

NAMES = METHODS.names()
READS_IN_ORDER = frozenset({"adamml"})
"""Methods whose prediction of a clip depends on the clips before it, by design."""
WITHOUT_LEVEL = {"coteaching": {"forget": 0.3}, "dividemix": {"penalty": "off"}}
"""Settings with which methods that are told the noise level do without it."""


def _equal(one: Prediction, other: Prediction) -> bool:
    return np.array_equal(one.logits, other.logits) and np.array_equal(one.valid, other.valid)


@pytest.mark.parametrize("name", NAMES)
def test_declarations_are_complete(name: str) -> None:
    method = METHODS.get(name)
    assert method.name == name
    assert method.title
    assert method.paper
    assert method.supervision
    assert method.needs <= {"noise_level", "truth", "test_labels"}
    assert method.selections
    assert all(isinstance(rule, Selection) for rule in method.selections.values())
    assert issubclass(method.hyperparameters, Hyperparameters)
    hp = method.hyperparameters()
    assert hp == method.hyperparameters()
    assert hp.passes() >= 1
    assert hp.steps_per_epoch(1000) >= 1
    if not method.released:
        assert not hasattr(hp, "as_released")


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_and_logits_have_their_shape(name: str) -> None:
    view = make_view()
    predictor, _, recorder = fit(name, view, small_settings(name))
    assert recorder.logs
    assert all(math.isfinite(value) for log in recorder.logs for value in log.values())
    assert all("loss" in log for log in recorder.logs)
    declared = list(METHODS.get(name).selections)
    assert {phase for phase, _ in recorder.epochs} <= set(declared)
    assert recorder.epochs[-1][0] == declared[-1]
    prediction = predictor.predict(view.inputs)
    assert prediction.logits.shape == (len(view), 3, len(view.classes))
    assert prediction.logits.dtype == np.float32
    assert np.isfinite(prediction.logits).all()
    np.testing.assert_array_equal(prediction.valid, view.inputs.valid.numpy())


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_are_unit_vectors_of_every_clip(name: str) -> None:
    view = make_view()
    predictor, _, _ = fit(name, view, small_settings(name))
    found = predictor.embed(view.inputs)
    assert found.visual.shape[:2] == found.audio.shape[:2] == (len(view), 3)
    for z in found:
        norms = z.norm(dim=-1)[view.inputs.valid]
        torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_result_to_the_bit(name: str) -> None:
    view = make_view()
    runs = [
        fit(name, view, small_settings(name), seed)[0].predict(view.inputs) for seed in (3, 3, 4)
    ]
    assert _equal(runs[0], runs[1])
    assert not _equal(runs[0], runs[2])


@pytest.mark.parametrize("name", NAMES)
def test_predicting_changes_nothing(name: str) -> None:
    view = make_view()
    predictor, _, _ = fit(name, view, small_settings(name))
    before = torch.get_rng_state()
    first = predictor.predict(view.inputs)
    predictor.embed(view.inputs)
    assert _equal(first, predictor.predict(view.inputs))
    assert torch.equal(before, torch.get_rng_state())
    one_by_one = Prediction.concatenate(
        [predictor.predict(view.inputs[i : i + 1]) for i in range(3)]
    )
    np.testing.assert_allclose(first.logits[:3], one_by_one.logits, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in READS_IN_ORDER])
def test_predictions_do_not_depend_on_the_order_of_clips(name: str) -> None:
    view = make_view()
    predictor, _, _ = fit(name, view, small_settings(name))
    order = torch.tensor([2, 0, 1])
    turned = Inputs(*(x[:, order] for x in (view.inputs.visual, view.inputs.audio)),
                    valid=view.inputs.valid[:, order])  # fmt: skip
    plain, other = predictor.predict(view.inputs), predictor.predict(turned)
    np.testing.assert_allclose(plain.logits[:, order.numpy()], other.logits, atol=1e-5)


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
    assert _equal(predictor.predict(view.inputs), again.predict(view.inputs))
    for one, other in zip(predictor.embed(view.inputs), again.embed(view.inputs), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_goes_where_it_is_sent(name: str) -> None:
    view = make_view()
    predictor = METHODS.get(name)().build(view.inputs.widths, view.classes, small_settings(name))
    moved(predictor, torch.device("meta"))
    assert all(value.is_meta for value in predictor.state_dict().values())


@pytest.mark.parametrize("name", NAMES)
def test_resuming_equals_not_being_interrupted(name: str) -> None:
    view, hp = make_view(), small_settings(name)
    whole, state, recorder = fit(name, view, hp)
    expected = whole.predict(view.inputs)
    judged = METHODS.get(name)().verdict(whole, view, hp, state)
    for stop in range(1, len(recorder.epochs) + 1):
        _, _, cut = fit(name, view, hp, interrupt_after=stop)
        rest, again, after = fit(name, view, hp, resume=cut.saved, seed=0)
        where = f"stopped after {cut.epochs[-1]}"
        assert cut.epochs + after.epochs == recorder.epochs
        assert _equal(rest.predict(view.inputs), expected), where
        verdict = METHODS.get(name)().verdict(rest, view, hp, again)
        assert (verdict is None) == (judged is None)
        if judged is not None:
            for key, scores in judged.keep.items():
                np.testing.assert_array_equal(verdict.keep[key], scores, err_msg=where)


@pytest.mark.parametrize("name", NAMES)
def test_the_noise_level_is_seen_only_where_declared(name: str) -> None:
    view, hp = make_view(), small_settings(name, **WITHOUT_LEVEL.get(name, {}))
    assert "noise_level" not in METHODS.get(name).needs - hp.spared()
    blind = dataclasses.replace(view, noise=None)
    seen, unseen = (fit(name, v, hp)[0].predict(view.inputs) for v in (view, blind))
    assert _equal(seen, unseen)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_may_have_one_video_or_none(name: str) -> None:
    view = make_view()
    labels = view.labels.clone()
    labels[labels == 0] = 1
    labels[0], labels[labels == 4] = 0, 3
    lonely = dataclasses.replace(view, labels=labels)
    predictor, _, recorder = fit(name, lonely, small_settings(name))
    assert all(math.isfinite(value) for log in recorder.logs for value in log.values())
    assert np.isfinite(predictor.predict(view.inputs).logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_verdicts_are_verdicts_on_the_training_data(name: str) -> None:
    view, hp = make_view(), small_settings(name)
    predictor, state, _ = fit(name, view, hp)
    verdict = METHODS.get(name)().verdict(predictor, view, hp, state)
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
def test_cpu_and_gpu_agree_after_two_steps(name: str) -> None:
    view = make_view(n=16)
    # Dropout draws differ between devices, so only methods' arithmetic is compared.
    hp = small_settings(name, epochs=1)
    if hasattr(hp, "dropout"):
        hp = dataclasses.replace(hp, dropout=0.0)
    cuda = torch.device("cuda")
    moved = dataclasses.replace(
        view, inputs=view.inputs.to(cuda), labels=view.labels.cuda(), groups=view.groups.cuda()
    )
    cpu = fit(name, view, hp)[0].predict(view.inputs)
    gpu = fit(name, moved, hp)[0].predict(moved.inputs)
    np.testing.assert_allclose(cpu.logits, gpu.logits, atol=1e-4)
