"""Sparse codes over a fixed dictionary: the lasso by FISTA, differentiable through its iterations.

Source: Beck and Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse
Problems", SIAM J. Imaging Sciences 2009. Shapes: B vectors of width d, M atoms.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["REFERENCE", "Dictionary", "objective"]

REFERENCE = 10
"""`Dictionary.excess` compares with this many times the iterations."""


def objective(atoms: Tensor, r: Tensor, codes: Tensor, penalty: float) -> Tensor:
    """1/2 ||r - D c||^2 + penalty ||c||_1 of each vector.

    Args:
        atoms: (d, M), D.
        r: (B, d).
        codes: (B, M), c.
        penalty: lambda.

    Returns:
        (B,).
    """
    residual = r - codes @ atoms.T  # (B, d)
    return 0.5 * residual.square().sum(-1) + penalty * codes.abs().sum(-1)


class Dictionary(nn.Module):
    """Up to M fixed atoms and the codes over them; empty until `fill` is called.

    Args:
        width: d.
        size: M, room for atoms; fewer may be filled in.
        penalty: lambda, the weight of the codes' L1 norm.
        iterations: Of FISTA.
    """

    atoms: Tensor
    count: Tensor
    contraction: Tensor

    def __init__(self, width: int, size: int, *, penalty: float, iterations: int) -> None:
        super().__init__()
        self.penalty = penalty
        self.iterations = iterations
        self.step = 1.0
        # Room is kept for all atoms, so that a checkpoint of any training set fits.
        self.register_buffer("atoms", torch.zeros(width, size))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("contraction", torch.zeros(0, 0), persistent=False)
        self._filled = 0
        self.register_load_state_dict_post_hook(lambda module, _: module._prepare())

    @torch.no_grad()
    def fill(self, atoms: Tensor) -> None:
        """Takes the atoms.

        Args:
            atoms: (d, m) with m at most M; they stay as they are, whatever their norm.
        """
        self.atoms.zero_()
        self.atoms[:, : atoms.shape[1]] = atoms
        self.count.fill_(atoms.shape[1])
        self._prepare()

    @property
    def filled(self) -> Tensor:
        """(d, m), the atoms that are there."""
        return self.atoms[:, : self._filled]

    def __len__(self) -> int:
        """m, how many atoms there are."""
        return self._filled

    @torch.no_grad()
    def _prepare(self) -> None:
        self._filled = int(self.count)
        gram = self.filled.T @ self.filled  # (m, m)
        width = len(self.atoms)
        # Both products have the same largest eigenvalue.
        smaller = gram if self._filled <= width else self.filled @ self.filled.T
        largest = float(torch.linalg.eigvalsh(smaller.double())[-1]) if self._filled else 0.0
        # Atoms that are all zero bear any step: their codes stay zero.
        self.step = 1.0 / largest if largest > 0 else 1.0
        self.contraction = torch.eye(self._filled, device=gram.device) - self.step * gram

    def encode(self, r: Tensor, *, iterations: int | None = None) -> Tensor:
        """Codes of vectors, from zero, with step 1 / lambda_max(D^T D).

        The gradient with respect to ``r`` is that of the unrolled iterations; the atoms have none.

        Args:
            r: (B, d).
            iterations: In place of the dictionary's own.

        Returns:
            (B, m).
        """
        pull = self.step * (r @ self.filled)  # (B, m)
        threshold = self.step * self.penalty
        codes = point = torch.zeros_like(pull)
        momentum = 1.0
        for _ in range(self.iterations if iterations is None else iterations):
            # point - step * (D^T D point - D^T r) in one product.
            descended = torch.addmm(pull, point, self.contraction)
            following = F.softshrink(descended, threshold)  # (B, m)
            faster = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            point = torch.lerp(codes, following, 1 + (momentum - 1) / faster)
            codes, momentum = following, faster
        return codes

    def decode(self, codes: Tensor) -> Tensor:
        """D c of codes: (B, m) -> (B, d)."""
        return codes @ self.filled.T

    @torch.no_grad()
    def excess(self, r: Tensor) -> float:
        """How far the iterations stop above the optimum: an estimate.

        The optimum's place is taken by `REFERENCE` times as many iterations: a bound by the dual
        problem is far too loose for as few iterations as are usual.

        Args:
            r: (B, d).

        Returns:
            mean objective / mean objective of the reference - 1; 0 where both are 0.
        """
        found, best = (
            float(objective(self.filled, r, self.encode(r, iterations=n), self.penalty).mean())
            for n in (self.iterations, REFERENCE * self.iterations)
        )
        return found / best - 1 if best > 0 else 0.0

    def extra_repr(self) -> str:
        """The settings, for ``print``."""
        return f"penalty={self.penalty}, iterations={self.iterations}"
