"""JoMoLD's two stages (methods/avvp.md, 4.3); its rules are tested in test_denoising."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from tests.parsing import fit, make_view
from trainers.avvp.denoising import noise_mask, noise_ratios
from trainers.avvp.losses import bce, bce_cells, contrastive, smooth
from trainers.avvp.methods.jomold import JoMoLD, JoMoLDHyperparameters
from trainers.avvp.networks.han import HAN
from trainers.avvp.training import NetPredictor
from trainers.random import RandomState
from trainers.training import initialise


def _hp(**values: Any) -> JoMoLDHyperparameters:
    return JoMoLDHyperparameters(**{"width": 16, "ff": 16, "batch_size": 8, "epochs": 2} | values)


def test_defaults_are_published() -> None:
    hp = JoMoLDHyperparameters()
    assert (hp.lr, hp.batch_size, hp.epochs, hp.lr_step, hp.lr_gamma) == (5e-4, 128, 25, 6, 0.25)
    assert (hp.theta_audio, hp.theta_visual, hp.warmup) == (0.6, 1.8, 0.9)
    assert (hp.cls_dropout, hp.cl, hp.ratio, hp.rule, hp.modalities) == (
        0.5,
        "none",
        None,
        "joint",
        "both",
    )
    assert not hp.estimator_ca
    assert hp.steps_per_epoch(10_000) == 79
    assert {rule.metric for rule in JoMoLD.selections.values()} == {"event/audio"}
    assert list(JoMoLD.selections) == ["estimate", "train"]


def _main_loop(view: Any, hp: JoMoLDHyperparameters, ratios: torch.Tensor, seed: int) -> HAN:
    """Algorithm 1 written out, with two separate forward passes."""
    rng, n = RandomState(seed), len(view)
    options = {"width": hp.width, "ff": hp.ff, "dropout": hp.dropout, "cls_dropout": hp.cls_dropout}
    net = initialise(rng, "net", lambda: HAN(view.inputs.widths, 5, **options))
    optimizer = torch.optim.Adam(net.parameters(), lr=hp.lr, fused=True)
    steps, t = -(-n // hp.batch_size), 0
    for _ in range(hp.epochs):
        for rows in rng.batches(n, hp.batch_size):
            y = view.labels[rows]
            with torch.no_grad():
                judged = net(view.inputs[rows], with_ca=False)
            noise = noise_mask(
                bce_cells(judged.audio_clip, y),
                bce_cells(judged.visual_clip, smooth(y)),
                y > 0,
                ratios * min(1.0, t / (hp.warmup * steps)),
            )
            audio, visual = y.clone(), smooth(y)
            audio[noise[0]] = 0
            visual[noise[1]] = 0
            out = net(view.inputs[rows])
            loss = 2 * bce(out.audio_clip, audio) + bce(out.visual_clip, visual) + bce(out.clip, y)
            loss = loss + contrastive(out, hp.cl)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            t += 1
    return net


@pytest.mark.parametrize("cl", ["none", "jomold"])
def test_main_stage_equals_algorithm_one_step_for_step(cl: str) -> None:
    view = make_view(n=20)
    # No dropout, so that the estimator's draws do not matter here.
    hp = _hp(dropout=0.0, cls_dropout=0.0, cl=cl, theta_audio=1.0, theta_visual=1.0)
    predictor, state, _ = fit("jomold", view, hp, seed=1)
    ratios = state.values["noise_ratios"]
    assert (ratios > 0.2).any()
    net = _main_loop(view, hp, ratios, seed=1)
    for name, value in predictor.net.state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[name], atol=1e-6, rtol=1e-5, msg=name)


def test_ratios_are_those_of_the_selected_estimator_without_cross_attention() -> None:
    view = make_view(n=24)
    hp = _hp(epochs=4)
    _, state, _ = fit("jomold", view, hp)
    selected = state.selected("estimate")
    net = HAN(view.inputs.widths, 5, width=16, ff=16)
    net.load_state_dict(selected)
    prediction = NetPredictor(net, with_ca=False).predict(view.inputs)
    clip = torch.from_numpy(np.stack((prediction.audio_clip, prediction.visual_clip), axis=1))
    labels = torch.stack((view.labels, view.labels), dim=1)
    assert torch.equal(noise_ratios(clip, labels, (0.6, 1.8)), state.values["noise_ratios"])
    # The recorder selects odd epochs; after the fourth, the estimator goes back to the third.
    last = state.state_dict()["tracked"]["estimator"]
    assert torch.equal(last["fc_a.weight"], selected["fc_a.weight"])
    assert state.values["noise_ratios"].dtype == torch.float64


def test_estimator_trains_without_cross_attention_unless_asked() -> None:
    view = make_view(n=16)
    key = "hat_encoder.layers.0.cm_attn.out_proj.weight"
    fresh = initialise(RandomState(0), "estimator", lambda: HAN(view.inputs.widths, 5, width=16))
    for crossed in (False, True):
        _, state, _ = fit("jomold", view, _hp(epochs=1, estimator_ca=crossed))
        moved = not torch.equal(state.selected("estimate")[key], fresh.state_dict()[key])
        assert moved is crossed


def test_phases_are_walked_in_order() -> None:
    _, _, recorder = fit("jomold", make_view(n=16), _hp())
    assert recorder.epochs == [("estimate", 1), ("estimate", 2), ("train", 1), ("train", 2)]


def test_main_network_starts_where_han_starts_and_sees_the_same_order() -> None:
    view = make_view(n=16)
    options = {"lr": 0.0, "dropout": 0.0, "cls_dropout": 0.0}
    ours, _, _ = fit("jomold", view, _hp(**options), seed=5)
    han = initialise(RandomState(5), "net", lambda: HAN(view.inputs.widths, 5, width=16, ff=16))
    assert all(
        torch.equal(a, b)
        for a, b in zip(ours.net.state_dict().values(), han.state_dict().values(), strict=True)
    )
    # With nothing to remove and HAN's loss weights undone, one step differs only by the weight 2.
    theirs = RandomState(5)
    one, two = RandomState(5), list(theirs.batches(16, 8))
    list(one.batches(16, 8, "order/estimate"))
    assert all(torch.equal(a, b) for a, b in zip(one.batches(16, 8), two, strict=True))


def test_constant_ratio_needs_no_estimator() -> None:
    _, state, recorder = fit("jomold", make_view(n=16), _hp(ratio=0.3))
    assert {phase for phase, _ in recorder.epochs} == {"train"}
    assert (state.values["noise_ratios"] == 0.3).all()


def _weights(**values: Any) -> np.ndarray:
    options = {"dropout": 0.0, "cls_dropout": 0.0, "ratio": 0.5, "epochs": 2, "warmup": 0.0}
    predictor, _, _ = fit("jomold", make_view(n=24), _hp(**options | values))
    return predictor.net.fc_prob.weight.detach().numpy()


@pytest.mark.parametrize(
    "change",
    [
        {"rule": "intra"},
        {"modalities": "audio"},
        {"modalities": "visual"},
        {"warmup": 0.9},
        {"warmup": 0.5},
        {"ratio": 0.1},
        {"cl": "ma"},
        {"as_released": True, "warmup": 0.9, "ratio": 0.9},
    ],
    ids=str,
)
def test_every_ablation_changes_training(change: dict[str, Any]) -> None:
    # As released, the warm-up is another; all else in this stage is the same.
    base = {"warmup": 0.9, "ratio": 0.9} if "as_released" in change else {}
    assert not np.array_equal(_weights(**base), _weights(**change))


def test_nothing_is_removed_at_ratio_zero_whatever_the_rule() -> None:
    joint, intra = _weights(ratio=0.0), _weights(ratio=0.0, rule="intra")
    np.testing.assert_array_equal(joint, intra)


def test_as_released_estimator_always_has_the_contrastive_loss() -> None:
    view = make_view(n=16)
    plain, released = (
        fit("jomold", view, _hp(as_released=flag))[2].logs[0]["loss"] for flag in (False, True)
    )
    assert released > plain + 0.1
    # In the parser it is an option, in JoMoLD's form whichever is asked for.
    forms = [_weights(as_released=True, cl=cl) for cl in ("none", "ma", "jomold")]
    np.testing.assert_array_equal(forms[1], forms[2])
    assert not np.array_equal(forms[0], forms[1])


def test_as_released_ratios_are_its_own() -> None:
    view = make_view(n=21)
    _, state, _ = fit("jomold", view, _hp(as_released=True, theta_visual=1.0))
    net = HAN(view.inputs.widths, 5, width=16, ff=16)
    net.load_state_dict(state.selected("estimate"))
    prediction = NetPredictor(net, with_ca=False).predict(view.inputs)
    clip = torch.from_numpy(np.stack((prediction.audio_clip, prediction.visual_clip), axis=1))
    labels = torch.stack((view.labels, view.labels), dim=1)
    expected = noise_ratios(clip, labels, (0.6, 1.0), released_batches=8)
    assert torch.equal(expected, state.values["noise_ratios"])
    assert not torch.equal(expected, noise_ratios(clip, labels, (0.6, 1.0)))


def test_keep_scores_are_the_rule_over_the_whole_training_set() -> None:
    view = make_view(n=24)
    hp = _hp(ratio=0.4)
    predictor, state, _ = fit("jomold", view, hp)
    keep = JoMoLD().keep_scores(predictor, view, hp, state)
    predictor.net.eval()
    with torch.no_grad():
        out = predictor.net(view.inputs, with_ca=False)
    audio, visual = noise_mask(
        bce_cells(out.audio_clip, view.labels),
        bce_cells(out.visual_clip, smooth(view.labels)),
        view.labels > 0,
        state.values["noise_ratios"],
    )
    np.testing.assert_array_equal(keep["audio"], 1.0 - audio.numpy())
    np.testing.assert_array_equal(keep["visual"], 1.0 - visual.numpy())
    assert audio.any()
    assert visual.any()
    only = JoMoLD().keep_scores(predictor, view, dataclasses.replace(hp, modalities="audio"), state)
    assert (only["visual"] == 1).all()


def test_labels_of_one_modality_are_never_put_back_or_compared() -> None:
    view = make_view(n=24)
    silent = dataclasses.replace(view, labels_audio=torch.zeros_like(view.labels))
    hp = _hp(ratio=0.9, warmup=0.0)
    predictor, state, _ = fit("jomold", silent, hp)
    keep = JoMoLD().keep_scores(predictor, silent, hp, state)
    assert (keep["audio"] == 1).all()
    assert (keep["visual"] == 1).all()


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match=r"--ratio 1\.5 is out of range"):
        _hp(ratio=1.5)
    with pytest.raises(UserError, match="--rule 'cross' is not known"):
        _hp(rule="cross")
