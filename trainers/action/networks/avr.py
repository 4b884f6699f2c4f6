"""AVR's network: a linear classifier on features that are partly rebuilt from a dictionary.

Source: Tian and Xu, "Can Audio-Visual Integration Strengthen Robustness Under Multimodal
Attacks?", CVPR 2021; the ReLU on the projections is our choice. Shapes: leading dimensions are
free, d the width of the projections.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.action.interface import Inputs
from trainers.action.networks.heads import AudioVisualNet, Heads
from trainers.action.sparse import Dictionary

__all__ = ["RobustNet"]


class RobustNet(nn.Module):
    """Projections, a dictionary for each modality, and a linear classifier.

    Args:
        base: Gives the projections; its own classifier is taken off.
        classes: K.
        width: d.
        atoms: Room in each dictionary.
        penalty: lambda of the codes.
        mix: a, the share of the rebuilt features.
        iterations: Of FISTA.
    """

    def __init__(
        self,
        base: AudioVisualNet,
        classes: int,
        *,
        width: int,
        atoms: int,
        penalty: float,
        mix: float,
        iterations: int,
    ) -> None:
        super().__init__()
        base.g = nn.Identity()
        self.base = base
        self.classifier = nn.Linear(2 * width, classes)
        self.mix = mix
        self.dictionary_v, self.dictionary_a = (
            Dictionary(width, atoms, penalty=penalty, iterations=iterations) for _ in range(2)
        )

    def standardise(self, inputs: Inputs) -> None:
        """Sets the statistics of both inputs from the training videos."""
        self.base.standardise(inputs)

    def project(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """h_v and h_a, (..., d)."""
        return self.base.project(visual, audio)

    def features(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """r_m = ReLU(h_m), (..., d)."""
        h_v, h_a = self.project(visual, audio)
        return F.relu(h_v), F.relu(h_a)

    def rebuild(self, r_v: Tensor, r_a: Tensor) -> tuple[Tensor, Tensor]:
        """r'_m = a D c + (1 - a) r, (..., d); r itself while there is no dictionary."""
        return self._mixed(r_v, self.dictionary_v), self._mixed(r_a, self.dictionary_a)

    def _mixed(self, r: Tensor, dictionary: Dictionary) -> Tensor:
        if not len(dictionary):
            return r
        flat = r.reshape(-1, r.shape[-1])  # (B, d)
        rebuilt = dictionary.decode(dictionary.encode(flat)).reshape(r.shape)
        return torch.lerp(r, rebuilt, self.mix)

    def classify(self, r_v: Tensor, r_a: Tensor) -> Tensor:
        """(..., d) twice -> (..., K)."""
        return self.classifier(torch.cat((r_v, r_a), -1))

    def forward(self, visual: Tensor, audio: Tensor) -> Heads:
        """Maps features (..., Dv) and (..., Da) of the same clips to `Heads`."""
        h_v, h_a = self.project(visual, audio)
        logits = self.classify(*self.rebuild(F.relu(h_v), F.relu(h_a)))
        return Heads(h_v, h_a, F.normalize(h_v, dim=-1), F.normalize(h_a, dim=-1), logits)
