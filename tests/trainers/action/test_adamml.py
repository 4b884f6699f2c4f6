"""AdaMML: policy, gates, stages (methods/action.md, 4.7)."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import UserError
from tests.recognition import fit, make_view
from trainers.action.interface import Inputs
from trainers.action.methods.adamml import AdaMML, AdaMMLHyperparameters
from trainers.action.networks.adamml import AdaMMLNet, Policy, hard_gumbel
from trainers.action.policies import draw_segments, policy_loss
from trainers.fitting import FitState
from trainers.random import RandomState
from trainers.training import initialise

SMALL = {"width": 16, "batch_size": 8, "segments": 2, "policy_width": 12, "policy_hidden": 6}
STAGES = {"epochs": 6, "main_epochs": 1, "final_epochs": 1}


def _hp(**values: Any) -> AdaMMLHyperparameters:
    return AdaMMLHyperparameters(**SMALL | STAGES | values)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_defaults_are_the_specification() -> None:
    hp = AdaMMLHyperparameters()
    assert hp.stages() == (5, 20, 10)
    assert hp.passes() == 55
    assert (hp.segments, hp.policy_width, hp.policy_hidden, hp.dropout) == (5, 512, 256, 0.5)
    assert (hp.temperature, hp.temperature_decay, hp.gamma) == (5.0, 0.965, 10.0)
    assert hp.costs() == (1.0, 0.05)


@pytest.mark.parametrize("epochs", [0, 1, 2, 3, 7, 19, 55, 60, 63, 200])
def test_stages_of_any_length_use_all_passes(epochs: int) -> None:
    hp = AdaMMLHyperparameters(epochs=epochs)
    main, alternations, final = hp.stages()
    assert min(main, alternations, final) >= 0
    assert hp.passes() == epochs
    assert final >= min(1, epochs)


def test_stages_that_do_not_fit_are_refused() -> None:
    assert AdaMMLHyperparameters(epochs=9, main_epochs=2, final_epochs=1).stages() == (2, 3, 1)
    assert AdaMMLHyperparameters(epochs=4, final_epochs=4).stages() == (0, 0, 4)
    with pytest.raises(UserError, match="--main-epochs"):
        AdaMMLHyperparameters(epochs=9, main_epochs=5, final_epochs=5)


def test_decisions_are_exactly_zero_or_one_with_the_gradient_of_the_softened_sample() -> None:
    logits = torch.randn(400, 2, generator=_generator(1), requires_grad=True)
    decisions = hard_gumbel(logits, 0.7, _generator(2))
    assert set(decisions.tolist()) == {0.0, 1.0}
    weights = torch.randn(400, generator=_generator(3))
    (decisions * weights).sum().backward()
    noise = -torch.empty(400, 2, dtype=torch.float64).exponential_(generator=_generator(2)).log()
    leaf = logits.detach().clone().requires_grad_()
    soft = ((leaf + noise.float()) / 0.7).softmax(1)[:, 1]
    (soft * weights).sum().backward()
    torch.testing.assert_close(logits.grad, leaf.grad)
    assert torch.equal(decisions.detach(), (soft.detach() > 0.5).float())


@pytest.mark.parametrize("temperature", [0.5, 5.0])
def test_decisions_have_the_probabilities_of_the_policy(temperature: float) -> None:
    logits = torch.tensor([0.3, 1.1]).expand(20_000, 2)
    p = float(logits[0].softmax(0)[1])
    rate = float(hard_gumbel(logits, temperature, _generator()).mean())
    assert abs(rate - p) < 4 * (p * (1 - p) / 20_000) ** 0.5


def test_the_penalty_counts_correct_samples_only() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    labels = torch.tensor([0, 0, 2])  # the second is wrong
    used = torch.tensor([[0.5, 1.0], [1.0, 1.0], [0.0, 0.5]], requires_grad=True)
    loss = policy_loss(logits, labels, used, (1.0, 0.05), 10.0)
    usage = (1.0 * 0.5**2 + 0.05 * 1.0**2 + 0.05 * 0.5**2) / 3
    expected = float(F.cross_entropy(logits, labels)) + usage + 10 / 3
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    loss.backward()
    expected_gradient = torch.tensor([[1.0, 0.1], [0.0, 0.0], [0.0, 0.05]]) / 3
    torch.testing.assert_close(used.grad, expected_gradient)


def test_segments_are_valid_in_order_and_one_of_each_part() -> None:
    valid = torch.ones(3, 12, dtype=torch.bool)
    valid[1, [0, 3, 4, 8, 9, 11]] = False  # six are left
    valid[2, 1:] = False
    rows = torch.tensor([0, 1, 2]).repeat(300)
    clips = draw_segments(valid, rows, 4, _generator())
    assert valid[rows[:, None], clips].all()
    assert (clips.diff(dim=1) >= 0).all()
    first = clips[rows == 0]
    for part in range(4):
        assert sorted(set(first[:, part].tolist())) == [3 * part, 3 * part + 1, 3 * part + 2]
    counts = first[:, 0].bincount(minlength=3)
    assert (counts > 70).all()
    assert set(clips[rows == 1].flatten().tolist()) == {1, 2, 5, 6, 7, 10}
    assert not clips[rows == 2].any()


def test_the_policy_reads_its_last_choice_and_skips_missing_clips() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = Policy(7, width=9, hidden=5)
    x = torch.randn(2, 4, 7, generator=_generator())
    valid = torch.tensor([[True, True, True, True], [True, False, True, True]])
    out = policy(x, valid)
    assert out.shape == (2, 4, 2, 2)
    for row, there in enumerate(valid):
        h = c = torch.zeros(1, 5)
        last = torch.zeros(1, 4)
        for s in range(4):
            if there[s]:
                read = torch.cat((policy.trunk(x[row, s][None]), last), 1)
                h, c = policy.cell(read, (h, c))
                last = policy.head(h)
                torch.testing.assert_close(out[row, s].flatten(), last[0])


def test_prediction_gates_by_the_likelier_choice_in_time_order() -> None:
    view = make_view(missing=0.0)
    make = partial(AdaMML().build, view.inputs.widths, view.classes, _hp())
    predictor = initialise(RandomState(0), "net", make)
    net = predictor.net.eval()
    net.standardise(view.inputs)
    with torch.no_grad():
        net.free.fill_(0.3)
        out = net(view.inputs.visual, view.inputs.audio, view.inputs.valid)
        use = (out.policy[..., 1] > out.policy[..., 0]).float()  # (N, S, M)
        assert ((use.mean((0, 1)) > 0.1) & (use.mean((0, 1)) < 0.9)).any()
        alpha = (0.3, 0.7)
        expected = sum(alpha[m] * use[..., m, None] * out.modality[..., m, :] for m in range(2))
    got = predictor.predict(view.inputs).logits
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-6)
    later = view.inputs.visual.clone(), view.inputs.audio.clone()
    for x in later:
        x[:, 2] += 3
    other = predictor.predict(Inputs(*later, view.inputs.valid)).logits
    np.testing.assert_array_equal(other[:, :2], got[:, :2])
    assert not np.array_equal(other[:, 2], got[:, 2])


def test_missing_clips_leave_no_trace() -> None:
    view = make_view(missing=0.0)
    predictor, _, _ = fit("adamml", view, _hp(lr=0.01))
    x, valid = view.inputs, view.inputs.valid.clone()
    valid[:, 1] = False
    holes = Inputs(x.visual * valid[..., None], x.audio * valid[..., None], valid)
    got = predictor.predict(holes).logits
    short = predictor.predict(Inputs(x.visual[:, ::2], x.audio[:, ::2], x.valid[:, ::2])).logits
    np.testing.assert_allclose(got[:, ::2], short, atol=1e-6)
    assert not got[:, 1].any()


class _Watcher:
    """Copies the weights at every epoch's end."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, dict[str, torch.Tensor], dict[str, float]]] = []

    def __call__(self, phase: str, epoch: int, predictor: Any, **log: float) -> bool:
        weights = {k: v.clone() for k, v in predictor.state_dict().items()}
        self.seen.append((phase, epoch, weights, log))
        return True


