"""G-Blend's network: the shared network and a head for each modality alone.

Source: Wang, Tran and Feiszli, "What Makes Training Multi-Modal Classification Networks Hard?",
CVPR 2020. Shapes: leading dimensions are free, d the width of the projections, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainers.action.interface import Inputs
from trainers.action.networks.heads import AudioVisualNet, Heads

__all__ = ["HEADS", "BlendNet"]

HEADS = ("visual", "audio", "fusion")


class BlendNet(nn.Module):
    """Three heads: linear ones on h_v and h_a, and the classifier on both, which predicts.

    Args:
        base: The shared network; its classifier is the fusion head.
        classes: K.
        width: d.
    """

    def __init__(self, base: AudioVisualNet, classes: int, *, width: int) -> None:
        super().__init__()
        self.base = base
        self.head_v, self.head_a = (nn.Linear(width, classes) for _ in range(2))

    def standardise(self, inputs: Inputs) -> None:
        """Sets the statistics of both inputs from the training videos."""
        self.base.standardise(inputs)

    def project(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """h_v and h_a, (..., d)."""
        return self.base.project(visual, audio)

    def forward(self, visual: Tensor, audio: Tensor) -> Heads:
        """Maps features (..., Dv) and (..., Da) of the same clips to the fusion head's `Heads`."""
        return self.base(visual, audio)

    def heads(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Logits of all heads in the order of `HEADS`, (3, ..., K)."""
        out = self.base(visual, audio)
        return torch.stack((self.head_v(out.h_v), self.head_a(out.h_a), out.logits))

    def head(self, name: str, visual: Tensor, audio: Tensor) -> Tensor:
        """Logits of one head, (..., K), without what the others need."""
        if name == "visual":
            return self.head_v(self.base.f_v(self.base.standardise_v(visual)))
        if name == "audio":
            return self.head_a(self.base.f_a(self.base.standardise_a(audio)))
        return self.base(visual, audio).logits
