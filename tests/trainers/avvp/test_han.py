"""HAN's training against a loop written out here (methods/avvp.md, 4.1)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.parsing import fit, make_view
from trainers.avvp.methods.han import HANHyperparameters, HANMethod
from trainers.avvp.networks.han import HAN
from trainers.fitting import FitState
from trainers.random import RandomState
from trainers.training import initialise


def _hp(**values: Any) -> HANHyperparameters:
    return HANHyperparameters(**{"width": 16, "ff": 16, "batch_size": 8, "epochs": 3} | values)


def test_defaults_are_published() -> None:
    hp = HANHyperparameters()
    assert (hp.lr, hp.batch_size, hp.epochs, hp.lr_step, hp.lr_gamma) == (3e-4, 16, 40, 10, 0.1)
    assert (hp.width, hp.layers, hp.heads, hp.ff, hp.dropout) == (512, 1, 1, 512, 0.1)
    assert (hp.cls_dropout, hp.cl, hp.as_released) == (0.0, "none", False)
    assert hp.steps_per_epoch(10_000) == 625
    rule = HANMethod.selections["train"]
    assert rule.metric == "segment/type"
    assert rule.better(1.0, 1.0)


def test_training_equals_the_published_loop_step_for_step() -> None:
    view = make_view(n=20)
    predictor, _, recorder = fit("han", view, _hp(lr_step=2.0), seed=3)
    rng, losses = RandomState(3), []
    with rng.scope():
        net = initialise(rng, "net", lambda: HAN(view.inputs.widths, 5, width=16, ff=16))
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-4, fused=True)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1)
        for _ in range(3):
            order = torch.randperm(20, generator=rng.stream("order"))
            total = 0.0
            for rows in (order[:8], order[8:16], order[16:]):
                out, y = net(view.inputs[rows]), view.labels[rows]
                loss = F.binary_cross_entropy(out.audio_clip, y)
                loss = loss + F.binary_cross_entropy(out.visual_clip, 0.9 * y + 0.05)
                loss = loss + F.binary_cross_entropy(out.clip.clamp(1e-7, 1 - 1e-7), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach()) * len(rows)
            schedule.step()
            losses.append(total / 20)
    for name, value in predictor.net.state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[name], atol=1e-6, rtol=1e-5, msg=name)
    assert [log["loss"] for log in recorder.logs] == pytest.approx(losses, rel=1e-5)


def test_it_learns() -> None:
    view = make_view(n=64)
    hp = _hp(epochs=30, lr=3e-3, lr_step=100.0)
    predictor, _, recorder = fit("han", view, hp)
    assert recorder.logs[-1]["loss"] < 0.6 * recorder.logs[0]["loss"]
    found = predictor.predict(view.inputs).clip >= 0.5
    assert (found == view.labels.numpy().astype(bool)).mean() > 0.85


@pytest.mark.parametrize("form", ["ma", "jomold"])
def test_contrastive_loss_is_an_option(form: str) -> None:
    view = make_view(n=16)
    plain, _, _ = fit("han", view, _hp(epochs=1))
    other, _, recorder = fit("han", view, _hp(epochs=1, cl=form))
    assert recorder.logs[0]["loss"] > 2
    assert not torch.equal(plain.net.fc_a.weight, other.net.fc_a.weight)


def test_as_released_means_nothing_at_the_published_depth() -> None:
    view = make_view(n=16)
    weights = {
        (layers, released): fit("han", view, _hp(epochs=1, layers=layers, as_released=released))[0]
        .net.fc_prob.weight.detach()
        .numpy()
        for layers in (1, 2)
        for released in (False, True)
    }
    np.testing.assert_array_equal(weights[1, False], weights[1, True])
    assert not np.array_equal(weights[2, False], weights[2, True])


def test_labels_of_one_modality_are_its_target() -> None:
    view = make_view(n=16)
    silent = dataclasses.replace(view, labels_audio=torch.zeros_like(view.labels))
    predictor, _, _ = fit("han", silent, _hp(epochs=40, lr=1e-2, lr_step=100.0))
    prediction = predictor.predict(view.inputs)
    assert prediction.audio_clip.mean() < 0.5 * prediction.visual_clip.mean()


def test_han_judges_no_labels() -> None:
    view = make_view(n=8)
    predictor, state, _ = fit("han", view, _hp(epochs=1))
    assert isinstance(state, FitState)
    assert HANMethod().keep_scores(predictor, view, _hp(), state) is None
