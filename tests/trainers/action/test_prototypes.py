"""Assignments, and the two contrastive losses against forms written apart."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.action.categories import BatchAutoencoder, category_bounds, category_losses
from trainers.action.prototypes import Prototypes, assign, instance_loss, sinkhorn

B, K, D = 24, 6, 9


def cosines(seed: int = 0, *, samples: int = B, prototypes: int = K) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, samples, prototypes, generator=generator) * 2 - 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), iterations=st.integers(1, 5), samples=st.integers(1, 70))
def test_every_sample_is_assigned_in_full(seed: int, iterations: int, samples: int) -> None:
    q = sinkhorn(cosines(seed, samples=samples), iterations=iterations)
    torch.testing.assert_close(q.sum(-1), torch.ones(2, samples), atol=1e-6, rtol=0)
    assert (q >= 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_fifty_iterations_balance_the_prototypes(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(64, 128, generator=generator), dim=1)
    prototypes = F.normalize(torch.randn(20, 128, generator=generator), dim=1)
    q = sinkhorn(z @ prototypes.T, iterations=50)
    torch.testing.assert_close(q.sum(0), torch.full((20,), 64 / 20), atol=1e-3, rtol=0)


def test_more_iterations_balance_better_however_far_apart_cosines_are() -> None:
    off = [assign(cosines(), cosines()[:, :0], iterations=n)[1] for n in (1, 3, 50, 1000)]
    assert off[0] > off[1] > off[2] > off[3]
    assert off[3] < 1e-3


def test_three_iterations_are_those_of_the_paper_written_out() -> None:
    scores = cosines()[0].double()
    q = torch.exp(scores / 0.05)
    q = q / q.sum()
    for _ in range(3):
        q = q / q.sum(0, keepdim=True) / K
        q = q / q.sum(1, keepdim=True) / B
    torch.testing.assert_close(sinkhorn(scores), q * B)


@pytest.mark.parametrize("epsilon", [0.025, 0.05, 1.0])
def test_extreme_cosines_stay_finite_in_single_precision(epsilon: float) -> None:
    scores = torch.full((B, K), -1.0)
    scores[:, 0] = 1.0
    scores[0] = 1.0
    for extreme in (scores, -scores, torch.zeros(B, K)):
        q = sinkhorn(extreme, epsilon=epsilon)
        assert q.isfinite().all()
        torch.testing.assert_close(q.sum(-1), torch.ones(B), atol=1e-6, rtol=0)


def test_assignments_have_no_gradient() -> None:
    scores = cosines().requires_grad_()
    assert not sinkhorn(scores).requires_grad
    assert not assign(scores, cosines(1))[0].requires_grad


def test_a_queue_is_assigned_together_and_dropped() -> None:
    scores, past = cosines(), cosines(1, samples=40)
    q, off = assign(scores, past)
    both = sinkhorn(torch.cat((past, scores), dim=1))
    assert torch.equal(q, both[:, 40:])
    totals = both.sum(1)  # (2, K)
    torch.testing.assert_close(off, (totals / ((B + 40) / K) - 1).abs().max())
    assert torch.equal(assign(scores, scores[:, :0])[0], sinkhorn(scores))


def test_prototypes_are_unit_at_every_forward_pass() -> None:
    torch.manual_seed(0)
    prototypes = Prototypes(K, D)
    optimizer = torch.optim.Adam(prototypes.parameters(), lr=0.5)
    z = F.normalize(torch.randn(B, D), dim=1)
    for _ in range(3):
        scores = prototypes(z)
        torch.testing.assert_close(prototypes.weight.norm(dim=1), torch.ones(K))
        torch.testing.assert_close(scores, z @ prototypes.weight.T)
        optimizer.zero_grad()
        scores.square().sum().backward()
        optimizer.step()
        assert (prototypes.weight.norm(dim=1) - 1).abs().max() > 1e-2
    assert not prototypes.past(z).requires_grad


def test_with_weight_one_the_instance_loss_is_the_swapped_prediction() -> None:
    scores, ones = cosines().double(), torch.ones(B, dtype=torch.float64)
    log_p, q = F.log_softmax(scores / 0.1, -1), sinkhorn(scores)
    wanted = F.cross_entropy(scores[0] / 0.1, q[1]) + F.cross_entropy(scores[1] / 0.1, q[0])
    torch.testing.assert_close(instance_loss(log_p, q, (ones, ones)), wanted)


def test_each_side_has_its_own_weight() -> None:
    scores = cosines().double()
    log_p, q = F.log_softmax(scores / 0.1, -1), sinkhorn(scores)
    w_v, w_a = torch.rand(2, B, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    wanted = 0.0
    for i in range(B):
        for k in range(K):
            wanted -= float(w_v[i] * q[1, i, k] * log_p[0, i, k]) / B
            wanted -= float(w_a[i] * q[0, i, k] * log_p[1, i, k]) / B
    assert float(instance_loss(log_p, q, (w_v, w_a))) == pytest.approx(wanted)


def test_a_pair_of_weight_zero_has_no_gradient() -> None:
    scores = cosines().requires_grad_()
    w_v, w_a = torch.ones(B), torch.ones(B)
    w_v[3] = w_a[3] = 0
    instance_loss(F.log_softmax(scores, -1), sinkhorn(scores), (w_v, w_a)).backward()
    touched = scores.grad.abs().sum((0, 2)) > 0
    assert not touched[3]
    assert touched.sum() == B - 1


def columns(seed: int = 0, classes: int = K) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2, B, classes, generator=generator, dtype=torch.float64)
    return scores.softmax(-1).mT  # (2, K, B)


def category_loop(p: Tensor, reconstructed: Tensor) -> Tensor:
    """The four losses term by term, l_rv, l_cv, l_ca, l_ra as [[rv, cv], [ca, ra]]."""
    classes = p.shape[1]

    def s(m: int, i: int, n: int, j: int) -> float:
        return float(F.cosine_similarity(p[m, i], reconstructed[n, j], dim=0))

    losses = torch.zeros(2, 2, dtype=p.dtype)
    for m in range(2):
        for i in range(classes):
            den = sum(math.exp(s(m, i, n, j)) for n in range(2) for j in range(classes))
            for n in range(2):
                losses[m, n] -= math.log(math.exp(s(m, i, n, i)) / den) / classes
    return losses


def test_category_losses_match_a_loop() -> None:
    p, reconstructed = columns(), columns(1)
    torch.testing.assert_close(category_losses(p, reconstructed), category_loop(p, reconstructed))


def test_losses_of_one_modality_differ_by_their_positives_only() -> None:
    p, reconstructed = columns(), columns(1)
    losses = category_losses(p, reconstructed)
    own = F.cosine_similarity(p[0], reconstructed[0], dim=-1).mean()
    cross = F.cosine_similarity(p[0], reconstructed[1], dim=-1).mean()
    torch.testing.assert_close(losses[0, 0] + own, losses[0, 1] + cross)


@pytest.mark.parametrize("classes", [2, 20, 51])
def test_bounds_of_the_category_loss(classes: int) -> None:
    start, best = category_bounds(classes)
    same = torch.ones(2, classes, classes)
    torch.testing.assert_close(category_losses(same, same).mean(), torch.tensor(start))
    orthogonal = torch.eye(classes).expand(2, classes, classes)
    torch.testing.assert_close(category_losses(orthogonal, orthogonal).mean(), torch.tensor(best))


def test_published_bounds_at_51_classes() -> None:
    assert category_bounds(51) == pytest.approx((4.62, 3.66), abs=0.01)


def test_the_order_of_samples_counts_and_that_of_classes_does_not() -> None:
    torch.manual_seed(0)
    autoencoder = BatchAutoencoder(B).double()
    p = columns()

    def loss(x: Tensor) -> float:
        return category_losses(x, autoencoder(x)).mean().item()

    generator = torch.Generator().manual_seed(2)
    samples, classes = torch.randperm(B, generator=generator), torch.randperm(K)
    assert loss(p[:, classes]) == pytest.approx(loss(p), abs=1e-12)
    assert abs(loss(p[:, :, samples]) - loss(p)) > 1e-4


def test_the_autoencoder_is_tied_and_half_as_wide() -> None:
    autoencoder = BatchAutoencoder(B)
    (weight,) = autoencoder.parameters()
    assert weight.shape == (B // 2, B)
    p = columns()[0].float()
    torch.testing.assert_close(autoencoder(p), F.relu(p @ weight.T) @ weight)
    assert len(list(BatchAutoencoder(B, kind="untied").parameters())) == 2
