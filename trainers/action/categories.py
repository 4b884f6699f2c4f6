"""The category-level loss: a class is the column of its probabilities over a batch.

Source: Han et al., "Noise-Tolerant Learning for Audio-Visual Action Recognition", IEEE TMM 2024,
Eq. 11-14. An autoencoder across the batch reconstructs the columns; a class's reconstructions, its
own and the other modality's, must resemble it more than those of other classes do.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["BatchAutoencoder", "category_bounds", "category_losses"]


class BatchAutoencoder(nn.Module):
    """p' = W2 ReLU(W1 p) on columns over a batch, B/2 wide inside, without biases.

    Args:
        batch_size: B; a batch of any other size is an error of shapes.
        kind: ``tied``: W2 is W1 transposed; ``untied``: a matrix of its own.
    """

    def __init__(self, batch_size: int, *, kind: str = "tied") -> None:
        super().__init__()
        hidden = max(1, batch_size // 2)
        self.encode = nn.Linear(batch_size, hidden, bias=False)
        self.decode = nn.Linear(hidden, batch_size, bias=False) if kind == "untied" else None

    def forward(self, columns: Tensor) -> Tensor:
        """Reconstructs columns (..., B)."""
        inner = F.relu(self.encode(columns))  # (..., hidden)
        if self.decode is None:
            return inner @ self.encode.weight
        return self.decode(inner)


def category_losses(p: Tensor, reconstructed: Tensor) -> Tensor:
    """The four contrastive losses between class columns and reconstructions (Eq. 12-14).

    All losses of one modality share a denominator over the reconstructions of both, so each takes
    the other's positive for a negative: as printed. The temperature is 1.

    Args:
        p: (2, K, B) columns of picture and sound.
        reconstructed: (2, K, B).

    Returns:
        (2, 2): [m, n] pulls columns of modality m to reconstructions of n; the loss L_cat is the
        mean.
    """
    modalities, classes, _ = p.shape
    columns = F.normalize(p, dim=-1).flatten(0, 1)  # (2K, B)
    targets = F.normalize(reconstructed, dim=-1).flatten(0, 1)  # (2K, B)
    similarity = columns @ targets.T  # (2K, 2K)
    denominator = similarity.logsumexp(1).view(modalities, 1, classes)  # (2, 1, K)
    blocks = similarity.view(modalities, classes, modalities, classes)
    positive = torch.einsum("mknk->mnk", blocks)  # (2, 2, K)
    return (denominator - positive).mean(-1)


def category_bounds(classes: int) -> tuple[float, float]:
    """What L_cat is when all columns look alike, and when orthogonal ones are reconstructed."""
    return math.log(2 * classes), math.log(2 * math.e + 2 * (classes - 1)) - 1.0
