"""MRL's losses, class vectors and training loop (methods/action.md, 4.4)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import UserError
from tests.recognition import fit, make_view
from trainers.action.methods.mrl import (
    CEILING,
    MRL,
    MRLHyperparameters,
    cosine_lr,
    multimodal_contrast,
    robust_clustering,
)
from trainers.action.networks.mrl import MRLNet
from trainers.action.training import visits
from trainers.random import RandomState
from trainers.training import initialise


def _hp(**values: Any) -> MRLHyperparameters:
    return MRLHyperparameters(
        **{"width": 16, "mrl_hidden": 16, "batch_size": 8, "epochs": 3} | values
    )


def _units(n: int, width: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_defaults_are_the_specification() -> None:
    hp = MRLHyperparameters()
    assert (hp.mrl_hidden, hp.width, hp.beta, hp.tau) == (512, 512, 0.5, 1.0)
    assert (hp.beta1, hp.beta2, hp.lr, hp.epochs, hp.batch_size) == (0.5, 0.999, 1e-3, 60, 64)
    assert CEILING == 1 - 1e-6


def test_robust_clustering_and_its_gradient() -> None:
    logits = torch.randn(7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    labels = torch.arange(7) % 5
    leaf = logits.clone().requires_grad_()
    loss = robust_clustering(leaf.log_softmax(1), labels)
    loss.backward()
    p = logits.softmax(1)
    p_y = p[torch.arange(7), labels]
    torch.testing.assert_close(loss.detach(), (1 - p_y).log().mean())
    expected = (p_y / (1 - p_y))[:, None] * p
    expected[torch.arange(7), labels] = -p_y
    torch.testing.assert_close(leaf.grad, expected / 7)


def test_a_certain_label_gives_a_finite_loss() -> None:
    logits = torch.tensor([[200.0, 0.0], [0.0, 1.0]], requires_grad=True)
    loss = robust_clustering(logits.log_softmax(1), torch.tensor([0, 0]))
    loss.backward()
    p = float(torch.tensor([0.0, 1.0]).softmax(0)[0])
    # The nearest single-precision number to the ceiling is 2 % nearer to 1.
    assert float(loss.detach()) == pytest.approx((math.log(1e-6) + math.log(1 - p)) / 2, abs=0.02)
    assert torch.isfinite(logits.grad).all()


def test_contrast_equals_a_double_loop_and_does_not_tell_modalities_apart() -> None:
    u_v, u_a = _units(5, 6, 0), _units(5, 6, 1)
    both = [*u_v, *u_a]
    total = 0.0
    for r in range(10):
        scores = {t: math.exp(float(both[r] @ both[t]) / 0.5) for t in range(10) if t != r}
        total -= math.log(scores[(r + 5) % 10] / sum(scores.values()))
    loss = multimodal_contrast(u_v, u_a, 0.5)
    assert float(loss) == pytest.approx(2 * total / 10, rel=1e-5)
    torch.testing.assert_close(multimodal_contrast(u_a, u_v, 0.5), loss)


def test_class_vectors_start_orthonormal_and_stay_unit_at_every_forward() -> None:
    net = MRLNet({"visual": 6, "audio": 5}, 4, width=8, hidden=8)
    torch.testing.assert_close(net.omega.T @ net.omega, torch.eye(4), atol=1e-5, rtol=0)
    norms = []
    forward = MRLNet.forward

    def watched(self: MRLNet, *args: Any) -> Any:
        norms.append(self.omega.detach().norm(dim=0))
        return forward(self, *args)

    view = make_view()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MRLNet, "forward", watched)
        predictor, _, _ = fit("mrl", view, _hp(lr=0.1))
        predictor.predict(view.inputs)
    assert len(norms) == 10
    torch.testing.assert_close(torch.stack(norms), torch.ones(10, 5))
    start = initialise(
        RandomState(0), "net", lambda: MRL().build(view.inputs.widths, view.classes, _hp())
    )
    assert not torch.allclose(predictor.net.omega, start.net.omega, atol=0.01)


def test_more_classes_than_dimensions_are_refused() -> None:
    with pytest.raises(UserError, match="--width to 9"):
        MRLNet({"visual": 6, "audio": 5}, 9, width=8)


def test_the_learning_rate_falls_to_zero() -> None:
    rates = [cosine_lr(2.0, epoch, 10) for epoch in range(1, 12)]
    assert rates[0] == 2.0
    assert rates[5] == pytest.approx(1.0)
    assert rates[10] == pytest.approx(0.0)
    assert rates == sorted(rates, reverse=True)


def test_training_equals_the_loop_written_out() -> None:
    view, hp = make_view(), _hp(beta=0.7, tau=0.8)
    predictor, _, recorder = fit("mrl", view, hp, seed=3)
    rng, logs = RandomState(3), []
    with rng.scope():
        net = initialise(
            rng, "net", lambda: MRLNet(view.inputs.widths, 5, width=16, hidden=16, tau=0.8)
        )
        net.standardise(view.inputs)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.5, 0.999))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)
        for _ in range(3):
            total = 0.0
            for visit in visits(view, 8, rng):
                with torch.no_grad():
                    net.omega /= net.omega.norm(dim=0, keepdim=True)
                u = [F.normalize(h, dim=1) for h in net.project(visit.visual, visit.audio)]
                loss = 0.3 * multimodal_contrast(u[0], u[1], 0.8)
                for side in u:
                    p = (side @ net.omega / 0.8).softmax(1)
                    loss = loss + 0.7 * (1 - p[torch.arange(8), visit.labels]).log().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += float(loss.detach())
            schedule.step()
            logs.append(total / 3)
    assert [log["loss"] for log in recorder.logs] == pytest.approx(logs, rel=1e-4)
    torch.testing.assert_close(predictor.net.f_v[0].weight, net.f_v[0].weight, atol=1e-5, rtol=1e-3)


def test_it_predicts_by_the_sum_of_probabilities() -> None:
    view = make_view(missing=0.0)
    predictor, _, _ = fit("mrl", view, _hp())
    with torch.no_grad():
        u = [
            F.normalize(h, dim=-1)
            for h in predictor.net.project(view.inputs.visual, view.inputs.audio)
        ]
        p = sum((side @ predictor.net.omega).softmax(-1) for side in u).numpy()
    logits = predictor.predict(view.inputs).logits
    np.testing.assert_allclose(np.exp(logits), p / 2, rtol=1e-5)
    embedded = predictor.embed(view.inputs)
    torch.testing.assert_close(embedded.visual, u[0])


def test_it_learns() -> None:
    view = make_view(n=64, flipped=0.0, missing=0.0)
    predictor, _, _ = fit("mrl", view, _hp(epochs=30, lr=3e-3))
    found = predictor.predict(view.inputs).logits.argmax(2)
    assert (found == view.labels.numpy()[:, None]).mean() > 0.9
