"""RLLD's denoiser: the policy that decides which labels each modality keeps.

Source: Gao et al., "Reinforced Label Denoising for Weakly-Supervised Audio-Visual Video Parsing",
arXiv 2412.19563, Eqs. 1-4. Shapes: B clips, T segments, C classes, D model width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainers.avvp.interface import Inputs
from trainers.avvp.networks.layers import HANEncoder, segment_means

__all__ = ["Denoiser"]


class Denoiser(nn.Module):
    """Features and labels of a clip to the logits of keeping each label in each modality.

    It has no dropout, so that log-probabilities computed again are those of the actions taken.

    Args:
        widths: Feature width by role: ``audio``, ``visual`` and optionally ``motion``.
        classes: C.
        width: D.
        layers, heads, ff: Of the hybrid attention (see `HANLayer`).
        pooling: ``"mean"`` over time, or ``"attention"`` with a weight for each class.
        keep_bias: Where the logits start; ln 9 keeps nine labels of ten.
        state_labels: Whether the labels are part of the state.
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        classes: int,
        *,
        width: int = 512,
        layers: int = 1,
        heads: int = 1,
        ff: int = 512,
        pooling: str = "mean",
        keep_bias: float = math.log(9),
        state_labels: bool = True,
    ) -> None:
        super().__init__()
        extra = classes if state_labels else 0
        self.state_labels = state_labels
        self.fc_a = nn.Linear(widths["audio"] + extra, width)
        self.fc_v = nn.Linear(widths["visual"], width)
        streams = 1
        if "motion" in widths:
            self.fc_st = nn.Linear(widths["motion"], width)
            streams = 2
        self.fc_fusion = nn.Linear(streams * width + extra, width)
        self.hat_encoder = HANEncoder(layers, width=width, heads=heads, ff=ff, dropout=0.0)
        self.fc_keep = nn.Linear(width, classes)
        nn.init.constant_(self.fc_keep.bias, keep_bias)
        if pooling == "attention":
            self.fc_frame_att = nn.Linear(width, classes)
        self.pooling = pooling

    def forward(self, inputs: Inputs, labels: Tensor) -> Tensor:
        """Logits of the keep probabilities.

        Args:
            inputs: Features of B clips.
            labels: (B, 2, C) float labels of each modality (audio, visual).

        Returns:
            (B, 2, C).
        """
        segments = inputs.audio.shape[1]
        audio = [inputs.audio]
        visual = [self.fc_v(segment_means(inputs.visual, segments))]
        if inputs.motion is not None:
            visual.append(self.fc_st(inputs.motion))
        if self.state_labels:  # Eq. 1
            repeated = labels.unsqueeze(2).expand(-1, -1, segments, -1)  # (B, 2, T, C)
            audio.append(repeated[:, 0])
            visual.append(repeated[:, 1])
        x_a = self.fc_a(torch.cat(audio, -1))  # (B, T, D)
        x_v = self.fc_fusion(torch.cat(visual, -1))  # (B, T, D)
        h = self.hat_encoder(torch.stack((x_a, x_v)))  # (2, B, T, D), Eqs. 2-3
        if self.pooling == "mean":
            logits = self.fc_keep(h.mean(2))  # (2, B, C), Eq. 4
        else:
            weights = torch.softmax(self.fc_frame_att(h), dim=2)  # (2, B, T, C)
            logits = (weights * self.fc_keep(h)).sum(2)  # (2, B, C)
        return logits.transpose(0, 1)  # (B, 2, C)
