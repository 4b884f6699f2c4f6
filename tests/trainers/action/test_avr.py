"""AVR: its two stages, its dictionaries and its loss (methods/action.md, 4.6)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import UserError
from tests.recognition import fit, make_view
from trainers.action.methods.avr import AVRHyperparameters
from trainers.action.training import draw_clips
from trainers.random import RandomState

SMALL = {"width": 16, "batch_size": 8, "epochs": 3, "atoms": 10, "avr_iters": 20}


def _hp(**values: Any) -> AVRHyperparameters:
    return AVRHyperparameters(**SMALL | values)


def _weights(net: Any) -> dict[str, torch.Tensor]:
    return {k: v for k, v in net.state_dict().items() if not k.startswith("dictionary")}


def _rebuilt(atoms: torch.Tensor, r: torch.Tensor, hp: AVRHyperparameters) -> torch.Tensor:
    """r' by plain proximal steps with momentum."""
    step = 1 / float(torch.linalg.matrix_norm(atoms, 2)) ** 2
    c = y = torch.zeros(len(r), atoms.shape[1])
    t = 1.0
    for _ in range(hp.avr_iters):
        moved = y - step * (y @ atoms.T - r) @ atoms
        new = moved.sign() * (moved.abs() - step * hp.penalty).clamp(min=0)
        new_t = (1 + (1 + 4 * t * t) ** 0.5) / 2
        y, c, t = new + (t - 1) / new_t * (new - c), new, new_t
    return hp.mix * c @ atoms.T + (1 - hp.mix) * r


def test_defaults_are_the_specification() -> None:
    hp = AVRHyperparameters()
    assert hp.stages() == (40, 20)
    assert hp.passes() == 60
    assert (hp.atoms, hp.penalty, hp.mix, hp.cosine, hp.avr_iters) == (1024, 0.1, 0.5, 1.0, 50)
    assert AVRHyperparameters(epochs=1).stages() == (0, 1)
    assert AVRHyperparameters(robust_epochs=5).stages() == (55, 5)
    with pytest.raises(UserError, match="robust-epochs"):
        AVRHyperparameters(epochs=3, robust_epochs=4)


def test_without_mixing_and_cosine_the_second_stage_is_the_first() -> None:
    view = make_view()
    hp = {"epochs": 2, "mix": 0.0, "cosine": 0.0}
    first, _, one = fit("avr", view, _hp(robust_epochs=0, **hp))
    second, _, two = fit("avr", view, _hp(robust_epochs=2, **hp))
    assert [log["loss"] for log in one.logs] == [log["loss"] for log in two.logs]
    assert len(second.net.dictionary_v) == 10
    for name, value in _weights(first.net).items():
        assert torch.equal(value, second.net.state_dict()[name]), name


def test_dictionaries_are_features_of_the_same_training_videos_after_the_first_stage() -> None:
    view, hp = make_view(), _hp(epochs=3, robust_epochs=2)
    plain, _, _ = fit("avr", view, _hp(epochs=1, robust_epochs=0))
    full, _, recorder = fit("avr", view, hp)
    assert recorder.epochs == [("plain", 1), ("robust", 1), ("robust", 2)]
    with torch.no_grad():
        r_v, r_a = plain.net.features(view.inputs.visual, view.inputs.audio)  # (N, S, d)
    rng = RandomState(0)
    rows = torch.randperm(len(view), generator=rng.stream("atoms"))[:10]
    clips = draw_clips(view.inputs.valid, rows, rng.stream("atoms/clips"))
    torch.testing.assert_close(full.net.dictionary_v.filled, r_v[rows, clips].T)
    torch.testing.assert_close(full.net.dictionary_a.filled, r_a[rows, clips].T)
    assert not torch.equal(full.net.base.f_v.weight, plain.net.base.f_v.weight)


def test_a_small_training_set_gives_fewer_atoms() -> None:
    predictor, _, _ = fit("avr", make_view(n=12), _hp(atoms=30, epochs=2))
    assert len(predictor.net.dictionary_v) == 12
    assert predictor.net.dictionary_v.atoms.shape == (16, 30)


def test_the_robust_loss_adds_the_cosine_of_rebuilt_features() -> None:
    view = make_view(n=8, missing=0.0, clips=1)
    hp = _hp(epochs=2, robust_epochs=1)
    plain, _, _ = fit("avr", view, _hp(epochs=1, robust_epochs=0))
    full, _, recorder = fit("avr", view, hp)
    net = plain.net
    with torch.no_grad():
        r_v, r_a = net.features(view.inputs.visual[:, 0], view.inputs.audio[:, 0])  # (8, d)
        new_v = _rebuilt(full.net.dictionary_v.filled, r_v, hp)
        new_a = _rebuilt(full.net.dictionary_a.filled, r_a, hp)
        logits = net.classifier(torch.cat((new_v, new_a), 1))
        cosine = (F.normalize(new_v, dim=1) * F.normalize(new_a, dim=1)).sum(1).mean()
        expected = F.cross_entropy(logits, view.labels) + cosine
    assert cosine > 0.05
    assert recorder.logs[-1]["loss"] == pytest.approx(float(expected), rel=1e-4)
    # 20 iterations stop above the optimum, and the log says how far.
    assert recorder.logs[-1]["excess_visual"] > 0
    assert "excess_visual" not in recorder.logs[0]


def test_prediction_reads_rebuilt_features() -> None:
    view, hp = make_view(n=16, missing=0.0), _hp()
    predictor, _, _ = fit("avr", view, hp)
    net = predictor.net
    with torch.no_grad():
        r_v, r_a = net.features(view.inputs.visual[:, 0], view.inputs.audio[:, 0])
        new = [
            _rebuilt(d.filled, r, hp) for d, r in ((net.dictionary_v, r_v), (net.dictionary_a, r_a))
        ]
        expected = net.classifier(torch.cat(new, 1))
        plain = net.classifier(torch.cat((r_v, r_a), 1))
    got = torch.from_numpy(predictor.predict(view.inputs).logits[:, 0])
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(got, plain, atol=1e-3)


def test_it_learns() -> None:
    view = make_view(n=64, flipped=0.0, missing=0.0)
    predictor, _, _ = fit("avr", view, _hp(epochs=30, lr=3e-3))
    found = predictor.predict(view.inputs).logits.argmax(2)
    assert (found == view.labels.numpy()[:, None]).mean() > 0.9
