"""XDC*: clusters that go on from the last round's, heads that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from pipeline.errors import UserError
from tests.recognition import fit, make_view, small_settings
from trainers.action.clusters import kmeans
from trainers.action.correction import ask_neighbours
from trainers.action.methods import xdc_star
from trainers.action.methods.xdc_star import XDCStar, XDCStarHyperparameters
from trainers.random import RandomState


def blobs(n: int = 90, count: int = 4, seed: int = 0, apart: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(count, 6, generator=generator) * apart
    return centres[torch.arange(n) % count] + torch.randn(n, 6, generator=generator)


@pytest.mark.parametrize("seed", range(4))
def test_from_the_same_start_the_clusters_are_those_of_scikit_learn(seed: int) -> None:
    x = blobs(seed=seed).double()
    start = x[:4]
    cluster, centroids = kmeans(x, 4, generator=torch.Generator(), start=start)
    wanted = KMeans(4, init=start.numpy(), n_init=1, tol=0, max_iter=100).fit(x.numpy())
    np.testing.assert_array_equal(cluster.numpy(), wanted.labels_)
    np.testing.assert_allclose(centroids.numpy(), wanted.cluster_centers_)


def test_a_first_clustering_finds_blobs_and_repeats_itself() -> None:
    x = blobs(apart=20.0)
    runs = [kmeans(x, 4, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    table = torch.zeros(4, 4)
    table.index_put_((torch.arange(90) % 4, runs[0][0]), torch.ones(90), accumulate=True)
    assert table.amax(1).sum() == 90


def test_empty_clusters_are_filled() -> None:
    x = blobs()
    start = x[:4].clone()
    start[2:] = 1e6
    cluster, centroids = kmeans(x, 4, generator=torch.Generator(), start=start)
    assert torch.bincount(cluster, minlength=4).min() > 0
    assert centroids.abs().max() < 100


def test_equal_vectors_do_not_break_it() -> None:
    cluster, centroids = kmeans(
        torch.ones(8, 3), 4, generator=torch.Generator().manual_seed(0), iterations=3
    )
    assert cluster.shape == (8,)
    assert centroids.isfinite().all()


def test_more_clusters_than_videos_are_refused() -> None:
    with pytest.raises(UserError, match="--clusters to 24 or less"):
        fit("xdc_star", make_view(n=24), small_settings("xdc_star", clusters=25))


def test_passes_are_those_of_ntl() -> None:
    assert XDCStarHyperparameters().passes() == 118


def test_defaults_are_the_specification() -> None:
    hp = XDCStarHyperparameters()
    assert (hp.width, hp.lr, hp.batch_size, hp.epochs, hp.warmup) == (512, 1e-3, 64, 60, 2)
    assert (hp.neighbor_count, hp.knn, hp.alpha, hp.alpha_rounds) == (16, None, "linear", 20)
    assert hp.clusters is None, "as many as classes"


def test_votes_never_feed_later_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    view, asked = make_view(), []

    def poisoned(z: Any, labels: Tensor, *args: Any) -> Any:
        asked.append(labels.clone())
        votes = ask_neighbours(z, labels, *args)
        return votes._replace(label=torch.full_like(votes.label, 4))

    monkeypatch.setattr(xdc_star, "ask_neighbours", poisoned)
    fit("xdc_star", view, small_settings("xdc_star", epochs=4))
    assert len(asked) == 3
    assert all(torch.equal(labels, view.labels) for labels in asked)


def test_warm_up_is_ce() -> None:
    view = make_view()
    own = fit("xdc_star", view, small_settings("xdc_star", epochs=4, warmup=3))[2].logs
    other = fit("ce", view, small_settings("ce", epochs=3))[2].logs
    assert [log["loss"] for log in own[:3]] == [log["loss"] for log in other]


def test_clusters_go_on_and_heads_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    starts, heads = [], []

    def watched_kmeans(x: Tensor, count: int, *, start: Tensor | None, **options: Any) -> Any:
        found = kmeans(x, count, start=start, **options)
        starts.append((start, found[1]))
        return found

    def watched_pass(net: Any, fresh: Any, *args: Any) -> float:
        heads.append(fresh["visual"].weight.detach().clone())
        return cluster_pass(net, fresh, *args)

    cluster_pass = xdc_star.cluster_pass
    monkeypatch.setattr(xdc_star, "kmeans", watched_kmeans)
    monkeypatch.setattr(xdc_star, "cluster_pass", watched_pass)
    fit("xdc_star", make_view(), small_settings("xdc_star", epochs=3))
    visual = starts[::2]
    assert visual[0][0] is None
    assert torch.equal(visual[1][0], visual[0][1])
    assert not torch.equal(heads[0], heads[1])


def test_each_side_learns_the_other_sides_clusters() -> None:
    view, hp = make_view(), small_settings("xdc_star")
    net = XDCStar().build(view.inputs.widths, view.classes, hp).net
    heads = torch.nn.ModuleDict({name: torch.nn.Linear(16, 5) for name in ("visual", "audio")})
    optimizer = torch.optim.Adam(net.parameters())
    before = {name: head.bias.detach().clone() for name, head in heads.items()}
    visual, audio = torch.zeros(24, dtype=torch.int64), torch.ones(24, dtype=torch.int64)
    xdc_star.cluster_pass(net, heads, optimizer, (visual, audio), view, hp, RandomState(0))
    # Every sound is in cluster 1, which pictures' head learns; every picture in cluster 0.
    for name, target in (("visual", 1), ("audio", 0)):
        up = heads[name].bias > before[name]
        assert up.nonzero().flatten().tolist() == [target]


def test_it_finds_wrong_labels() -> None:
    view = make_view(n=100, flipped=0.3, missing=0.0)
    clean = np.arange(100) % 5
    hp = small_settings("xdc_star", epochs=6, neighbor_count=8, clusters=5)
    predictor, state, _ = fit("xdc_star", view, hp)
    verdict = XDCStar().verdict(predictor, view, hp, state)
    assert (verdict.corrected == clean).mean() > 0.95
    assert verdict.weights is None
