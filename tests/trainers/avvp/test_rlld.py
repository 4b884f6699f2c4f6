"""RLLD's loop and its options (methods/avvp.md, 4.4); its parts are tested by themselves."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from tests.parsing import fit, make_view
from trainers.avvp.interface import METHODS
from trainers.avvp.losses import bce
from trainers.avvp.methods.rlld import RLLD, RLLDHyperparameters
from trainers.avvp.networks.han import HAN
from trainers.avvp.overlap import OverlapQueue
from trainers.avvp.reinforcement import CURVES
from trainers.random import RandomState
from trainers.training import initialise

SMALL = {"width": 16, "ff": 16, "batch_size": 8, "epochs": 2, "episode_length": 3}


def _hp(**values: Any) -> RLLDHyperparameters:
    return RLLDHyperparameters(**SMALL | values)


def test_defaults_are_published() -> None:
    hp = RLLDHyperparameters()
    assert (hp.lr, hp.policy_lr, hp.batch_size, hp.epochs) == (5e-4, 1e-4, 128, 25)
    assert (hp.lr_step, hp.lr_gamma, hp.overlap, hp.episode_length) == (6, 0.25, 0.25, 32)
    assert (hp.protocol, hp.subset, hp.validate_every) == ("joint", "all", "episode")
    assert (hp.baseline, hp.empty_rule, hp.eps, hp.terminal) == (
        "none",
        "modality",
        0.05,
        "percent",
    )
    assert (hp.divergence_weight, hp.cosine_weight, hp.log_prob) == (0.6, 0.4, "positive")
    assert (hp.pooling, hp.keep_bias, hp.cls_dropout) == ("mean", math.log(9), 0.5)
    assert not hp.retrain
    assert not hp.reward_split
    assert hp.steps_per_epoch(10_000) == 105
    assert RLLDHyperparameters(subset="third").steps_per_epoch(10_000) == 35
    assert RLLDHyperparameters(protocol="fresh", subset="third").steps_per_epoch(10_000) == 32
    assert RLLDHyperparameters(overlap=0.0).steps_per_epoch(10_000) == 79


def test_it_says_what_it_is_supervised_by_and_has_no_released_form() -> None:
    assert RLLD.supervision == "weak + dense val"
    assert RLLD.needs == {"dense_val"}
    assert not RLLD.released
    assert "as_released" not in {f.name for f in dataclasses.fields(RLLDHyperparameters)}
    assert METHODS.get("rlld") is RLLD


def test_it_refuses_to_start_without_dense_validation_labels() -> None:
    with pytest.raises(UserError, match=r"dense validation labels .* weakly supervised method"):
        fit("rlld", make_view(n=8, dense_val=False), _hp())


def test_keeping_all_labels_is_plain_training_step_for_step() -> None:
    view = make_view(n=24)
    hp = _hp(keep_bias=100.0, lr_step=1.0)
    predictor, _, recorder = fit("rlld", view, hp, seed=2)
    rng, losses = RandomState(2), []
    with rng.scope():
        net = initialise(
            rng, "net", lambda: HAN(view.inputs.widths, 5, width=16, ff=16, cls_dropout=0.5)
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=hp.lr, fused=True)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.25)
        queue = OverlapQueue(8, 0.25, length=3, generator=rng.stream("episodes"))
        queue.restart(torch.arange(24))
        for _ in range(2):
            epoch = []
            for _ in range(4):
                rows = queue.next()
                out, y = net(view.inputs[rows]), view.labels[rows]
                loss = 2 * bce(out.audio_clip, y) + bce(out.visual_clip, y) + bce(out.clip, y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                epoch.append(float(loss.detach()))
            schedule.step()
            losses.append(np.mean(epoch))
    for name, value in predictor.net.state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[name], atol=1e-7, rtol=1e-6, msg=name)
    assert [log["loss"] for log in recorder.logs] == pytest.approx(losses, rel=1e-6)


def test_episodes_cross_epochs_and_are_recorded() -> None:
    # Four steps an epoch and three an episode: 8 steps hold two episodes and two steps over.
    _, state, recorder = fit("rlld", make_view(n=24), _hp())
    curves = state.values["curves"]
    assert len(curves) == 2
    assert all(len(row) == len(CURVES) for row in curves)
    assert recorder.logs[0]["val_segment_audio"] == curves[0][0]
    assert len(state.state_dict()["tracked"]["policy"]["rows"]) == 2


@pytest.mark.parametrize("stop", [1, 2, 3])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"baseline": "ema"},
        {"protocol": "fresh", "subset": "third"},
        {"subset": "third"},
        {"retrain": True, "epochs": 2},
    ],
    ids=str,
)
def test_resuming_within_an_episode_equals_not_stopping(change: dict[str, Any], stop: int) -> None:
    view, hp = make_view(n=24), _hp(**{"epochs": 4, "policy_lr": 1e-2} | change)
    whole, state, recorder = fit("rlld", view, hp)
    _, _, cut = fit("rlld", view, hp, interrupt_after=stop)
    rest, again, after = fit("rlld", view, hp, resume=cut.saved)
    assert cut.epochs + after.epochs == recorder.epochs
    assert again.values["curves"] == state.values["curves"]
    for ours, theirs in ((rest.net.state_dict(), whole.net.state_dict()), (
        again.values["policy"], state.values["policy"],
    )):  # fmt: skip
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def _policy(**values: Any) -> torch.Tensor:
    _, state, _ = fit("rlld", make_view(n=24), _hp(keep_bias=0.0, **values))
    return torch.cat([v.flatten() for v in state.values["policy"].values()])


@pytest.mark.parametrize(
    "change",
    [
        {"baseline": "ema"},
        {"baseline": "loo"},
        {"empty_rule": "video"},
        {"validate_every": "step"},
        {"log_prob": "all"},
        {"terminal": "fraction"},
        {"eps": 1e-7},
        {"divergence_weight": 0.0, "cosine_weight": 0.0},
        {"overlap": 0.0},
        {"reward_split": True},
        {"cl": "ma"},
        {"protocol": "fresh"},
        {"subset": "third"},
    ],
    ids=str,
)
def test_every_option_changes_what_the_policy_learns(change: dict[str, Any]) -> None:
    # Adam's first step hardly depends on the size of a gradient; the second does.
    base = {"epochs": 4, "policy_lr": 1e-2}
    assert not torch.equal(_policy(**base), _policy(**base | change))


def test_policy_options_change_the_network() -> None:
    blind = _policy(state_labels=False)
    attentive = _policy(pooling="attention")
    assert len(blind) < len(_policy()) < len(attentive)


def test_fresh_parsers_start_anew_in_every_episode() -> None:
    view = make_view(n=24)
    hp = _hp(protocol="fresh", lr=0.0, epochs=3)
    predictor, state, recorder = fit("rlld", view, hp)
    assert len(recorder.epochs) == len(state.values["curves"]) == 3
    last = initialise(RandomState(0), "net/3", lambda: HAN(view.inputs.widths, 5, width=16, ff=16))
    assert torch.equal(predictor.net.fc_a.weight, last.fc_a.weight)
    # A fresh parser has a fresh optimiser: three steps of its own, not nine.
    steps = state.state_dict()["tracked"]["optimizer"]["state"][0]["step"]
    assert steps == 3


def test_a_third_of_the_clips_is_drawn_anew_only_for_fresh_parsers() -> None:
    view = make_view(n=24)
    pools = {}
    for protocol in ("joint", "fresh"):
        seen = []
        for epochs in (1, 2):
            hp = _hp(protocol=protocol, subset="third", epochs=epochs, batch_size=4)
            _, state, _ = fit("rlld", view, hp)
            seen.append(set(state.state_dict()["tracked"]["queue"]["pool"].tolist()))
        pools[protocol] = seen
        assert all(len(pool) == 8 for pool in seen)
    assert pools["joint"][0] == pools["joint"][1]
    assert pools["fresh"][0] != pools["fresh"][1]


def test_retraining_uses_the_final_labels_and_reports_its_own_phase() -> None:
    view = make_view(n=24)
    predictor, state, recorder = fit("rlld", view, _hp(retrain=True))
    assert recorder.epochs == [("denoise", 1), ("denoise", 2), ("train", 1), ("train", 2)]
    joint = state.state_dict()["tracked"]["net"]
    assert not torch.equal(predictor.net.fc_a.weight, joint["fc_a.weight"])
    # With no learning rate it stays where joint training began, on the same weights.
    start = initialise(
        RandomState(0),
        "net",
        lambda: HAN(view.inputs.widths, 5, width=16, ff=16, cls_dropout=0.5),
    )
    unmoved, _, _ = fit("rlld", view, _hp(retrain=True, lr=0.0))
    assert torch.equal(unmoved.net.fc_a.weight, start.fc_a.weight)


def test_a_policy_that_would_remove_everything_removes_nothing() -> None:
    _, state, _ = fit("rlld", make_view(n=24), _hp(keep_bias=-50.0, policy_lr=0.0))
    assert np.sum(state.values["removed"]) == 0


def test_half_of_validation_is_left_for_selection() -> None:
    view = make_view(n=24)
    _, state, _ = fit("rlld", view, _hp(reward_split=True))
    assert state.values["selection_rows"] == [1, 3, 5, 7, 9, 11]
    poisoned = dataclasses.replace(
        view,
        dense_val=dataclasses.replace(
            view.dense_val,
            audio=np.where(np.arange(12)[:, None, None] % 2, True, view.dense_val.audio),
        ),
    )
    _, other, _ = fit("rlld", poisoned, _hp(reward_split=True))
    assert other.values["curves"] == state.values["curves"]


def test_keep_scores_are_the_policy_and_agree_with_what_was_removed() -> None:
    view = make_view(n=24)
    hp = _hp(keep_bias=0.0, epochs=3)
    predictor, state, _ = fit("rlld", view, hp)
    keep = RLLD().keep_scores(predictor, view, hp, state)
    assert keep["audio"].dtype == np.float32
    labels = view.labels.numpy()
    for m, modality in enumerate(("audio", "visual")):
        kept = labels * (keep[modality] >= 0.5)
        emptied = kept.sum(1) == 0
        kept[emptied] = labels[emptied]
        np.testing.assert_array_equal((labels - kept).sum(0), state.values["removed"][m])
    assert np.sum(state.values["removed"]) > 0


def test_policy_learns_which_labels_to_drop_when_rewarded_for_it() -> None:
    # Only the angle to the labels counts, so keeping everything is best; start from a coin flip.
    view = make_view(n=32)
    values = {"terminal": "fraction", "divergence_weight": 0.0, "cosine_weight": 1.0}
    hp = _hp(keep_bias=0.0, epochs=25, policy_lr=2e-2, baseline="loo", **values)
    _, state, _ = fit("rlld", view, hp)
    removed = np.array(state.values["curves"])[:, CURVES.index("removed_visual")]
    assert removed[-5:].mean() < 0.3 * removed[:5].mean()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match=r"--overlap 0\.95 is out of range"):
        _hp(overlap=0.95)
    with pytest.raises(
        UserError, match="--protocol 'both' is not known; choose one of joint, fresh"
    ):
        _hp(protocol="both")
