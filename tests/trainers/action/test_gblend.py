"""G-Blend: its weight rule, its estimation and its loss (methods/action.md, 4.3)."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import UserError
from tests.recognition import fit, make_view, small_settings
from trainers.action.blending import blend, hold_out
from trainers.action.interface import TrainView
from trainers.action.methods.gblend import GBlend, GBlendHyperparameters
from trainers.action.networks.gblend import HEADS
from trainers.action.training import visits
from trainers.random import RandomState
from trainers.training import initialise

SMALL = {"width": 16, "batch_size": 8, "epochs": 2, "estimate_epochs": 2, "held_out": 0.25}


def _hp(**values: Any) -> GBlendHyperparameters:
    return GBlendHyperparameters(**SMALL | values)


def _loss(net: Any, head: str, view: TrainView, rows: torch.Tensor) -> float:
    """Mean over videos of the mean loss over their valid clips."""
    total = 0.0
    with torch.no_grad():
        for i in rows.tolist():
            there = view.inputs.valid[i]
            h_v, h_a = net.project(view.inputs.visual[i, there], view.inputs.audio[i, there])
            logits = {
                "visual": lambda h_v=h_v: net.head_v(h_v),
                "audio": lambda h_a=h_a: net.head_a(h_a),
                "fusion": lambda h_v=h_v, h_a=h_a: net.base.g(torch.cat((h_v, h_a), 1)),
            }[head]()
            total += float(F.cross_entropy(logits, view.labels[i].expand(len(logits))))
    return total / len(rows)


def test_defaults_are_the_specification() -> None:
    hp = GBlendHyperparameters()
    assert (hp.blend, hp.estimate_epochs, hp.period, hp.held_out) == ("offline", 10, 10, 0.1)
    assert hp.passes() == 60 + 30
    assert GBlendHyperparameters(blend="online").passes() == 60 + 6 * 30
    assert GBlendHyperparameters(blend="online", epochs=21).stops() == [10, 20, 21]
    assert GBlendHyperparameters(blend="constant").passes() == 60
    with pytest.raises(UserError, match="exceed 1"):
        GBlendHyperparameters(visual_weight=0.7, audio_weight=0.4)


def test_the_weight_rule_on_numbers_worked_by_hand() -> None:
    before = torch.tensor([[2.0, 2.0, 2.0], [2.0, 2.0, 2.0]])
    # Gains 1, 0.5, -1; overfitting 0.5, 0.001 (held at 1e-4 when squared), 2.
    after = torch.tensor([[0.5, 1.499, 1.0], [1.0, 1.5, 3.0]])
    found = blend(before, after)
    torch.testing.assert_close(found.gain, torch.tensor([1.0, 0.5, -1.0]))
    torch.testing.assert_close(
        found.overfitting, torch.tensor([0.5, 0.001, 2.0]), atol=1e-6, rtol=0
    )
    raw = torch.tensor([1 / 0.25, 0.5 / 1e-4, 0.0])
    torch.testing.assert_close(found.weights, raw / raw.sum())


def test_without_any_gain_weights_are_equal() -> None:
    found = blend(torch.ones(2, 3), torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]))
    torch.testing.assert_close(found.weights, torch.full((3,), 1 / 3))


def test_a_loss_that_is_needed_is_not_left_out() -> None:
    before = torch.full((2, 3), 2.0)
    after = torch.tensor([[0.5, 1.0, 1.0], [1.0, 1.5, 3.0]])  # gains 1, 0.5, -1
    assert blend(before, after).weights[2] == 0
    torch.testing.assert_close(blend(before, after, needed=2).weights, torch.full((3,), 1 / 3))
    assert torch.equal(blend(before, after, needed=0).weights, blend(before, after).weights)


@pytest.mark.parametrize(("zero_fusion", "weight"), [("equal", 1 / 3), ("keep", 0.0)])
def test_the_head_that_predicts_is_trained_unless_one_asks(
    zero_fusion: str, weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter((torch.full((2, 3), 2.0), torch.tensor([[0.5, 1.0, 1.0], [1.0, 1.5, 3.0]])))
    monkeypatch.setattr("trainers.action.methods.gblend._Estimator.losses", lambda _: next(found))
    view, hp = make_view(), _hp(zero_fusion=zero_fusion)
    predictor, _, recorder = fit("gblend", view, hp)
    assert recorder.logs[-1]["w_fusion"] == pytest.approx(weight)
    with RandomState(0).scope():
        make = partial(GBlend().build, view.inputs.widths, view.classes, hp)
        start = initialise(RandomState(0), "net", make)
    stayed = torch.equal(predictor.net.base.g[2].weight, start.net.base.g[2].weight)
    assert stayed == (zero_fusion == "keep")


LOSSES = st.lists(st.floats(0, 10, width=32), min_size=12, max_size=12)


@given(LOSSES)
@settings(max_examples=50, deadline=None)
def test_weights_are_shares(values: list[float]) -> None:
    before, after = torch.tensor(values).reshape(2, 2, 3)
    weights = blend(before, after).weights
    assert (weights >= 0).all()
    assert float(weights.sum()) == pytest.approx(1.0, abs=1e-5)


def test_groups_are_held_out_whole() -> None:
    groups = torch.tensor([7, 7, 7, 1, 1, 3, 3, 3, 3, 9, 9, 2, 2, 2, 5, 5, 5, 5, 8, 8])
    for seed in range(10):
        train, held = hold_out(groups, 0.1, RandomState(seed).stream("held out"))
        assert sorted(torch.cat((train, held)).tolist()) == list(range(20))
        assert not set(groups[train].tolist()) & set(groups[held].tolist())
        assert 2 <= len(held) <= 2 + 3
    alone = torch.arange(30)
    train, held = hold_out(alone, 0.1, RandomState(0).stream("held out"))
    assert (len(train), len(held)) == (27, 3)
    again = hold_out(alone, 0.1, RandomState(1).stream("held out"))[1]
    assert held.tolist() != again.tolist()


def test_one_group_cannot_be_held_out() -> None:
    view = dataclasses.replace(make_view(), groups=torch.zeros(24, dtype=torch.int64))
    with pytest.raises(UserError, match="--blend constant"):
        fit("gblend", view, _hp())
    fit("gblend", view, _hp(blend="constant"))


def test_all_weight_on_fusion_is_cross_entropy_step_by_step() -> None:
    view = make_view()
    hp = _hp(blend="constant", visual_weight=0.0, audio_weight=0.0, epochs=3)
    blended, _, recorder = fit("gblend", view, hp)
    plain, _, expected = fit("ce", view, small_settings("ce", epochs=3))
    assert [log["loss"] for log in recorder.logs] == [log["loss"] for log in expected.logs]
    for name, value in plain.net.state_dict().items():
        assert torch.equal(blended.net.base.state_dict()[name], value), name


def test_the_loss_weighs_three_heads() -> None:
    view = make_view(n=8, clips=1, missing=0.0)
    hp = _hp(blend="constant", visual_weight=0.5, audio_weight=0.2, epochs=1)
    rng = RandomState(0)
    net = initialise(rng, "net", partial(GBlend().build, view.inputs.widths, view.classes, hp)).net
    net.standardise(view.inputs)
    losses = [_loss(net, head, view, torch.arange(8)) for head in HEADS]
    _, _, recorder = fit("gblend", view, hp)
    log = recorder.logs[0]
    assert [log[f"loss_{head}"] for head in HEADS] == pytest.approx(losses, rel=1e-5)
    total = 0.5 * losses[0] + 0.2 * losses[1] + 0.3 * losses[2]
    assert log["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_estimation_trains_each_head_alone_from_the_same_state(head: str) -> None:
    view, hp = make_view(), _hp()
    _, state, recorder = fit("gblend", view, hp, seed=4)
    train, held = state.values["estimate/rows"]
    rng = RandomState(4)
    net = initialise(rng, "net", partial(GBlend().build, view.inputs.widths, view.classes, hp)).net
    net.standardise(view.inputs)
    before = _loss(net, head, view, train), _loss(net, head, view, held)
    # Only what this head reads may learn.
    parts = {
        "visual": (net.base.f_v, net.head_v),
        "audio": (net.base.f_a, net.head_a),
        "fusion": (net.base.f_v, net.base.f_a, net.base.g),
    }[head]
    optimizer = torch.optim.Adam([p for part in parts for p in part.parameters()], lr=hp.lr)
    for _ in range(2):
        for visit in visits(view, 8, rng, stream="order/estimate", rows=train):
            loss = F.cross_entropy(net.head(head, visit.visual, visit.audio), visit.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    after = _loss(net, head, view, train), _loss(net, head, view, held)
    log = recorder.logs[1]
    assert log[f"gain_{head}"] == pytest.approx(before[1] - after[1], abs=1e-5)
    gap = (after[1] - after[0]) - (before[1] - before[0])
    assert log[f"overfitting_{head}"] == pytest.approx(gap, abs=1e-5)


def test_offline_training_starts_anew_with_the_estimated_weights() -> None:
    view = make_view()
    offline, _, recorder = fit("gblend", view, _hp())
    assert recorder.epochs == [("estimate", 1), ("estimate", 2), ("train", 1), ("train", 2)]
    w = {head: recorder.logs[1][f"w_{head}"] for head in HEADS}
    assert sum(w.values()) == pytest.approx(1.0, abs=1e-6)
    assert [recorder.logs[-1][f"w_{head}"] for head in HEADS] == list(w.values())
    hp = _hp(blend="constant", visual_weight=w["visual"], audio_weight=w["audio"])
    constant, _, _ = fit("gblend", view, hp)
    for name, value in constant.net.state_dict().items():
        torch.testing.assert_close(offline.net.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_online_estimation_goes_on_from_the_current_network_and_resumes_anywhere() -> None:
    view = make_view()
    hp = _hp(blend="online", epochs=3, period=2, estimate_epochs=1)
    whole, _, recorder = fit("gblend", view, hp)
    assert recorder.epochs == [
        ("estimate", 1), ("train", 1), ("train", 2), ("estimate", 2), ("train", 3)
    ]  # fmt: skip
    first, second = recorder.logs[0], recorder.logs[3]
    assert first["w_visual"] != second["w_visual"]
    assert [log["w_visual"] for log in recorder.logs[1:3]] == [first["w_visual"]] * 2
    # The second estimation begins where training stands, not where it began.
    assert second["loss_fusion"] < first["loss_fusion"]
    for stop in range(1, 6):
        _, _, cut = fit("gblend", view, hp, interrupt_after=stop)
        rest, _, after = fit("gblend", view, hp, resume=cut.saved)
        assert cut.epochs + after.epochs == recorder.epochs
        assert cut.logs + after.logs == recorder.logs
        for name, value in whole.net.state_dict().items():
            assert torch.equal(rest.net.state_dict()[name], value), (stop, name)
