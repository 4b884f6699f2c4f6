"""DivideMix: the mixture over losses, guessed targets, mixed inputs, and who divides for whom."""

from __future__ import annotations

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch

from tests.recognition import fit, make_view, small_settings
from trainers.action import mixtures
from trainers.action.interface import KnownNoise
from trainers.action.methods import dividemix
from trainers.action.methods.dividemix import DivideMix, posteriors
from trainers.action.mixtures import (
    beta,
    clean_posterior,
    draw_two,
    mix_up,
    negative_entropy,
    prior_penalty,
    semi_supervised_loss,
    sharpen,
    two_clip_batches,
)
from trainers.random import RandomState
from trainers.training import adam


def _settings(**values):
    return small_settings("dividemix", **({"warmup": 2, "epochs": 5} | values))


def _pair(view, hp):
    """A warmed-up pair and its state."""
    predictor, state, _ = fit("dividemix", view, dataclasses.replace(hp, epochs=hp.warmup))
    return predictor, state


def test_the_mixture_finds_two_kinds_of_losses() -> None:
    rng = np.random.default_rng(0)
    small = rng.normal(0.2, 0.05, 300)
    large = rng.normal(3.0, 0.4, 100)
    w = clean_posterior(torch.from_numpy(np.concatenate([small, large])).float(), seed=0)
    assert w.dtype == torch.float32
    assert (w[:300] > 0.5).float().mean() > 0.98
    assert (w[300:] < 0.5).all()
    scaled = torch.from_numpy(np.concatenate([small, large])).float() * 7 + 3
    torch.testing.assert_close(w, clean_posterior(scaled, seed=0), atol=1e-4, rtol=0)


def test_equal_losses_tell_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (clean_posterior(torch.full((20,), 1.5), seed=0) == 0.5).all()


def test_sharpening_keeps_sums_and_makes_the_largest_larger() -> None:
    p = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    sharp = sharpen(p, 0.5)
    torch.testing.assert_close(sharp, p**2 / (p**2).sum(1, keepdim=True))
    torch.testing.assert_close(sharp.sum(1), torch.ones(6))
    assert (sharp.amax(1) >= p.amax(1)).all()
    torch.testing.assert_close(sharpen(p, 1.0), p)


def test_the_first_input_weighs_at_least_half() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = np.array([beta(4.0, generator) for _ in range(2000)])
    assert draws.min() >= 0.5
    assert draws.max() <= 1.0
    # The mean of max(b, 1 - b) for Beta(4, 4) is 1/2 + 35/256.
    assert abs(draws.mean() - (0.5 + 35 / 256)) < 4 * draws.std() / math.sqrt(len(draws))


def test_mixing_uses_one_share_and_one_order_for_all() -> None:
    x, y = torch.randn(4, 3), torch.eye(4)
    order = torch.tensor([2, 0, 3, 1])
    mixed_x, mixed_y = mix_up((x, y), 0.75, order)
    torch.testing.assert_close(mixed_x, mixed_y @ x)
    torch.testing.assert_close(mixed_y.sum(1), torch.ones(4))
    assert (mixed_y.argmax(1) == torch.arange(4)).all()


def test_the_loss_is_written_out() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(8, 3, generator=generator)
    targets = torch.rand(8, 3, generator=generator).softmax(1)
    supervised, guessed, prior = semi_supervised_loss(logits, targets, 4, 25.0)
    p = logits.double().exp() / logits.double().exp().sum(1, keepdim=True)
    expected = sum(
        -float(targets[i, k]) * math.log(float(p[i, k])) for i in range(4) for k in range(3)
    )
    assert float(supervised) == pytest.approx(expected / 4, rel=1e-5)
    square = sum(
        (float(p[i, k]) - float(targets[i, k])) ** 2 for i in range(4, 8) for k in range(3)
    )
    assert float(guessed) == pytest.approx(25.0 * square / 12, rel=1e-5)
    mean = p.mean(0)
    divergence = sum((1 / 3) * math.log((1 / 3) / float(q)) for q in mean)
    assert float(prior) == pytest.approx(divergence, rel=1e-4)


