"""NTL: its schedule, its ablations and what it must not touch."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from tests.recognition import fit, make_view, small_settings
from trainers.action import correction
from trainers.action.correction import alpha_at, ask_neighbours, hybrid_loss, supervised_pass
from trainers.action.correspondence import correspondence_weights, video_embedding
from trainers.action.interface import TrainView
from trainers.action.methods import ntl
from trainers.action.methods.ntl import NTL, Contrast, NTLHyperparameters
from trainers.random import RandomState


def settings(**values: Any) -> NTLHyperparameters:
    return small_settings("ntl", **values)


def losses(name: str, view: TrainView, hp: Any) -> list[float]:
    return [log["loss"] for log in fit(name, view, hp)[2].logs]


def predict(view: TrainView, **values: Any) -> np.ndarray:
    return fit("ntl", view, settings(**values))[0].predict(view.inputs).logits


def test_alpha_rises_over_the_first_twenty_rounds() -> None:
    hp = NTLHyperparameters()
    alphas = [alpha_at(hp, number) for number in (0, 10, 20, 57)]
    assert alphas == pytest.approx([0.6, 0.7, 0.8, 0.8])
    step = NTLHyperparameters(alpha="step")
    assert [alpha_at(step, number) for number in (0, 19, 20, 57)] == [0.6, 0.6, 0.8, 0.8]
    assert alpha_at(NTLHyperparameters(alpha="0.9"), 3) == 0.9


def test_defaults_are_the_specification() -> None:
    hp = NTLHyperparameters()
    assert (hp.width, hp.proj, hp.cls_input, hp.lr) == (512, "linear", "proj", 1e-3)
    assert (hp.batch_size, hp.epochs, hp.warmup) == (64, 60, 2)
    assert (hp.contrast, hp.neighbors, hp.neighbor_count, hp.knn) == ("full", "topk", 16, None)
    assert (hp.self, hp.omega, hp.temperature) == ("exclude", "clamp", 0.1)
    assert (hp.sinkhorn_epsilon, hp.sinkhorn_iterations, hp.queue) == (0.05, 3, 0)
    assert (hp.cat_softmax, hp.ae, hp.optim) == ("temperature", "tied", "one")
    assert (hp.alpha, hp.alpha_rounds, hp.ties, hp.embed) == ("linear", 20, "similarity", "mean")


@pytest.mark.parametrize("alpha", ["1.1", "-0.1", "nan", "cosine"])
def test_alpha_is_checked(alpha: str) -> None:
    with pytest.raises(UserError, match=r"--alpha .* linear, step or a number from 0 to 1"):
        NTLHyperparameters(alpha=alpha)


def test_passes() -> None:
    assert NTLHyperparameters().passes() == 118
    assert NTLHyperparameters(contrast="none").passes() == 60
    assert NTLHyperparameters(warmup=10).passes() == 110
    assert NTLHyperparameters(epochs=1).passes() == 1


@pytest.mark.parametrize("contrast", ["full", "none"])
def test_passes_are_counted_as_they_are_made(
    contrast: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked = []

    def counted(*args: Any, **options: Any) -> Any:
        walked.append(options.get("stream", "order"))
        return visits(*args, **options)

    visits = ntl.visits
    monkeypatch.setattr(ntl, "visits", counted)
    monkeypatch.setattr(correction, "visits", counted)
    hp = settings(epochs=5, warmup=2, contrast=contrast)
    fit("ntl", make_view(), hp)
    assert len(walked) == hp.passes()
    assert walked[:2] == ["order", "order"]
    if contrast == "full":
        assert walked[2:] == ["order/contrast", "order"] * 3


@pytest.mark.parametrize("optim", ["one", "two"])
def test_without_contrast_and_correction_every_loss_is_that_of_ce(optim: str) -> None:
    view = make_view()
    hp = settings(epochs=4, contrast="none", alpha="0", optim=optim)
    assert losses("ntl", view, hp) == losses("ce", view, small_settings("ce", epochs=4))


def test_warm_up_is_ce() -> None:
    view = make_view()
    own = losses("ntl", view, settings(epochs=4, warmup=3))
    assert own[:3] == losses("ce", view, small_settings("ce", epochs=3))


def test_alpha_zero_ignores_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    view = make_view()
    before = predict(view, epochs=3, alpha="0")
    monkeypatch.setattr(ntl, "ask_neighbours", _poisoned)
    np.testing.assert_array_equal(before, predict(view, epochs=3, alpha="0"))


def test_votes_that_agree_with_the_labels_leave_ce(monkeypatch: pytest.MonkeyPatch) -> None:
    def agreeing(*args: Any) -> Any:
        return ask_neighbours(*args)._replace(label=args[1])

    view = make_view()
    monkeypatch.setattr(ntl, "ask_neighbours", agreeing)
    own = losses("ntl", view, settings(epochs=4, contrast="none", alpha="1"))
    assert own == losses("ce", view, small_settings("ce", epochs=4))


def _poisoned(*args: Any) -> Any:
    """Votes for the last class, whatever the neighbours say."""
    votes = ask_neighbours(*args)
    return votes._replace(label=torch.full_like(votes.label, args[2] - 1))


def test_votes_never_feed_later_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def watched(*args: Any) -> Any:
        asked.append(args[1].clone())
        return _poisoned(*args)

    view = make_view()
    monkeypatch.setattr(ntl, "ask_neighbours", watched)
    fit("ntl", view, settings(epochs=4))
    assert len(asked) == 3
    assert all(torch.equal(labels, view.labels) for labels in asked)


def test_hybrid_loss_is_cross_entropy_against_the_mixture() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    given, voted = torch.randint(4, (2, 9), generator=generator)
    onehot = torch.eye(4, dtype=torch.float64)
    target = 0.3 * onehot[given] + 0.7 * onehot[voted]
    wanted = -(target * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(hybrid_loss(logits, given, voted, 0.7), wanted)
    plain = torch.nn.functional.cross_entropy(logits, given)
    assert torch.equal(hybrid_loss(logits, given, voted, 0.0), plain)
    assert torch.equal(hybrid_loss(logits, given, given, 1.0), plain)


def test_pairs_vote_by_the_mean_of_both_cosines() -> None:
    view = make_view(n=40)
    predictor, _, _ = fit("ce", view, small_settings("ce"))
    z = video_embedding(predictor, view.inputs)
    similarity = (z.visual @ z.visual.T + z.audio @ z.audio.T) / 2
    near = similarity.fill_diagonal_(-2).topk(3, dim=1).indices
    share = (view.labels[near] == view.labels[:, None]).float().mean(1)
    found = ask_neighbours(z, view.labels, 5, settings(knn=3))
    torch.testing.assert_close(found.given_share, share)


@pytest.mark.parametrize(
    "values",
    [
        {"contrast": "ins"},
        {"contrast": "cat"},
        {"contrast": "none"},
        {"neighbors": "threshold", "eps_v": 0.2, "eps_a": 0.2},
        {"knn": 2},
        {"self": "include"},
        {"omega": "raw"},
        {"omega": "minmax"},
        {"omega": "rank"},
        {"omega": "ones"},
        {"temperature": 0.5},
        {"sinkhorn_epsilon": 0.5},
        {"sinkhorn_iterations": 1},
        {"queue": 12},
        {"cat_softmax": "plain"},
        {"ae": "untied"},
        {"optim": "two"},
        {"embed": "random"},
        {"alpha": "1"},
    ],
    ids=lambda values: " ".join(f"{k}={v}" for k, v in values.items()),
)
def test_every_option_works_and_changes_something(values: dict[str, Any]) -> None:
    view = make_view()
    found = predict(view, epochs=3, **values)
    assert np.isfinite(found).all()
    # No mean cosine is negative here, so there is nothing to clamp.
    same = values == {"omega": "raw"}
    assert np.array_equal(found, predict(view, epochs=3)) == same


def test_ties_can_go_to_the_lowest_class() -> None:
    view = make_view()
    predictor, _, _ = fit("ntl", view, settings())
    z = video_embedding(predictor, view.inputs)
    votes = [
        ask_neighbours(z, view.labels, 5, settings(ties=t, knn=2)).label for t in correction.TIES
    ]
    assert (votes[1] <= votes[0]).all()
    assert (votes[1] < votes[0]).any()


def test_phase_a_leaves_the_classifier_alone_and_phase_b_the_prototypes() -> None:
    view, hp = make_view(), settings()
    predictor = NTL().build(view.inputs.widths, view.classes, hp)
    net, contrast = predictor.net, Contrast(5, hp)
    optimizer = torch.optim.Adam((*net.parameters(), *contrast.parameters()))
    rng = RandomState(0)

    def moved(run: Callable[[], Any]) -> set[str]:
        modules = {"f_v": net.f_v, "f_a": net.f_a, "g": net.g, **dict(contrast.named_children())}
        before = {name: copy.deepcopy(module.state_dict()) for name, module in modules.items()}
        run()
        return {
            name
            for name, module in modules.items()
            if any(not torch.equal(v, before[name][k]) for k, v in module.state_dict().items())
        }

    z = video_embedding(predictor, view.inputs)
    shared, own = {"f_v", "f_a"}, {"prototypes", "category_prototypes", "autoencoder"}
    for _ in range(2):
        # The second time the optimiser has momentum for everything.
        phase_a = moved(lambda: ntl.contrastive_pass(net, contrast, optimizer, z, view, hp, rng))
        assert phase_a == shared | own
        assert moved(lambda: supervised_pass(net, optimizer, view, hp, rng)) == shared | {"g"}


def test_a_batch_smaller_than_the_classes_needs_a_queue() -> None:
    view = make_view(n=24, classes=12)
    with pytest.raises(UserError, match="--batch-size 12 or more, or --queue 4 or more"):
        fit("ntl", view, settings())
    for values in ({"queue": 4}, {"contrast": "none"}, {"batch_size": 12}):
        predictor, _, _ = fit("ntl", view, settings(**values))
        assert np.isfinite(predictor.predict(view.inputs).logits).all()


def test_a_queue_resumes_to_the_bit() -> None:
    view, hp = make_view(), settings(epochs=4, queue=16, embed="random", optim="two")
    whole, _, _ = fit("ntl", view, hp)
    _, _, stopped = fit("ntl", view, hp, interrupt_after=2)
    resumed, _, _ = fit("ntl", view, hp, resume=stopped.saved)
    np.testing.assert_array_equal(
        whole.predict(view.inputs).logits, resumed.predict(view.inputs).logits
    )


def test_what_is_logged() -> None:
    logs = fit("ntl", make_view(), settings(epochs=3))[2].logs
    assert set(logs[0]) == {"loss"}
    assert logs[2]["loss_cat_best"] < logs[2]["loss_cat"] < logs[2]["loss_cat_start"] + 0.1
    assert logs[2]["alpha"] > logs[1]["alpha"] == pytest.approx(0.6)
    assert logs[2]["imbalance"] >= 0
    assert -1 <= logs[2]["omega_v_mean"] <= 1
    assert logs[2]["omega_a_std"] > 0


def test_the_verdict_is_that_of_the_last_network() -> None:
    view, hp = make_view(n=40), settings(epochs=3)
    predictor, state, _ = fit("ntl", view, hp)
    verdict = NTL().verdict(predictor, view, hp, state)
    z = video_embedding(predictor, view.inputs)
    w_v, w_a = correspondence_weights(*z, neighbours=4)
    np.testing.assert_array_equal(verdict.weights, torch.stack((w_v, w_a), 1).numpy())
    votes = ask_neighbours(z, view.labels, 5, hp)
    np.testing.assert_array_equal(verdict.corrected, votes.label.numpy())
    np.testing.assert_array_equal(verdict.keep["vote"], votes.given_share.numpy())
    for values in ({"omega": "ones"}, {"contrast": "cat"}):
        unweighted = dataclasses.replace(hp, **values)
        assert NTL().verdict(predictor, view, unweighted, state).weights is None


def test_it_finds_wrong_labels() -> None:
    view = make_view(n=100, flipped=0.3, missing=0.0)
    clean = np.arange(100) % 5
    wrong = view.labels.numpy() != clean
    predictor, state, _ = fit("ntl", view, settings(epochs=6, neighbor_count=8))
    verdict = NTL().verdict(predictor, view, settings(neighbor_count=8), state)
    assert (verdict.corrected == clean).mean() > 0.95
    assert verdict.keep["vote"][wrong].mean() < 0.3 < verdict.keep["vote"][~wrong].mean()
