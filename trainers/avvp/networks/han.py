"""The hybrid attention network (HAN), the backbone of almost every parsing method.

Source: Tian, Li and Xu, ECCV 2020, section 4. Parameter names are those of the released
checkpoints. Shapes: B clips, T segments, C classes, D model width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.avvp.interface import Inputs
from trainers.avvp.networks.layers import HANEncoder, mmil_pooling, segment_means

__all__ = ["HAN", "Parsing"]


class Parsing(NamedTuple):
    """What a parsing network gives for B clips.

    Attributes:
        p: (B, T, 2, C) probability of a segment in a modality (audio, visual).
        audio_clip, visual_clip: (B, C) probability of a clip in one modality.
        clip: (B, C) of a clip; unclamped, may exceed 1.
        audio_in, visual_in: (B, T, D) streams before hybrid attention.
        audio_out, visual_out: (B, T, D) streams after it, before the heads' dropout.
    """

    p: Tensor
    audio_clip: Tensor
    visual_clip: Tensor
    clip: Tensor
    audio_in: Tensor
    visual_in: Tensor
    audio_out: Tensor
    visual_out: Tensor


class HAN(nn.Module):
    """Linear trunk, hybrid attention over both modalities, attentive MMIL pooling.

    Args:
        widths: Feature width by role: ``audio``, ``visual`` and optionally ``motion``. Without
            motion the visual stream is ``fc_v(visual)`` alone.
        classes: C.
        width: D.
        layers, heads, ff, dropout: Of the hybrid attention (see `HANLayer`).
        cls_dropout: Dropout on the visual stream before the three heads.
        chained: See `HANEncoder`.
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
        dropout: float = 0.1,
        cls_dropout: float = 0.0,
        chained: bool = True,
    ) -> None:
        super().__init__()
        self.fc_a = nn.Linear(widths["audio"], width)
        self.fc_v = nn.Linear(widths["visual"], width)
        if "motion" in widths:
            self.fc_st = nn.Linear(widths["motion"], width)
            self.fc_fusion = nn.Linear(2 * width, width)
        self.hat_encoder = HANEncoder(
            layers, width=width, heads=heads, ff=ff, dropout=dropout, chained=chained
        )
        self.fc_prob = nn.Linear(width, classes)
        self.fc_frame_att = nn.Linear(width, classes)
        self.fc_av_att = nn.Linear(width, classes)
        self.cls_dropout = cls_dropout

    def forward(self, inputs: Inputs, *, with_ca: bool = True) -> Parsing:
        """Parses clips.

        Args:
            inputs: Features of B clips; ``visual`` may hold several frames a segment (see
                `segment_means`).
            with_ca: Whether each modality attends to the other.
        """
        return self.parse(self.embed(inputs), with_ca=with_ca)

    def embed(self, inputs: Inputs) -> Tensor:
        """Streams before hybrid attention, (2, B, T, D): audio and visual. Uses no dropout."""
        audio = self.fc_a(inputs.audio)  # (B, T, D)
        visual = self.fc_v(segment_means(inputs.visual, audio.shape[1]))  # (B, T, D)
        if inputs.motion is not None:
            motion = self.fc_st(inputs.motion)  # (B, T, D)
            visual = self.fc_fusion(torch.cat((visual, motion), dim=-1))  # (B, T, D)
        return torch.stack((audio, visual))  # (2, B, T, D)

    def parse(self, embedded: Tensor, *, with_ca: bool = True) -> Parsing:
        """Everything after `embed`, whose result two passes over a batch can share."""
        encoded = self.hat_encoder(embedded, with_ca=with_ca)  # (2, B, T, D)
        scored = encoded  # (2, B, T, D)
        if self.cls_dropout and self.training:
            scored = torch.stack((encoded[0], F.dropout(encoded[1], self.cls_dropout)))
        pooled = mmil_pooling(scored, self.fc_prob, self.fc_frame_att, self.fc_av_att)
        return Parsing(*pooled, *embedded.unbind(0), *encoded.unbind(0))
