"""RLLD's rewards and policy gradient (methods/avvp.md, 4.4)."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.parsing import make_view
from trainers.avvp.filters import apply_filter
from trainers.avvp.interface import Inputs
from trainers.avvp.methods.rlld import RLLDHyperparameters
from trainers.avvp.metric import Truth
from trainers.avvp.networks.denoiser import Denoiser
from trainers.avvp.networks.han import HAN
from trainers.avvp.reinforcement import (
    CURVES,
    LabelPolicy,
    TerminalReward,
    advantages,
    keep_probabilities,
    modality_labels,
    policy_gradient,
    revise,
    soft_reward,
)
from trainers.avvp.training import NetPredictor


@pytest.mark.parametrize(
    ("labels", "removed", "r1", "r2", "inter"),
    [
        (1, 0, 1.0, 0.9683, 0.9873),
        (2, 0, 1.0, 0.9844, 0.9938),
        (2, 1, 0.2658, 0.6961, 0.4379),
        (3, 1, 0.2658, 0.8083, 0.4828),
        (3, 2, 0.0707, 0.5716, 0.2710),
    ],
)
def test_soft_reward_vectors(labels: int, removed: int, r1: float, r2: float, inter: float) -> None:
    y, revised = torch.zeros(25), torch.zeros(25)
    y[:labels] = 1
    revised[: labels - removed] = 1
    assert soft_reward(y, revised).item() == pytest.approx(inter, abs=6e-5)
    assert soft_reward(y, revised, weights=(1.0, 0.0)).item() == pytest.approx(r1, abs=6e-5)
    assert soft_reward(y, revised, weights=(0.0, 1.0)).item() == pytest.approx(r2, abs=6e-5)


def test_a_small_eps_punishes_even_what_is_untouched() -> None:
    y = torch.zeros(25)
    y[:2] = 1
    assert soft_reward(y, y, weights=(1.0, 0.0), eps=1e-7).item() == pytest.approx(5e-4, abs=5e-5)


def _bits(*rows: str) -> Tensor:
    return torch.tensor([[float(c) for c in row] for row in rows])


def test_labels_that_were_all_removed_come_back() -> None:
    labels = torch.stack([_bits("110", "110"), _bits("110", "110"), _bits("100", "000")])
    actions = torch.stack([_bits("011", "001"), _bits("001", "000"), _bits("111", "000")]) > 0
    revised, emptied = revise(labels, actions)
    assert emptied.tolist() == [[False, True], [True, True], [False, False]]
    assert revised.tolist() == [
        _bits("010", "110").tolist(),
        _bits("110", "110").tolist(),
        _bits("100", "000").tolist(),
    ]
    revised, emptied = revise(labels, actions, empty_rule="video")
    assert emptied.tolist() == [[False, False], [True, True], [False, False]]
    assert revised[0].tolist() == _bits("010", "000").tolist()


def test_advantages() -> None:
    rewards = torch.randn(3, 4, 2)
    assert torch.equal(advantages(rewards, "none", torch.ones(2)), rewards)
    running = torch.tensor([1.0, -2.0])
    torch.testing.assert_close(advantages(rewards, "ema", running), rewards - running)
    first = advantages(rewards, "ema", None)
    torch.testing.assert_close(first.mean((0, 1)), torch.zeros(2), atol=1e-6, rtol=0)
    loo = advantages(rewards, "loo", None)
    expected = rewards[1, 2, 0] - rewards[1, [0, 1, 3], 0].mean()
    torch.testing.assert_close(loo[1, 2, 0], expected)
    assert torch.isfinite(advantages(rewards[:, :1], "loo", None)).all()


def _policy(seed: int = 0) -> tuple[Denoiser, Inputs, Tensor]:
    view = make_view(n=9)
    torch.manual_seed(seed)
    denoiser = Denoiser(view.inputs.widths, 5, width=8, ff=8).double()
    inputs = Inputs(
        *(x.double() for x in (view.inputs.audio, view.inputs.visual, view.inputs.motion))
    )
    return denoiser, inputs, modality_labels(view).double()


@pytest.mark.parametrize("log_prob", ["positive", "all"])
@pytest.mark.parametrize("chunk", [2, 100])
def test_gradient_equals_that_of_the_objective_as_it_is_written(log_prob: str, chunk: int) -> None:
    denoiser, inputs, labels = _policy()
    rows = torch.tensor([[0, 3, 5], [5, 1, 0], [8, 5, 2]])
    actions = torch.rand(3, 3, 2, 5) < 0.5
    advantage = torch.randn(3, 3, 2, dtype=torch.float64)
    policy_gradient(
        denoiser, inputs, labels, rows, actions, advantage, log_prob=log_prob, chunk=chunk
    )
    ours = [p.grad.clone() for p in denoiser.parameters()]
    denoiser.zero_grad()
    objective = 0.0
    for i in range(3):
        for b in range(3):
            row = rows[i, b : b + 1]
            pi = torch.sigmoid(denoiser(inputs[row], labels[row]))[0]
            log_pi = torch.where(actions[i, b], pi, 1 - pi).log()
            if log_prob == "positive":
                log_pi = log_pi * labels[rows[i, b]]
            objective = objective + (advantage[i, b] * log_pi.sum(-1)).sum() / (3 * 3)
    (-objective).backward()
    for a, p in zip(ours, denoiser.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad, atol=1e-12, rtol=1e-9)


def test_classes_a_clip_does_not_have_send_no_gradient() -> None:
    denoiser, inputs, labels = _policy()
    rows, actions = torch.arange(9)[None], torch.ones(1, 9, 2, 5, dtype=torch.bool)
    absent = int((labels[:, 0].sum(0)).argmin())
    labels[:, :, absent] = 0
    advantage = torch.ones(1, 9, 2, dtype=torch.float64)
    policy_gradient(denoiser, inputs, labels, rows, actions, advantage)
    assert denoiser.fc_keep.bias.grad[absent] == 0
    assert (denoiser.fc_keep.bias.grad.abs() > 0).sum() == 4
    policy_gradient(denoiser, inputs, labels, rows, actions, advantage, log_prob="all")
    assert denoiser.fc_keep.bias.grad[absent] != 0


def test_reward_of_the_split_equals_clip_by_clip_validation() -> None:
    view = make_view(n=24)
    torch.manual_seed(0)
    predictor = NetPredictor(HAN(view.inputs.widths, 5, width=8), batch_size=5)
    with torch.no_grad():
        # An untrained network says yes to half of everything.
        predictor.net.fc_prob.weight.mul_(8)
    val = view.dense_val
    f_audio, f_visual = TerminalReward(val)(predictor)
    singles = []
    for i in range(len(val.audio)):
        audio, visual = apply_filter("modality", predictor.predict(val.inputs[i : i + 1]))
        truth = Truth(val.audio[i : i + 1], val.visual[i : i + 1])
        scores = truth.score(audio, visual)
        singles.append((scores["segment/audio"], scores["event/visual"]))
    assert (f_audio, f_visual) == pytest.approx(tuple(np.mean(singles, axis=0)))
    assert 0 < f_audio < 100
    assert 0 < f_visual < 100


def test_half_of_the_split_can_be_left_out() -> None:
    val = make_view(n=10).dense_val
    reward = TerminalReward(val, every=2)
    assert reward.left_out == [1, 3]
    assert torch.equal(reward.inputs.audio, val.inputs.audio[[0, 2, 4]])
    assert TerminalReward(val).left_out == []


def _label_policy(**values: object) -> tuple[LabelPolicy, list[list[float]]]:
    view = make_view(n=16)
    torch.manual_seed(0)
    hp = RLLDHyperparameters(width=8, ff=8, episode_length=3, **values)
    denoiser = Denoiser(view.inputs.widths, 5, **hp.denoiser())
    curves: list[list[float]] = []
    return LabelPolicy(denoiser, view, hp, torch.Generator().manual_seed(0), curves), curves


@pytest.mark.parametrize(("terminal", "unit"), [("percent", 0.1), ("fraction", 0.001)])
def test_reward_is_terminal_plus_soft_or_minus_one(terminal: str, unit: float) -> None:
    policy, _ = _label_policy(terminal=terminal)
    labels = torch.zeros(2, 3, 2, 5)
    labels[..., :2] = 1
    revised, emptied = labels.clone(), torch.zeros(2, 3, 2, dtype=torch.bool)
    revised[0, 0, 1, 0] = 0
    emptied[1, 2, 0] = True
    rewards = policy._rewards(labels, revised, emptied, (40.0, 20.0))
    untouched = soft_reward(labels[0, 0, 0], labels[0, 0, 0])
    torch.testing.assert_close(rewards[0, 0, 0], unit * 40 + untouched)
    torch.testing.assert_close(rewards[1, 0, 1], unit * 20 + untouched)
    assert rewards[0, 0, 1] < rewards[0, 1, 1]
    assert rewards[1, 2, 0] == -1


def test_episode_ends_learns_and_is_forgotten() -> None:
    policy, curves = _label_policy(keep_bias=0.0)
    before = policy.denoiser.fc_keep.weight.detach().clone()
    for step in range(3):
        assert not policy.episode_is_over, step
        revised = policy.act(torch.arange(4) + step)
        assert (revised <= policy.labels[torch.arange(4) + step]).all()
    assert policy.episode_is_over
    policy.learn((30.0, 10.0))
    assert not policy.episode_is_over
    assert not torch.equal(before, policy.denoiser.fc_keep.weight)
    (row,) = curves
    assert row[:2] == [30.0, 10.0]
    assert len(row) == len(CURVES)
    assert policy.means(0) == pytest.approx(dict(zip(CURVES, row, strict=True)))
    assert policy.means(1) == {}
    assert 0 < row[CURVES.index("removed_visual")] < 1


def test_validating_every_step_ends_episodes_of_one() -> None:
    policy, _ = _label_policy(validate_every="step")
    policy.act(torch.arange(4))
    assert policy.episode_is_over


def test_policy_moves_towards_rewarded_actions() -> None:
    # One-sided rewards: keeping everything in audio is worth it, in the picture it is not.
    denoiser, inputs, labels = _policy()
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-2)
    rows = torch.arange(9)[None]
    before = keep_probabilities(denoiser, inputs, labels)
    advantage = torch.tensor([1.0, -1.0], dtype=torch.float64).expand(1, 9, 2)
    for _ in range(10):
        optimizer.zero_grad()
        kept = torch.ones(1, 9, 2, 5, dtype=torch.bool)
        policy_gradient(denoiser, inputs, labels, rows, kept, advantage)
        optimizer.step()
    change = (keep_probabilities(denoiser, inputs, labels) - before) * labels
    assert change[:, 0].sum() > 0
    assert change[:, 1].sum() < 0


def test_most_probable_labels_obey_the_rule_for_empty_ones() -> None:
    policy, _ = _label_policy(keep_bias=-20.0)
    assert torch.equal(policy.revised(), policy.labels)
    policy, _ = _label_policy(keep_bias=20.0)
    assert torch.equal(policy.revised(), policy.labels)


def test_state_of_the_policy_goes_on_in_the_middle_of_an_episode() -> None:
    policy, _ = _label_policy(baseline="ema")
    for step in range(4):
        policy.act(torch.arange(4) + step)
        if policy.episode_is_over:
            policy.learn((30.0, 10.0))
    buffer = io.BytesIO()
    torch.save(policy.state_dict(), buffer)
    buffer.seek(0)
    other, _ = _label_policy(baseline="ema")
    other.load_state_dict(torch.load(buffer, weights_only=True))
    for p in (policy, other):
        p.generator.manual_seed(5)
        p.act(torch.arange(4))
        p.act(torch.arange(4))
        p.learn((20.0, 20.0))
    for a, b in zip(policy.denoiser.parameters(), other.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)


def test_cosine_of_no_labels_is_defined() -> None:
    nothing = torch.zeros(5)
    assert torch.isfinite(soft_reward(nothing, nothing))
    assert F.cosine_similarity(nothing, nothing, dim=-1) == 0