def test_the_penalties_are_least_where_they_should_be() -> None:
    flat, sure = torch.zeros(4, 5), 20.0 * torch.eye(5)
    assert float(prior_penalty(flat)) == pytest.approx(0.0, abs=1e-6)
    assert float(prior_penalty(sure)) == pytest.approx(0.0, abs=1e-4)
    assert float(prior_penalty(sure[:1].expand(4, 5))) > 1.0
    assert float(negative_entropy(flat)) == pytest.approx(-math.log(5))
    assert float(negative_entropy(sure)) == pytest.approx(0.0, abs=1e-4)


def test_two_clips_are_different_and_valid() -> None:
    valid = torch.tensor([[True, True, True, False], [False, False, True, False], [True] * 4])
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(200):
        first, second = draw_two(valid, generator)
        rows = torch.arange(3)
        assert valid[rows, first].all()
        assert valid[rows, second].all()
        assert (first[1], second[1]) == (2, 2)
        assert first[0] != second[0]
        assert first[2] != second[2]
        seen.add((int(first[2]), int(second[2])))
    assert len(seen) == 12
    first, second = draw_two(torch.ones(2, 1, dtype=torch.bool), generator)
    assert torch.equal(first, second)


def test_batches_walk_all_rows_before_any_comes_again() -> None:
    view = make_view(n=24)
    rows = torch.arange(3, 23)
    batches = list(two_clip_batches(view, rows, 5, 8, RandomState(0), "some"))
    walked = torch.cat([batch.rows for batch in batches])
    assert torch.equal(walked[:20].sort().values, rows)
    assert torch.equal(walked[20:].sort().values, rows)
    for batch in batches:
        for visual, audio in zip(batch.visual, batch.audio, strict=True):
            same_v = (view.inputs.visual[batch.rows] == visual[:, None]).all(2)
            same_a = (view.inputs.audio[batch.rows] == audio[:, None]).all(2)
            assert (same_v & same_a & view.inputs.valid[batch.rows]).any(1).all()


def test_networks_differ_in_their_first_weights_and_in_nothing_else() -> None:
    view = make_view()
    predictor, _ = _pair(view, _settings(warmup=0))
    first, second = predictor.nets
    assert not torch.equal(first.g[0].weight, second.g[0].weight)
    torch.testing.assert_close(first.standardise_v.mean, second.standardise_v.mean)


def test_each_network_learns_from_the_other_ones_split(monkeypatch) -> None:
    view, hp = make_view(n=48), _settings(epochs=3)
    told = []
    learn = DivideMix.learn

    def spy(self, view, hp, predictor, own, w, *args):
        told.append((own, w.clone()))
        return learn(self, view, hp, predictor, own, w, *args)

    made = []

    def posterior(losses, *, seed):
        made.append(clean_posterior(losses, seed=seed))
        return made[-1]

    monkeypatch.setattr(DivideMix, "learn", spy)
    monkeypatch.setattr(dividemix, "clean_posterior", posterior)
    fit("dividemix", view, hp)
    assert [own for own, _ in told] == [0, 1]
    assert torch.equal(told[0][1], made[1])
    assert torch.equal(told[1][1], made[0])


def test_the_split_of_one_network_depends_on_the_losses_of_the_other_only() -> None:
    view, hp = make_view(n=48), _settings()
    predictor, state = _pair(view, hp)
    before = posteriors(predictor, view, state)
    with torch.no_grad():
        for weight in predictor.nets[0].parameters():
            weight.mul_(0.3).add_(0.05)
    after = posteriors(predictor, view, state)
    assert torch.equal(before[1], after[1])
    assert not torch.equal(before[0], after[0])


