"""A pass of NTL's contrastive phase beside the paper's formulas, number by number (Eq. 2-14)."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.recognition import make_view, small_settings
from trainers.action.correspondence import video_embedding
from trainers.action.interface import TrainView
from trainers.action.methods import ntl
from trainers.action.methods.ntl import NTL, Contrast
from trainers.action.training import Visit, visits
from trainers.random import RandomState

B, K, NEAR = 8, 5, 3
EPSILON, TAU = 0.05, 0.1


def _weights(own: Tensor, other: Tensor) -> list[float]:
    """Mean cosine in one modality with the three nearest in the other; negative ones are 0."""
    found = []
    for i in range(B):
        order = sorted((j for j in range(B) if j != i), key=lambda j: -float(other[i] @ other[j]))
        mean = sum(float(own[j] @ own[i]) for j in order[:NEAR]) / NEAR
        found.append(max(0.0, mean))
    return found


def _sinkhorn(scores: Tensor) -> list[list[float]]:
    """Three rounds of equal totals: 1/K a prototype, then 1/B a sample."""
    q = [[math.exp(float(s) / EPSILON) for s in row] for row in scores]
    whole = sum(map(sum, q))
    q = [[x / whole for x in row] for row in q]
    for _ in range(3):
        totals = [sum(q[i][k] for i in range(B)) for k in range(K)]
        q = [[q[i][k] / totals[k] / K for k in range(K)] for i in range(B)]
        q = [[x / sum(row) / B for x in row] for row in q]
    return [[x * B for x in row] for row in q]


def _instance(z: tuple[Tensor, Tensor], prototypes: Tensor, omega: Any) -> Tensor:
    scores = [side @ prototypes.T for side in z]
    p = [(s / TAU).exp() / (s / TAU).exp().sum(1, keepdim=True) for s in scores]
    q_v, q_a = (_sinkhorn(s.detach()) for s in scores)
    total = torch.zeros(())
    for i in range(B):
        for k in range(K):
            total = total + omega[0][i] * q_a[i][k] * p[0][i, k].log()
            total = total + omega[1][i] * q_v[i][k] * p[1][i, k].log()
    return -total / B


def _category(z: tuple[Tensor, Tensor], prototypes: Tensor, w: Tensor) -> Tensor:
    """Every class is its column of probabilities; all four losses share denominators by two."""
    p = [F.softmax(side @ prototypes.T / TAU, dim=1) for side in z]
    columns = [[side[:, k] for k in range(K)] for side in p]
    rebuilt = [[w.T @ (w @ c).clamp(min=0) for c in side] for side in columns]

    def s(one: Tensor, other: Tensor) -> Tensor:
        return (one @ other) / (one.norm() * other.norm())

    losses = []
    for m in (0, 1):
        for target in (0, 1):
            total = torch.zeros(())
            for i in range(K):
                c = columns[m][i]
                below = sum(
                    s(c, rebuilt[m][j]).exp() + s(c, rebuilt[1 - m][j]).exp() for j in range(K)
                )
                total = total - (s(c, rebuilt[target][i]).exp() / below).log()
            losses.append(total / K)
    return sum(losses, torch.zeros(())) / 4


@pytest.mark.parametrize("contrast", ["full", "ins", "cat"])
def test_a_pass_of_one_batch_is_the_papers(contrast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view = make_view(n=B, classes=K, missing=0.0)
    hp = small_settings("ntl", batch_size=B, neighbor_count=NEAR, contrast=contrast)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # one where the autoencoder's ReLU leaves something of every column
        predictor = NTL().build(view.inputs.widths, view.classes, hp)
        contrastive = Contrast(K, hp)
    net = predictor.net
    net.standardise(view.inputs)
    z = video_embedding(predictor, view.inputs)
    taken: list[Visit] = []

    def watched(asked: TrainView, *args: Any, **options: Any) -> Any:
        for visit in visits(asked, *args, **options):
            taken.append(visit)
            yield visit

    parameters = {name: p for part in (net, contrastive) for name, p in part.named_parameters()}
    before = {name: p.detach().clone() for name, p in parameters.items()}
    monkeypatch.setattr(ntl, "visits", watched)
    # A rate of one makes the change of a weight its gradient.
    optimizer = torch.optim.SGD(parameters.values(), lr=1.0)
    log = ntl.contrastive_pass(net, contrastive, optimizer, z, view, hp, RandomState(0))

    (visit,) = taken
    moved = {name: before[name] - p.detach() for name, p in parameters.items()}
    for name, p in parameters.items():
        p.data.copy_(before[name])
    h_v = net.f_v(net.standardise_v(visit.visual))
    h_a = net.f_a(net.standardise_a(visit.audio))
    batch = (h_v / h_v.norm(dim=1, keepdim=True), h_a / h_a.norm(dim=1, keepdim=True))
    all_v, all_a = _weights(z.visual, z.audio), _weights(z.audio, z.visual)
    omega = [[side[i] for i in visit.rows.tolist()] for side in (all_v, all_a)]
    assert omega[0] != omega[1]
    zero = torch.zeros(())
    instance = category = zero
    if contrast != "cat":
        instance = _instance(batch, contrastive.prototypes.weight, omega)
    if contrast != "ins":
        encoder = contrastive.autoencoder.encode.weight
        category = _category(batch, contrastive.category_prototypes.weight, encoder)
    assert log["loss_ins"] == pytest.approx(instance.item(), rel=1e-4)
    assert log["loss_cat"] == pytest.approx(category.item(), rel=1e-4)
    optimizer.zero_grad(set_to_none=True)
    (instance + category).backward()
    for name, p in parameters.items():
        expected = torch.zeros_like(p) if p.grad is None else p.grad
        torch.testing.assert_close(moved[name], expected, atol=1e-5, rtol=1e-3)
