"""Neighbours against a full matrix, votes against counting."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainers.action.neighbours import PRODUCT_ROWS, Neighbours, nearest, strip_rows, vote


def unit(n: int, d: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=generator), dim=1)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 90),
    count=st.integers(1, 8),
    strip=st.integers(1, 100),
    self_included=st.booleans(),
    seed=st.integers(0, 9),
)
def test_neighbours_are_those_of_the_full_matrix(
    n: int, count: int, strip: int, self_included: bool, seed: int
) -> None:
    z = unit(n, 5, seed).double()
    full = z @ z.T
    if not self_included:
        full.fill_diagonal_(-torch.inf)
    k = min(count, n if self_included else n - 1)
    wanted = full.topk(k, dim=1)
    found = nearest(z, count, self_included=self_included, strip=strip)
    torch.testing.assert_close(found.similarity, wanted.values)
    assert torch.equal(found.index, wanted.indices)


def test_strips_tall_enough_for_groups_change_nothing() -> None:
    # Only strips of many groups of rows are searched by the groups' maxima.
    z = unit(700, 6).double()
    for count, strip in ((3, 256), (7, 512), (1, 64)):
        wanted = nearest(z, count, strip=700)
        found = nearest(z, count, strip=strip)
        torch.testing.assert_close(found.similarity, wanted.similarity)
        assert torch.equal(found.index, wanted.index)


def test_a_strip_of_several_products_is_the_full_matrix() -> None:
    z = unit(2 * PRODUCT_ROWS + 100, 4).double()
    for self_included in (False, True):
        wanted = nearest(z, 5, strip=500, self_included=self_included)
        found = nearest(z, 5, strip=len(z), self_included=self_included)
        torch.testing.assert_close(found.similarity, wanted.similarity)
        assert torch.equal(found.index, wanted.index)


def test_strips_shrink_where_there_are_many_videos() -> None:
    assert strip_rows(20_000) == 4096
    assert strip_rows(650_000) * 650_000 * 4 <= 2**29
    assert strip_rows(10**9) == 1


def test_equal_vectors_still_have_neighbours() -> None:
    found = nearest(unit(1, 4).expand(600, 4).contiguous(), 5, strip=256)
    rows = torch.arange(600)[:, None]
    assert not (found.index == rows).any()
    assert all(len(set(row)) == 5 for row in found.index.tolist())
    torch.testing.assert_close(found.similarity, torch.ones(600, 5))


def _brute_force(near: Neighbours, labels: Tensor, ties: str) -> list[int]:
    """The majority by counting, ties by the sum of similarities, then by the first class."""
    winners = []
    for row, sims in zip(near.index.tolist(), near.similarity.tolist(), strict=True):
        counts = Counter(int(labels[j]) for j in row)
        total: Counter[int] = Counter()
        for j, s in zip(row, sims, strict=True):
            total[int(labels[j])] += s if ties == "similarity" else 0
        winners.append(max(counts, key=lambda c: (counts[c], total[c], -c)))
    return winners


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 40),
    count=st.integers(1, 7),
    classes=st.integers(1, 6),
    ties=st.sampled_from(("similarity", "lowest")),
    seed=st.integers(0, 99),
)
def test_votes_are_counted(n: int, count: int, classes: int, ties: str, seed: int) -> None:
    near = nearest(unit(n, 4, seed).double(), count)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (n,), generator=generator)
    found = vote(near, labels, classes, ties=ties)
    assert found.label.tolist() == _brute_force(near, labels, ties)
    share = (labels[near.index] == labels[:, None]).double().mean(1)
    torch.testing.assert_close(found.given_share, share)


@pytest.mark.parametrize(("ties", "winner"), [("similarity", 2), ("lowest", 1)])
def test_ties(ties: str, winner: int) -> None:
    near = Neighbours(torch.tensor([[1, 2, 3, 4]]), torch.tensor([[0.9, 0.8, 0.7, 0.1]]))
    # Two votes of 0.8 + 0.1 for class 1, two of 0.9 + 0.7 for class 2.
    labels = torch.tensor([0, 2, 1, 2, 1])
    near = Neighbours(near.index.expand(5, 4), near.similarity.expand(5, 4))
    assert vote(near, labels, 3, ties=ties).label[0] == winner


def test_a_class_of_one_video_is_outvoted_by_its_neighbours() -> None:
    z = unit(6, 3)
    labels = torch.tensor([1, 0, 0, 0, 0, 0])
    found = vote(nearest(z, 3), labels, 2)
    assert found.label.tolist() == [0] * 6
    assert found.given_share[0] == 0
