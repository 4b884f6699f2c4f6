"""MRL's networks: an MLP for each modality, and one vector for each class.

Source: Hu et al., "Learning Cross-Modal Retrieval with Noisy Labels", CVPR 2021. Shapes: leading
dimensions are free, d is the width of the common space.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from trainers.action.interface import Inputs
from trainers.action.networks.heads import Heads, Standardise

__all__ = ["MRLNet"]


class MRLNet(nn.Module):
    """Two MLPs into a common space with a class matrix that starts orthogonal.

    Args:
        widths: ``{"visual": Dv, "audio": Da}``.
        classes: K, at most ``width``.
        width: d.
        hidden: Width of both hidden layers.
        tau: Temperature of the class probabilities.

    Raises:
        UserError: If K orthogonal vectors do not fit into d dimensions.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        classes: int,
        *,
        width: int = 512,
        hidden: int = 512,
        tau: float = 1.0,
    ) -> None:
        super().__init__()
        if classes > width:
            raise UserError(
                f"MRL's {classes} class vectors cannot be orthogonal in {width} dimensions; raise "
                f"--width to {classes} or more."
            )
        self.tau = tau
        self.standardise_v = Standardise(widths["visual"])
        self.standardise_a = Standardise(widths["audio"])
        self.f_v = _mlp(widths["visual"], hidden, width)
        self.f_a = _mlp(widths["audio"], hidden, width)
        rotation = nn.init.orthogonal_(torch.empty(width, width))
        self.omega = nn.Parameter(rotation[:, :classes].clone())  # (d, K)

    def standardise(self, inputs: Inputs) -> None:
        """Sets the statistics of both inputs from the training videos."""
        self.standardise_v.fit(inputs.visual, inputs.valid)
        self.standardise_a.fit(inputs.audio, inputs.valid)

    @torch.no_grad()
    def renormalise(self) -> None:
        """Brings every class vector back to norm 1, in place."""
        self.omega.copy_(F.normalize(self.omega, dim=0))

    def project(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """The MLPs' outputs, (..., d), of features (..., Dv) and (..., Da)."""
        return self.f_v(self.standardise_v(visual)), self.f_a(self.standardise_a(audio))

    def log_probabilities(self, u: Tensor) -> Tensor:
        """ln p of unit vectors: (..., d) -> (..., K)."""
        return F.log_softmax(u @ self.omega / self.tau, -1)

    def forward(self, visual: Tensor, audio: Tensor) -> Heads:
        """Maps features of the same clips to `Heads`; the logits are ln((p_v + p_a) / 2)."""
        h_v, h_a = self.project(visual, audio)
        u_v, u_a = F.normalize(h_v, dim=-1), F.normalize(h_a, dim=-1)
        both = torch.stack((self.log_probabilities(u_v), self.log_probabilities(u_a)))
        return Heads(h_v, h_a, u_v, u_a, both.logsumexp(0) - math.log(2))


def _mlp(inner: int, hidden: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inner, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, width),
    )