def test_targets_sum_to_one_and_clean_ones_lean_on_their_label(monkeypatch) -> None:
    view, hp = make_view(n=48), _settings()
    predictor, _ = _pair(view, hp)
    seen = []

    def spy(arrays, share, order):
        seen.append((arrays[2], share))
        return mix_up(arrays, share, order)

    monkeypatch.setattr(dividemix, "mix_up", spy)
    w = torch.where(torch.arange(48) % 2 == 0, 1.0, 0.0)
    optimizer = adam(predictor.nets[0].parameters(), 1e-3)
    args = (view, hp, predictor, 0, w, optimizer, RandomState(0), 3)
    losses = DivideMix().learn(*args)
    assert len(losses) == 24 // hp.batch_size
    assert all(map(math.isfinite, losses))
    assert len(seen) == 24 // hp.batch_size
    for targets, share in seen:
        assert share >= 0.5
        torch.testing.assert_close(targets.sum(1), torch.ones(4 * hp.batch_size))
        quarter = targets.split(hp.batch_size)
        torch.testing.assert_close(quarter[0], quarter[1])
        torch.testing.assert_close(quarter[2], quarter[3])
        assert (quarter[0].amax(1) == 1.0).all()


def test_updates_are_counted_as_the_first_network_makes_them(monkeypatch) -> None:
    view, hp = make_view(n=48), _settings(epochs=4)
    made, learn = [6 * hp.warmup], DivideMix.learn

    def spy(self, view, hp, predictor, own, *args):
        losses = learn(self, view, hp, predictor, own, *args)
        made.append(0 if own else len(losses))
        return losses

    monkeypatch.setattr(DivideMix, "learn", spy)
    _, state, _ = fit("dividemix", view, hp)
    assert state.values["updates"] == sum(made) > made[0]


def test_a_pass_leaves_the_other_network_alone() -> None:
    view, hp = make_view(n=48), _settings()
    predictor, _ = _pair(view, hp)
    other = {k: v.clone() for k, v in predictor.nets[1].state_dict().items()}
    own = {k: v.clone() for k, v in predictor.nets[0].state_dict().items()}
    w = torch.where(torch.arange(48) % 2 == 0, 1.0, 0.0)
    optimizer = adam(predictor.nets[0].parameters(), 1e-3)
    DivideMix().learn(view, hp, predictor, 0, w, optimizer, RandomState(0), 3)
    assert all(torch.equal(other[k], v) for k, v in predictor.nets[1].state_dict().items())
    assert any(not torch.equal(own[k], v) for k, v in predictor.nets[0].state_dict().items())


@pytest.mark.parametrize("clean", [0, 7, 41, 48])
def test_a_part_of_less_than_a_batch_leaves_the_pass_out(clean: int) -> None:
    view, hp = make_view(n=48), _settings()
    predictor, _ = _pair(view, hp)
    w = (torch.arange(48) < clean).float()
    optimizer = adam(predictor.nets[0].parameters(), 1e-3)
    before = {k: v.clone() for k, v in predictor.nets[0].state_dict().items()}
    assert DivideMix().learn(view, hp, predictor, 0, w, optimizer, RandomState(0), 3) == []
    assert all(torch.equal(before[k], v) for k, v in predictor.nets[0].state_dict().items())


def test_left_out_passes_are_logged_with_a_finite_loss() -> None:
    view = make_view(n=48)
    # No posterior is above 1: nothing is ever clean.
    _, _, recorder = fit("dividemix", view, _settings(threshold=1.0))
    for log in recorder.logs[2:]:
        assert log["skipped"] == 2
        assert log["clean"] == 0.0
        assert math.isfinite(log["loss"])


def test_confidence_is_punished_for_asymmetric_noise_or_on_demand() -> None:
    view = make_view()
    asymmetric = dataclasses.replace(view, noise=KnownNoise("asymmetric", 0.25))

    def weights(view, penalty):
        hp = _settings(epochs=2, penalty=penalty)
        return fit("dividemix", view, hp)[0].state_dict()["0.g.2.weight"]

    plain, on = weights(view, "off"), weights(view, "on")
    assert not torch.equal(plain, on)
    assert torch.equal(weights(view, "auto"), plain)
    assert torch.equal(weights(asymmetric, "auto"), on)
    assert torch.equal(weights(asymmetric, "off"), plain)


