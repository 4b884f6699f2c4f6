"""Co-teaching: who learns from whose small losses, and how many."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.errors import UserError
from tests.fitting import Recorder
from tests.recognition import fit, make_view, small_settings
from trainers.action.interface import KnownNoise
from trainers.action.methods.ce import CrossEntropy
from trainers.action.methods.coteaching import CoTeaching, kept_count, small_loss
from trainers.action.pairs import PairPredictor
from trainers.action.training import build_net, visits
from trainers.fitting import FitState
from trainers.random import RandomState


def _settings(**values):
    return small_settings("coteaching", **values)


def test_kept_counts_are_floored_and_ramped() -> None:
    assert kept_count(64, 0.4, 0, 10) == 64
    assert kept_count(64, 0.4, 5, 10) == int(0.8 * 64)
    assert kept_count(64, 0.4, 10, 10) == int(0.6 * 64)
    assert kept_count(64, 0.4, 50, 10) == int(0.6 * 64)
    assert kept_count(50, 0.4, 10, 10) == 30
    assert kept_count(64, 0.6, 0, 0) == 25
    assert kept_count(64, 1.0, 10, 10) == 0
    for rate in np.linspace(0, 1, 101):
        for batch in (1, 7, 32, 50, 64):
            exact = (100 - round(rate * 100)) * batch // 100
            assert kept_count(batch, float(rate), 3, 2.0) == exact


def test_small_losses_come_in_the_order_of_the_batch() -> None:
    losses = torch.tensor([3.0, 1.0, 2.0, 1.0, 0.5, 1.0])
    assert small_loss(losses, 3).tolist() == [1, 3, 4]
    assert small_loss(losses, 6).tolist() == list(range(6))
    assert small_loss(losses, 1).tolist() == [4]


def test_without_forgetting_both_networks_are_plain_training() -> None:
    view = make_view(n=40)
    pair, _, _ = fit("coteaching", view, _settings(forget=0.0, epochs=3))
    ce, _, _ = fit("ce", view, small_settings("ce", epochs=3))
    for one, other in zip(
        pair.nets[0].state_dict().values(), ce.net.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)

    class Second(RandomState):
        """Gives the network of ce the second one's first weights."""

        def stream(self, name):
            return super().stream("init/net/2" if name == "init/net" else name)

    rng = Second(0)
    state = FitState()
    with rng.scope():
        alone = CrossEntropy().fit(
            view,
            small_settings("ce", epochs=3),
            rng=rng,
            state=state,
            on_epoch=Recorder(state, rng),
        )
    for one, other in zip(
        pair.nets[1].state_dict().values(), alone.net.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_an_update_is_written_out() -> None:
    """The first batch after the ramp, with both networks' selections made by hand."""
    view, hp = make_view(n=8, classes=4, missing=0.0), _settings(forget=0.5, ramp=0.0, epochs=1)
    pair, _, recorder = fit("coteaching", view, hp)
    start = fit("coteaching", view, dataclasses.replace(hp, epochs=0))[0]
    (visit,) = list(visits(view, 8, RandomState(0)))
    losses = [
        F.cross_entropy(net(visit.visual, visit.audio).logits, visit.labels, reduction="none")
        for net in start.nets
    ]
    chosen = [
        sorted(range(8), key=lambda i, loss=loss: float(loss.detach()[i]))[:4] for loss in losses
    ]
    assert set(chosen[0]) != set(chosen[1]), "the networks agree, so nothing is shown"
    for k, net in enumerate(start.nets):
        optimizer = torch.optim.Adam(net.parameters(), lr=hp.lr)
        loss = losses[k][chosen[1 - k]].mean()
        optimizer.zero_grad()
        loss.backward(retain_graph=True)
        optimizer.step()
    for mine, theirs in zip(start.nets.parameters(), pair.nets.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)
    assert recorder.logs[0]["kept"] == 4


def test_the_true_rate_is_the_default_and_is_logged() -> None:
    view = make_view(n=40, flipped=0.25)
    hp = _settings(epochs=4, ramp=2.0)
    _, _, recorder = fit("coteaching", view, hp)
    assert {log["forget"] for log in recorder.logs} == {0.25}
    assert [log["kept"] for log in recorder.logs] == [8, 7, 6, 6]


def test_a_rate_of_ones_own_needs_no_knowledge() -> None:
    view, hp = make_view(n=40), _settings(forget=0.3, epochs=4, ramp=1.0)
    blind = dataclasses.replace(view, noise=None)
    told = dataclasses.replace(view, noise=KnownNoise("symmetric", 0.9))
    results = [fit("coteaching", v, hp)[0].predict(view.inputs).logits for v in (blind, told)]
    assert np.array_equal(*results)
    with pytest.raises(UserError, match="--forget"):
        fit("coteaching", blind, _settings())


@pytest.mark.parametrize("rate", [1.0, 0.9])
def test_a_rate_that_leaves_nothing_is_refused(rate: float) -> None:
    view = dataclasses.replace(make_view(), noise=KnownNoise("symmetric", rate))
    with pytest.raises(UserError, match="leaves nothing"):
        fit("coteaching", view, _settings())
    with pytest.raises(UserError, match="leaves nothing"):
        fit("coteaching", view, _settings(forget=rate))
    with pytest.raises(UserError, match="leaves nothing"):
        _settings().check(view)
    fit("coteaching", view, _settings(forget=0.5))
    _settings(forget=0.5).check(view)


def test_no_noise_forgets_nothing() -> None:
    view = dataclasses.replace(make_view(flipped=0.0), noise=KnownNoise(None, 0.0))
    _, _, recorder = fit("coteaching", view, _settings())
    assert {log["kept"] for log in recorder.logs} == {8.0}


def test_probabilities_are_averaged() -> None:
    view = make_view(missing=0.3)
    predictor, _, _ = fit("coteaching", view, _settings())
    whole = predictor.predict(view.inputs)
    p = [
        torch.from_numpy(single.predict(view.inputs).logits).softmax(-1).numpy()
        for single in predictor.singles()
    ]
    mean = np.exp(whole.logits)[whole.valid]
    np.testing.assert_allclose(mean, ((p[0] + p[1]) / 2)[whole.valid], rtol=1e-4)
    np.testing.assert_allclose(mean.sum(-1), 1.0, rtol=1e-5)
    assert whole.logits.dtype == np.float32
    assert (whole.logits[~whole.valid] == 0.0).all()


def test_a_pair_is_combined_in_known_ways_only() -> None:
    nets = [build_net({"visual": 3, "audio": 2}, 4, _settings()) for _ in range(2)]
    with pytest.raises(ValueError, match="logits or softmax"):
        PairPredictor(*nets, combine="votes")


def test_the_verdict_is_the_probability_of_the_given_label() -> None:
    view = make_view(n=160, flipped=0.3)
    hp = _settings(width=32, epochs=12, lr=3e-3, ramp=4.0)
    predictor, state, _ = fit("coteaching", view, hp)
    verdict = CoTeaching().verdict(predictor, view, hp, state)
    keep = verdict.keep["small_loss"]
    assert keep.shape == (160,)
    assert keep.dtype == np.float32
    assert ((keep >= 0) & (keep <= 1)).all()
    wrong = (view.labels != torch.arange(160) % 5).numpy()
    assert keep[~wrong].mean() > keep[wrong].mean() + 0.5
    assert verdict.weights is None
    assert verdict.corrected is None


def test_settings_are_those_of_the_specification() -> None:
    hp = CoTeaching.hyperparameters()
    assert hp.forget is None
    assert hp.ramp == 10.0
    assert CoTeaching.needs == {"noise_level"}
    assert CoTeaching.hyperparameters().spared() == frozenset()
    assert CoTeaching.hyperparameters(forget=0.4).spared() == CoTeaching.needs
    assert hp.passes() == 60