def test_stages_freeze_what_they_should() -> None:
    view, watcher, rng = make_view(), _Watcher(), RandomState(0)
    with rng.scope():
        AdaMML().fit(view, _hp(), rng=rng, state=FitState(), on_epoch=watcher)
    assert [(phase, epoch) for phase, epoch, _, _ in watcher.seen] == [
        ("main", 1), ("alternate", 1), ("alternate", 2), ("final", 1)
    ]  # fmt: skip
    logs = [log for *_, log in watcher.seen]
    assert [log["temperature"] for log in logs] == pytest.approx([5, 5, 5 * 0.965, 5 * 0.965])
    assert ["policy_loss" in log for log in logs] == [False, True, True, False]
    assert all(0 <= log[f"usage_{m}"] <= 1 for log in logs for m in ("visual", "audio"))
    states = [weights for _, _, weights, _ in watcher.seen]
    for before, after, moves in zip(states, states[1:], [True, True, False], strict=False):
        for name, value in after.items():
            if name.startswith("policy."):
                assert torch.equal(before[name], value) != moves, name
    assert not torch.equal(states[0]["head_v.2.weight"], states[3]["head_v.2.weight"])


def test_what_gates_is_exactly_zero_or_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, seen = AdaMMLNet.gate, []

    def watched(net: AdaMMLNet, modality: torch.Tensor, decisions: torch.Tensor) -> torch.Tensor:
        seen.append(decisions.detach().clone())
        return gate(net, modality, decisions)

    monkeypatch.setattr(AdaMMLNet, "gate", watched)
    with RandomState(0).scope():
        AdaMML().fit(make_view(), _hp(), rng=RandomState(0), state=FitState(), on_epoch=_Watcher())
    # 24 videos make 3 batches; 4 passes of the main network and 2 of the policy.
    assert len(seen) == 3 * (4 + 2)
    values = torch.cat([decisions.flatten() for decisions in seen])
    assert set(values.unique().tolist()) == {0.0, 1.0}


