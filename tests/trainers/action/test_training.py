"""What recognition methods share: the network, visits, prediction, the loss of a video."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import UserError
from tests.recognition import WIDTHS, fit, make_view, small_settings
from trainers.action.interface import METHODS, Prediction
from trainers.action.networks.heads import AudioVisualNet, Standardise
from trainers.action.training import (
    ActionHyperparameters,
    NetPredictor,
    build_net,
    draw_clips,
    full_batches,
    per_video_loss,
    visits,
)
from trainers.random import RandomState


@pytest.mark.parametrize("proj", ["linear", "mlp"])
@pytest.mark.parametrize(
    ("cls_input", "read"), [("proj", 2 * 16), ("norm", 2 * 16), ("raw", 20 + 12)]
)
def test_the_network_is_the_specified_one(proj: str, cls_input: str, read: int) -> None:
    net = AudioVisualNet(WIDTHS, 5, width=16, proj=proj, cls_input=cls_input)
    visual, audio = torch.randn(4, 3, 20), torch.randn(4, 3, 12)
    out = net(visual, audio)
    assert out.h_v.shape == out.h_a.shape == (4, 3, 16)
    assert out.logits.shape == (4, 3, 5)
    torch.testing.assert_close(out.z_v, F.normalize(out.h_v, dim=-1))
    first, relu, second = net.g
    assert first.in_features == read
    pair = {"proj": (out.h_v, out.h_a), "norm": (out.z_v, out.z_a), "raw": (visual, audio)}
    expected = second(torch.relu(first(torch.cat(pair[cls_input], -1))))
    torch.testing.assert_close(out.logits, expected)
    assert isinstance(relu, torch.nn.ReLU)
    assert isinstance(net.f_v, torch.nn.Linear) == (proj == "linear")


@pytest.mark.parametrize("cls_input", ["proj", "norm", "raw"])
@pytest.mark.parametrize("proj", ["linear", "mlp"])
def test_the_short_way_ends_where_the_long_one_does(proj: str, cls_input: str) -> None:
    view = make_view()
    net = AudioVisualNet(WIDTHS, 5, width=16, proj=proj, cls_input=cls_input)
    net.standardise(view.inputs)
    score, project = net.scorer(), net.projector()
    long = net(view.inputs.visual, view.inputs.audio)
    with torch.no_grad():
        short = score(view.inputs.visual, view.inputs.audio)
        h_v, h_a = project(view.inputs.visual, view.inputs.audio)
    torch.testing.assert_close(short, long.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(h_v, long.h_v, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(h_a, long.h_a, atol=1e-5, rtol=1e-5)
    assert not short.requires_grad
    assert not h_v.requires_grad


def test_inputs_are_standardised_by_the_valid_clips_of_training() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(3.0, 5.0, (30, 4, 6)).astype(np.float32))
    x[:, :, 2] = 1e3
    valid = torch.from_numpy(rng.random((30, 4)) < 0.6)
    valid[:, 0] = True
    x[~valid] = 1e6
    layer = Standardise(6)
    layer.fit(x, valid)
    clips = layer(x)[valid]
    expected = torch.ones(6)
    expected[2] = 0.0
    torch.testing.assert_close(clips.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(clips.std(0, correction=0), expected, atol=1e-4, rtol=0)
    again = Standardise(6)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again(x), layer(x)), "statistics travel with the weights"


def test_a_visit_draws_one_valid_clip_uniformly() -> None:
    valid = torch.tensor([[True, False, True, True], [False, True, False, False]])
    rows = torch.tensor([0, 1]).repeat(6000)
    clips = draw_clips(valid, rows, torch.Generator().manual_seed(0))
    assert valid[rows, clips].all()
    counts = torch.bincount(clips[rows == 0], minlength=4)
    # Four standard errors of a share of one third.
    assert (counts[[0, 2, 3]] / 6000 - 1 / 3).abs().max() < 4 * (2 / 9 / 6000) ** 0.5
    assert counts[1] == 0
    assert set(clips[rows == 1].tolist()) == {1}


def test_a_pass_visits_full_batches_of_the_same_clip_in_both_modalities() -> None:
    view = make_view(n=21)
    rng = RandomState(0)
    passes = [list(visits(view, 8, rng)) for _ in range(2)]
    for batches in passes:
        assert [len(b.rows) for b in batches] == [8, 8]
        rows = torch.cat([b.rows for b in batches])
        assert len(set(rows.tolist())) == 16
        for b in batches:
            assert torch.equal(b.visual, view.inputs.visual[b.rows, b.clips])
            assert torch.equal(b.audio, view.inputs.audio[b.rows, b.clips])
            assert torch.equal(b.labels, view.labels[b.rows])
            assert view.inputs.valid[b.rows, b.clips].all()
    assert not torch.equal(passes[0][0].rows, passes[1][0].rows)


def test_order_depends_on_the_seed_and_the_stream_alone() -> None:
    view = make_view()

    def order(seed: int, *before: str) -> list[tuple[int, int]]:
        rng = RandomState(seed)
        for stream in before:
            list(visits(view, 8, rng, stream=stream))
        return [
            pair
            for v in visits(view, 8, rng)
            for pair in zip(v.rows.tolist(), v.clips.tolist(), strict=True)
        ]

    assert order(0) == order(0, "another", "contrast")
    assert order(0) != order(1)
    assert order(0) != order(0, "order")


def test_some_videos_only_can_be_visited() -> None:
    view = make_view()
    rows = torch.tensor([3, 5, 7, 9, 11])
    (batch,) = visits(view, 4, RandomState(0), rows=rows)
    assert set(batch.rows.tolist()) < set(rows.tolist())
    assert torch.equal(batch.labels, view.labels[batch.rows])


def test_a_batch_that_is_not_filled_is_refused() -> None:
    assert full_batches(64, 64) == 1
    with pytest.raises(UserError, match=r"63 training videos .* --batch-size to 63 or less"):
        full_batches(63, 64)
    with pytest.raises(UserError, match="do not fill"):
        next(visits(make_view(), 25, RandomState(0)))
    with pytest.raises(UserError, match="do not fill"):
        ActionHyperparameters().check(make_view())


def test_settings_are_checked() -> None:
    with pytest.raises(UserError, match=r"--proj 'deep'"):
        ActionHyperparameters(proj="deep")
    with pytest.raises(UserError, match="--batch-size 0"):
        ActionHyperparameters(batch_size=0)
    hp = ActionHyperparameters()
    assert (hp.width, hp.lr, hp.batch_size, hp.epochs) == (512, 1e-3, 64, 60)
    assert (hp.passes(), hp.steps_per_epoch(20000)) == (60, 312)


def test_a_prediction_has_zeros_where_there_is_no_clip() -> None:
    view = make_view(missing=0.5)
    net = build_net(WIDTHS, 5, small_settings("ce"))
    predictor = NetPredictor(net, batch_size=5)
    net.train()
    prediction = predictor.predict(view.inputs)
    assert net.training, "the mode is put back"
    valid = view.inputs.valid.numpy()
    assert not valid.all()
    assert not prediction.logits[~valid].any()
    whole = NetPredictor(net).predict(view.inputs)
    np.testing.assert_allclose(prediction.logits, whole.logits, atol=1e-6)


def test_the_loss_of_a_video_is_the_mean_over_its_valid_clips() -> None:
    logits = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    valid = np.array([[True, False, True], [True, True, True]])
    found = per_video_loss(Prediction(logits, valid), torch.tensor([1, 3]))
    log_p = logits - np.log(np.exp(logits).sum(2, keepdims=True))
    expected = [-(log_p[0, 0, 1] + log_p[0, 2, 1]) / 2, -log_p[1, :, 3].mean()]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_cross_entropy_learns_what_it_is_told() -> None:
    view = make_view(n=60, flipped=0.0)
    hp = small_settings("ce", epochs=15, lr=3e-3)
    predictor, _, recorder = fit("ce", view, hp)
    losses = [log["loss"] for log in recorder.logs]
    assert losses[0] > 1.0
    assert losses[-1] < 0.2
    best = predictor.predict(view.inputs).logits.mean(1).argmax(1)
    assert (best == view.labels.numpy()).mean() > 0.9
    assert METHODS.get("ce")().verdict(predictor, view, hp, None) is None


def test_a_constant_feature_does_no_harm() -> None:
    view = make_view()
    inputs = dataclasses.replace(view.inputs, audio=torch.full_like(view.inputs.audio, 0.1))
    mute = dataclasses.replace(view, inputs=inputs)
    predictor, _, recorder = fit("ce", mute, small_settings("ce"))
    assert np.isfinite(predictor.predict(inputs).logits).all()
    assert np.isfinite([log["loss"] for log in recorder.logs]).all()
