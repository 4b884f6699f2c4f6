"""Prototypes that both modalities share, and the instance-level loss of predicting assignments.

Source: Han et al., "Noise-Tolerant Learning for Audio-Visual Action Recognition", IEEE TMM 2024,
Eq. 7-10. Balanced assignment by Sinkhorn's iteration as in Caron et al., "Unsupervised Learning of
Visual Features by Contrasting Cluster Assignments", NeurIPS 2020, whose constants fill what the
first paper leaves open.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["SINKHORN_EPSILON", "Prototypes", "assign", "instance_loss", "sinkhorn"]

SINKHORN_EPSILON = 0.05
"""SwAV's."""


class Prototypes(nn.Module):
    """K unit vectors in the shared space.

    Args:
        count: K.
        width: d.
    """

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(count, width), dim=1))  # (K, d)

    def forward(self, z: Tensor) -> Tensor:
        """Cosines of unit vectors (..., d) with the prototypes, (..., K).

        The rows are normalised in place first, so a step must not call this twice before its
        backward pass.
        """
        with torch.no_grad():
            F.normalize(self.weight, dim=1, out=self.weight)
        return F.linear(z, self.weight)

    @torch.no_grad()
    def past(self, z: Tensor) -> Tensor:
        """Cosines of earlier vectors (..., Q, d) with the rows as `forward` left them."""
        return F.linear(z, self.weight)


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float = SINKHORN_EPSILON, iterations: int = 3) -> Tensor:
    """Assigns samples to prototypes so that every prototype gets about as many.

    Each iteration scales the prototypes' totals to B/K, then the samples' to 1, so the samples'
    are exact and the prototypes' approximate.

    Args:
        scores: (..., B, K) cosines; leading dimensions are assigned apart.
        epsilon: Entropy's weight; below 0.025 cosines of opposite sign underflow in float32.
        iterations: Fewer leave the prototypes' totals further off.

    Returns:
        (..., B, K), rows of total 1, without a gradient.
    """
    samples, prototypes = scores.shape[-2:]
    # A common factor cancels in the first scaling; this one keeps exp finite.
    q = torch.exp((scores - scores.amax(dim=(-2, -1), keepdim=True)) / epsilon)
    for _ in range(iterations):
        q = q * (samples / prototypes / q.sum(-2, keepdim=True))
        q = q / q.sum(-1, keepdim=True)
    return q


@torch.no_grad()
def assign(
    scores: Tensor, past: Tensor, *, epsilon: float = SINKHORN_EPSILON, iterations: int = 3
) -> tuple[Tensor, Tensor]:
    """Assigns a batch together with earlier samples and keeps the batch's part (Eq. 9).

    Args:
        scores: (..., B, K) cosines of the batch.
        past: (..., Q, K) cosines of a queue, Q may be 0.
        epsilon: See `sinkhorn`.
        iterations: See `sinkhorn`.

    Returns:
        (..., B, K) assignments, and the share by which the worst prototype's total over all
        B + Q samples is off its due.
    """
    q = sinkhorn(torch.cat((past, scores), dim=-2), epsilon=epsilon, iterations=iterations)
    samples, prototypes = q.shape[-2:]
    off = (q.sum(-2) * (prototypes / samples) - 1.0).abs().amax()
    return q[..., past.shape[-2] :, :], off


def instance_loss(log_p: Tensor, q: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
    """Each modality learns the other's assignment as far as the pair belongs together (Eq. 10).

    Neither halved over the modalities nor divided by the sum of the weights, as printed.

    Args:
        log_p: (2, B, K) log-probabilities of picture and sound over the prototypes.
        q: (2, B, K) assignments of picture and sound.
        weights: (B,) omega^v and omega^a.

    Returns:
        A scalar.
    """
    (log_p_v, log_p_a), (q_v, q_a), (w_v, w_a) = log_p, q, weights
    visual = w_v * (q_a * log_p_v).sum(-1)  # (B,)
    audio = w_a * (q_v * log_p_a).sum(-1)  # (B,)
    return -(visual + audio).mean()