def test_the_policy_has_a_rate_of_its_own_if_asked() -> None:
    view, found = make_view(), []
    for values in ({}, {"policy_lr": 1e-3}, {"policy_lr": 0.0}):
        found.append(fit("adamml", view, _hp(**values))[0].state_dict())
    same = [all(torch.equal(found[0][k], other[k]) for k in other) for other in found[1:]]
    assert same == [True, False]


def test_the_policy_pass_leaves_the_main_network_alone() -> None:
    view, hp, rng = make_view(), _hp(), RandomState(0)
    predictor = AdaMML().build(view.inputs.widths, view.classes, hp)
    net = predictor.net
    net.standardise(view.inputs)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    optimizer = torch.optim.Adam(net.policy.parameters(), lr=0.01)
    AdaMML().learn_policy(net, optimizer, view, hp, rng, 5.0)
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(name.startswith("policy.") for name in changed)
    main = {id(p) for p in net.main_parameters()}
    assert not main & {id(p) for p in net.policy.parameters()}
    assert len(main) + len(list(net.policy.parameters())) == len(list(net.parameters()))


def test_fusion_weights_start_equal_and_sum_to_one() -> None:
    view = make_view()
    start = AdaMML().build(view.inputs.widths, view.classes, _hp()).net.fusion.detach()
    torch.testing.assert_close(start, torch.tensor([0.5, 0.5]))
    predictor, _, _ = fit("adamml", view, _hp(lr=0.05))
    end = predictor.net.fusion.detach()
    assert float(end.sum()) == pytest.approx(1.0, abs=1e-6)
    assert not torch.allclose(end, start, atol=1e-3)


def test_resuming_in_any_stage_equals_not_being_interrupted() -> None:
    view, hp = make_view(), _hp()
    whole, _, recorder = fit("adamml", view, hp)
    for stop in range(1, 5):
        _, _, cut = fit("adamml", view, hp, interrupt_after=stop)
        rest, _, after = fit("adamml", view, hp, resume=cut.saved)
        assert cut.logs + after.logs == recorder.logs
        for name, value in whole.net.state_dict().items():
            assert torch.equal(rest.net.state_dict()[name], value), (stop, name)


def test_the_whole_video_is_classified_by_the_mean_of_its_segments() -> None:
    view = make_view(n=8, clips=2, missing=0.0)
    hp = _hp(epochs=1, main_epochs=1, final_epochs=0, dropout=0.0)
    rng = RandomState(0)
    with rng.scope():
        watcher = _Watcher()
        AdaMML().fit(view, hp, rng=rng, state=FitState(), on_epoch=watcher)
    rng = RandomState(0)
    net = initialise(rng, "net", lambda: AdaMML().build(view.inputs.widths, view.classes, hp)).net
    net.standardise(view.inputs)
    order = torch.randperm(8, generator=rng.stream("order"))
    with torch.no_grad():
        out = net(view.inputs.visual[order], view.inputs.audio[order], view.inputs.valid[order])
        decisions = hard_gumbel(out.policy, 5.0, rng.stream("decisions"))
        logits = 0.5 * (decisions[..., None] * out.modality).sum(2).mean(1)
        expected = F.cross_entropy(logits, view.labels[order])
    assert watcher.seen[0][3]["loss"] == pytest.approx(float(expected), rel=1e-5)
    assert watcher.seen[0][3]["usage_audio"] == pytest.approx(float(decisions[..., 1].mean()))


def test_it_learns() -> None:
    view = make_view(n=64, flipped=0.0, missing=0.0)
    hp = _hp(epochs=40, main_epochs=20, final_epochs=10, lr=3e-3, cost_visual=0.05)
    predictor, _, _ = fit("adamml", view, hp)
    found = predictor.predict(view.inputs).logits.argmax(2)
    assert (found == view.labels.numpy()[:, None]).mean() > 0.8


def test_dropout_is_in_the_main_network_only() -> None:
    view = make_view()
    hp = dataclasses.replace(_hp(), dropout=0.9)
    net = AdaMML().build(view.inputs.widths, view.classes, hp).net.train()
    one, two = (net(view.inputs.visual, view.inputs.audio, view.inputs.valid) for _ in range(2))
    assert not torch.equal(one.modality, two.modality)
    assert torch.equal(one.policy, two.policy)
