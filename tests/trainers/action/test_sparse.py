"""Sparse codes against coordinate descent, the conditions of optimality and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

from trainers.action.sparse import Dictionary, objective


def _atoms(width: int, count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(width, count, generator=generator).clamp(min=0)


def _dictionary(
    width: int = 12, count: int = 20, *, size: int | None = None, iterations: int = 50
) -> Dictionary:
    dictionary = Dictionary(width, size or count, penalty=0.1, iterations=iterations)
    dictionary.fill(_atoms(width, count))
    return dictionary


def _plain(atoms: torch.Tensor, r: torch.Tensor, penalty: float, count: int) -> torch.Tensor:
    """FISTA as in the textbook, a vector at a time."""
    step = 1 / float(torch.linalg.matrix_norm(atoms, 2)) ** 2
    codes = []
    for x in r:
        c = y = torch.zeros(atoms.shape[1], dtype=atoms.dtype)
        t = 1.0
        for _ in range(count):
            moved = y - step * atoms.T @ (atoms @ y - x)
            new = moved.sign() * (moved.abs() - step * penalty).clamp(min=0)
            new_t = (1 + math.sqrt(1 + 4 * t * t)) / 2
            y, c, t = new + (t - 1) / new_t * (new - c), new, new_t
        codes.append(c)
    return torch.stack(codes)


@pytest.mark.parametrize(("width", "count"), [(16, 40), (24, 12)])
def test_5000_iterations_reach_the_objective_of_coordinate_descent(width: int, count: int) -> None:
    dictionary = _dictionary(width, count, iterations=5000)
    r = torch.randn(6, width, generator=torch.Generator().manual_seed(1)).clamp(min=0)
    found = objective(dictionary.filled, r, dictionary.encode(r), 0.1)
    # scikit-learn divides the squared error by the number of rows.
    lasso = Lasso(alpha=0.1 / width, fit_intercept=False, max_iter=200_000, tol=1e-12)
    atoms = dictionary.filled.double().numpy()
    codes = np.stack([lasso.fit(atoms, x).coef_ for x in r.double().numpy()])
    best = objective(dictionary.filled, r, torch.from_numpy(codes).float(), 0.1)
    torch.testing.assert_close(found, best, atol=1e-4, rtol=0)


def test_codes_are_those_of_the_textbook() -> None:
    dictionary = _dictionary(iterations=30)
    r = torch.randn(5, 12, generator=torch.Generator().manual_seed(2))
    expected = _plain(dictionary.filled, r, 0.1, 30)
    torch.testing.assert_close(dictionary.encode(r), expected, atol=1e-5, rtol=1e-4)


def test_the_optimum_satisfies_its_conditions() -> None:
    dictionary = _dictionary(iterations=5000)
    r = torch.randn(4, 12, generator=torch.Generator().manual_seed(3))
    codes = dictionary.encode(r)
    correlation = (r - dictionary.decode(codes)) @ dictionary.filled
    assert (correlation.abs() <= 0.1 + 1e-3).all()
    active = codes.abs() > 1e-3
    assert active.any()
    torch.testing.assert_close(correlation[active], 0.1 * codes[active].sign(), atol=1e-3, rtol=0)


def test_the_gradient_is_that_of_the_unrolled_iterations() -> None:
    dictionary = Dictionary(6, 9, penalty=0.1, iterations=15).double()
    dictionary.fill(_atoms(6, 9).double())
    r = torch.randn(3, 6, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    r.requires_grad_()
    assert dictionary.encode(r).count_nonzero() > 5
    assert torch.autograd.gradcheck(lambda x: dictionary.decode(dictionary.encode(x)), (r,))
    assert not list(dictionary.parameters())


def test_fewer_atoms_than_room_survive_a_checkpoint() -> None:
    dictionary = _dictionary(12, 7, size=20)
    assert len(dictionary) == 7
    again = Dictionary(12, 20, penalty=0.1, iterations=50)
    assert len(again) == 0
    again.load_state_dict(dictionary.state_dict())
    r = torch.randn(3, 12, generator=torch.Generator().manual_seed(5))
    assert again.encode(r).shape == (3, 7)
    assert torch.equal(again.encode(r), dictionary.encode(r))


def test_nothing_is_coded_by_nothing() -> None:
    dictionary = _dictionary()
    assert not dictionary.encode(torch.zeros(2, 12)).any()
    dictionary.fill(torch.zeros(12, 4))
    assert not dictionary.encode(torch.ones(2, 12)).any()
    assert dictionary.excess(torch.zeros(2, 12)) == 0.0


def test_excess_tells_how_far_from_the_optimum_it_stops() -> None:
    r = torch.randn(8, 12, generator=torch.Generator().manual_seed(6)).clamp(min=0)
    few, many = (_dictionary(iterations=n).excess(r) for n in (5, 500))
    assert few > 0.01
    assert abs(many) < 1e-3
    dictionary = _dictionary(iterations=5)
    got, best = (
        objective(dictionary.filled, r, _plain(dictionary.filled, r, 0.1, n), 0.1).mean()
        for n in (5, 50)
    )
    assert few == pytest.approx(float(got / best) - 1, rel=1e-3)