def test_nothing_is_told_of_the_noise_where_the_penalty_is_chosen() -> None:
    view, hp = make_view(n=48), _settings(penalty="off")
    blind = dataclasses.replace(view, noise=None)
    one, other = (fit("dividemix", v, hp)[0].predict(view.inputs) for v in (view, blind))
    assert np.array_equal(one.logits, other.logits)


def test_the_unlabelled_loss_comes_in_over_the_ramp(monkeypatch) -> None:
    view, hp = make_view(n=48), _settings(ramp=2.0)
    weights = []

    def spy(logits, targets, labelled, weight):
        weights.append(weight)
        return semi_supervised_loss(logits, targets, labelled, weight)

    monkeypatch.setattr(dividemix, "semi_supervised_loss", spy)
    predictor, _ = _pair(view, hp)
    w = (torch.arange(48) % 2).float()
    for epoch in (3, 4, 5, 9):
        optimizer = adam(predictor.nets[0].parameters(), 1e-3)
        DivideMix().learn(view, hp, predictor, 0, w, optimizer, RandomState(0), epoch)
    steps = 3
    expected = [
        25.0 * min((epoch - 3 + step / steps) / 2.0, 1.0)
        for epoch in (3, 4, 5, 9)
        for step in range(steps)
    ]
    assert weights == pytest.approx(expected)


def test_the_logits_of_both_networks_are_added() -> None:
    view = make_view(missing=0.3)
    predictor, _, _ = fit("dividemix", view, _settings())
    first, second = (single.predict(view.inputs) for single in predictor.singles())
    whole = predictor.predict(view.inputs)
    np.testing.assert_allclose(whole.logits, first.logits + second.logits)
    z = predictor.embed(view.inputs)
    torch.testing.assert_close(z.visual.norm(dim=-1), torch.ones(view.inputs.valid.shape))
    singles = [single.embed(view.inputs) for single in predictor.singles()]
    cosine = sum((s.visual * s.audio).sum(-1) for s in singles) / 2
    torch.testing.assert_close((z.visual * z.audio).sum(-1), cosine)


def test_dividing_resumes_to_the_bit() -> None:
    view, hp = make_view(n=96, flipped=0.4), _settings(epochs=6)
    whole, state, recorder = fit("dividemix", view, hp)
    assert any(log.get("skipped") == 0 for log in recorder.logs), "no pass was made"
    expected = whole.predict(view.inputs).logits
    keep = DivideMix().verdict(whole, view, hp, state).keep["mixture"]
    for stop in (1, 3, 5):
        _, _, cut = fit("dividemix", view, hp, interrupt_after=stop)
        rest, resumed, after = fit("dividemix", view, hp, resume=cut.saved)
        assert cut.epochs + after.epochs == recorder.epochs
        assert np.array_equal(rest.predict(view.inputs).logits, expected)
        again = DivideMix().verdict(rest, view, hp, resumed).keep["mixture"]
        assert np.array_equal(again, keep)


def test_the_verdict_tells_wrong_labels_from_right_ones() -> None:
    view = make_view(n=160, flipped=0.3)
    hp = _settings(width=32, epochs=10, lr=3e-3)
    predictor, state, _ = fit("dividemix", view, hp)
    verdict = DivideMix().verdict(predictor, view, hp, state)
    assert list(verdict.keep) == ["mixture"]
    keep = verdict.keep["mixture"]
    assert keep.dtype == np.float32
    wrong = (view.labels != torch.arange(160) % 5).numpy()
    assert keep[~wrong].mean() > 0.9
    assert keep[wrong].mean() < 0.2


