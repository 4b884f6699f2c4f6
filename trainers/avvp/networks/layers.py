"""Parts that most parsing networks share: the hybrid attention layer, its stack, MMIL pooling.

Source: Tian, Li and Xu, "Unified Multisensory Perception: Weakly-Supervised Audio-Visual Video
Parsing", ECCV 2020, section 4. Shapes: B clips, T segments, C classes, D model width. The two
modalities travel stacked, audio first, as (2, B, T, D): one matrix product serves both.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["HANEncoder", "HANLayer", "Pooled", "mmil_pooling", "segment_means"]


class HANLayer(nn.Module):
    """Self-attention and cross-modal attention side by side, then a feed-forward block; post-norm.

    h = LN1(q + drop(MHA_cm(q, o, o)) + drop(MHA_self(q, q, q))); out = LN2(h + drop(FF(h))).

    Args:
        width: D.
        heads: Heads of each attention; must divide `width`.
        ff: Inner width of the feed-forward block.
        dropout: On attention weights, on both attention outputs and twice in the block.
    """

    def __init__(self, width: int, *, heads: int = 1, ff: int = 512, dropout: float = 0.1) -> None:
        super().__init__()
        # Used for their parameters (names and initialisation); `_attend` does the arithmetic,
        # which their forward would do with more copies.
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.cm_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1 = nn.Linear(width, ff)
        self.linear2 = nn.Linear(ff, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = dropout

    def forward(self, query: Tensor, other: Tensor, *, with_ca: bool = True) -> Tensor:
        """Updates one modality (or several, stacked) from itself and the other.

        Args:
            query: (..., T, D), the stream to update.
            other: (..., T, D), the stream of the other modality.
            with_ca: Whether to attend to `other` at all.

        Returns:
            (..., T, D).
        """
        width = query.shape[-1]
        own = self.self_attn
        q, k, v = F.linear(query, own.in_proj_weight, own.in_proj_bias).chunk(3, -1)  # (..., T, D)
        h = query + self._attend(own, q, k, v)  # (..., T, D)
        if with_ca:
            cross = self.cm_attn
            weight_q, weight_kv = cross.in_proj_weight.split([width, 2 * width])
            bias_q, bias_kv = cross.in_proj_bias.split([width, 2 * width])
            q = F.linear(query, weight_q, bias_q)  # (..., T, D)
            k, v = F.linear(other, weight_kv, bias_kv).chunk(2, -1)  # (..., T, D)
            h = h + self._attend(cross, q, k, v)  # (..., T, D)
        h = self.norm1(h)  # (..., T, D)
        inner = self._drop(F.relu(self.linear1(h)))  # (..., T, ff)
        return self.norm2(h + self._drop(self.linear2(inner)))  # (..., T, D)

    def _attend(self, attention: nn.MultiheadAttention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention on projected (..., T, D) streams, the output projection and its dropout."""
        shape, heads = q.shape, attention.num_heads

        def split(x: Tensor) -> Tensor:
            x = x.reshape(-1, shape[-2], heads, shape[-1] // heads)  # (R, T, h, D/h)
            return x.transpose(1, 2).flatten(0, 1)  # (R*h, T, D/h)

        q, k, v = split(q), split(k), split(v)  # (R*h, T, D/h)
        scores = torch.bmm(q, k.transpose(1, 2)) * q.shape[-1] ** -0.5  # (R*h, T, T)
        weights = self._drop(scores.softmax(-1))  # (R*h, T, T)
        out = torch.bmm(weights, v).unflatten(0, (-1, heads))  # (R, h, T, D/h)
        out = out.transpose(1, 2).reshape(shape)  # (..., T, D)
        return self._drop(attention.out_proj(out))  # (..., T, D)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class HANEncoder(nn.Module):
    """Layers that serve both modalities; each updates both from the same old streams.

    Args:
        layers: Number of layers.
        chained: Whether a layer reads the output of the one before. The released code gives every
            layer the encoder's input, so that only the last one counts.
        width, heads, ff, dropout: See `HANLayer`.
    """

    def __init__(
        self,
        layers: int,
        *,
        width: int,
        heads: int = 1,
        ff: int = 512,
        dropout: float = 0.1,
        chained: bool = True,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            HANLayer(width, heads=heads, ff=ff, dropout=dropout) for _ in range(layers)
        )
        self.chained = chained

    def forward(self, x: Tensor, *, with_ca: bool = True) -> Tensor:
        """Maps streams (2, B, T, D), audio and visual, to streams of the same shape."""
        out = x  # (2, B, T, D)
        for layer in self.layers:
            source = out if self.chained else x  # (2, B, T, D)
            other = source.flip(0) if with_ca else source  # (2, B, T, D)
            out = layer(source, other, with_ca=with_ca)  # (2, B, T, D)
        return out


class Pooled(NamedTuple):
    """Probabilities of segments and clips.

    Attributes:
        p: (B, T, 2, C) of a segment in a modality (audio, visual).
        audio_clip, visual_clip: (B, C) of a clip in one modality, at most its largest segment's.
        clip: (B, C) of a clip; its weights sum to anything between 0 and 2, so it may exceed 1.
    """

    p: Tensor
    audio_clip: Tensor
    visual_clip: Tensor
    clip: Tensor


def mmil_pooling(
    x: Tensor, fc_prob: nn.Linear, fc_frame_att: nn.Linear, fc_av_att: nn.Linear
) -> Pooled:
    """Attentive multimodal multiple-instance pooling with heads shared by the modalities.

    Args:
        x: (2, B, T, D), audio and visual.
        fc_prob, fc_frame_att, fc_av_att: D to C: probability, weight over time, over modalities.
    """
    p = torch.sigmoid(fc_prob(x))  # (2, B, T, C)
    over_time = torch.softmax(fc_frame_att(x), dim=2)  # (2, B, T, C)
    over_modality = torch.softmax(fc_av_att(x), dim=0)  # (2, B, T, C)
    weighted = over_time * p  # (2, B, T, C)
    audio_clip, visual_clip = weighted.sum(2).unbind(0)  # (B, C) each
    clip = (weighted * over_modality).sum((0, 2))  # (B, C)
    return Pooled(p.permute(1, 2, 0, 3), audio_clip, visual_clip, clip)


def segment_means(frames: Tensor, segments: int) -> Tensor:
    """Averages the frames of a segment; frames already averaged pass unchanged.

    Exact before a linear layer, and an order of magnitude cheaper than after it.

    Args:
        frames: (B, T, W), (B, T*F, W) or (B, T, F, W).
        segments: T.

    Returns:
        (B, T, W).
    """
    if frames.ndim == 3 and frames.shape[1] == segments:
        return frames
    return frames.reshape(len(frames), segments, -1, frames.shape[-1]).mean(2)  # (B, T, W)