def test_a_pass_follows_a_reimplementation(monkeypatch) -> None:
    """One update, written out with plain loops over rows."""
    view = make_view(n=16, clips=2, missing=0.0)
    hp = _settings(batch_size=8, ramp=4.0)
    predictor, _ = _pair(view, hp)
    w = (torch.arange(16) % 2).float() * 0.8
    drawn = {}

    def spy_beta(concentration, generator):
        drawn["l"] = beta(concentration, generator)
        return drawn["l"]

    def spy_mix(arrays, share, order):
        drawn["order"] = order
        return mix_up(arrays, share, order)

    def spy_batches(*args):
        for batch in two_clip_batches(*args):
            drawn.setdefault("batches", []).append(batch)
            yield batch

    monkeypatch.setattr(dividemix, "beta", spy_beta)
    monkeypatch.setattr(dividemix, "mix_up", spy_mix)
    monkeypatch.setattr(dividemix, "two_clip_batches", spy_batches)
    optimizer = adam(predictor.nets[0].parameters(), 0.0)
    (loss,) = DivideMix().learn(view, hp, predictor, 0, w, optimizer, RandomState(5), 4)

    def p(net, visual, audio):
        return net(visual[None], audio[None]).logits.softmax(1)[0].double()

    x, u = drawn["batches"]
    inputs, targets = [], []
    with torch.no_grad():
        first, second = predictor.nets
        for clip in (0, 1):
            for b, row in enumerate(x.rows.tolist()):
                own = sum(p(first, x.visual[c][b], x.audio[c][b]) for c in (0, 1)) / 2
                target = (1 - w[row].double()) * own
                target[view.labels[row]] += w[row].double()
                targets.append(target**2 / (target**2).sum())
                inputs.append((x.visual[clip][b], x.audio[clip][b]))
        for clip in (0, 1):
            for b in range(8):
                guess = sum(
                    p(net, u.visual[c][b], u.audio[c][b]) for net in (first, second) for c in (0, 1)
                )
                guess = guess / 4
                targets.append(guess**2 / (guess**2).sum())
                inputs.append((u.visual[clip][b], u.audio[clip][b]))
        share, order = drawn["l"], drawn["order"].tolist()
        q, mixed = [], []
        for i, j in enumerate(order):
            visual, audio = (share * inputs[i][m] + (1 - share) * inputs[j][m] for m in (0, 1))
            q.append(p(first, visual, audio))
            mixed.append(share * targets[i] + (1 - share) * targets[j])
    supervised = -sum((mixed[i] * q[i].log()).sum() for i in range(16)) / 16
    guessed = sum(((q[i] - mixed[i]) ** 2).mean() for i in range(16, 32)) / 16
    mean = torch.stack(q).mean(0)
    prior = sum(0.2 * math.log(0.2 / float(m)) for m in mean)
    # The second epoch after the warm-up, at its first step: a quarter of the ramp.
    expected = float(supervised) + 25.0 * 0.25 * float(guessed) + prior
    assert loss == pytest.approx(expected, rel=1e-4)


def test_settings_are_those_of_the_specification() -> None:
    hp = DivideMix.hyperparameters()
    assert (hp.warmup, hp.lambda_u, hp.temperature, hp.alpha, hp.ramp, hp.threshold) == (
        5, 25.0, 0.5, 4.0, 16.0, 0.5,
    )  # fmt: skip
    assert hp.penalty == "auto"
    assert DivideMix.needs == {"noise_level"}
    assert hp.spared() == frozenset()
    assert DivideMix.hyperparameters(penalty="off").spared() == DivideMix.needs
    assert hp.passes() == hp.epochs


def test_the_mixture_has_the_constants_of_the_code(monkeypatch) -> None:
    import sklearn.mixture

    asked = {}
    real = sklearn.mixture.GaussianMixture

    def spy(components, **options):
        asked.update(options, components=components)
        return real(components, **options)

    monkeypatch.setattr(sklearn.mixture, "GaussianMixture", spy)
    mixtures.clean_posterior(torch.rand(30, generator=torch.Generator().manual_seed(0)), seed=9)
    assert asked == {
        "components": 2, "max_iter": 10, "tol": 1e-2, "reg_covar": 5e-4, "random_state": 9,
    }  # fmt: skip


def test_state_holds_the_seed_of_the_mixture() -> None:
    view = make_view()
    seeds = [
        fit("dividemix", view, _settings(), seed)[1].values["mixture_seed"] for seed in (0, 0, 1)
    ]
    assert seeds[0] == seeds[1] != seeds[2]
    assert 0 <= seeds[0] < 2**32
