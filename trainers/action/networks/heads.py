"""The network that all recognition methods share: two projections and a classifier on both.

Source: Han et al., "Noise-Tolerant Learning for Audio-Visual Action Recognition", IEEE TMM 2024
(two fully connected layers classify, a ReLU after the first). The common width of the projections
and the standardisation of frozen features are our choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainers.action.interface import Inputs

__all__ = ["CLASSIFIER_INPUTS", "PROJECTIONS", "AudioVisualNet", "Heads", "Standardise"]

PROJECTIONS = ("linear", "mlp")
CLASSIFIER_INPUTS = ("proj", "norm", "raw")


class Heads(NamedTuple):
    """What the network makes of clips; leading dimensions are those of its input.

    Attributes:
        h_v, h_a: (..., d) projections of the picture and of the sound.
        z_v, z_a: (..., d) the same at norm 1.
        logits: (..., K).
    """

    h_v: Tensor
    h_a: Tensor
    z_v: Tensor
    z_a: Tensor
    logits: Tensor


class Standardise(nn.Module):
    """Shifts and scales every dimension by the statistics of the training clips.

    Args:
        width: Of the features.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    @torch.no_grad()
    def fit(self, x: Tensor, valid: Tensor) -> None:
        """Takes the statistics of clips; a dimension that never changes is shifted only.

        Args:
            x: (N, S, D).
            valid: (N, S) bool; the other clips do not count.
        """
        whole = bool(valid.all())
        # A few columns at a time: copies of all features in double precision may not fit.
        parts = [
            torch.std_mean((c.flatten(0, 1) if whole else c[valid]).double(), 0, correction=0)
            for c in x.split(64, dim=-1)
        ]
        deviation, mean = (torch.cat(part) for part in zip(*parts, strict=True))
        # Rounding leaves constant dimensions a deviation that is tiny beside their mean.
        constant = deviation <= 1e-6 * mean.abs().clamp(min=1e-6)
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(constant, torch.ones_like(mean), 1 / deviation))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return torch.addcmul(-self.mean * self.scale, x, self.scale)

    def into(self, linear: nn.Linear) -> tuple[Tensor, Tensor]:
        """Weight (d, D) and bias (d,) that make of raw what ``linear`` makes of standardised."""
        weight = linear.weight * self.scale
        return weight, linear.bias - weight @ self.mean


class AudioVisualNet(nn.Module):
    """Projections f_v and f_a to a common width, and a classifier g on the pair.

    Args:
        widths: ``{"visual": Dv, "audio": Da}``.
        classes: K.
        width: d, of the projections and inside the classifier.
        proj: ``"linear"``, or ``"mlp"``: a second linear layer after a ReLU.
        cls_input: What the classifier reads: the projections (``"proj"``), the projections at
            norm 1 (``"norm"``) or the standardised features (``"raw"``).
    """

    def __init__(
        self,
        widths: Mapping[str, int],
        classes: int,
        *,
        width: int = 512,
        proj: str = "linear",
        cls_input: str = "proj",
    ) -> None:
        super().__init__()
        self.cls_input = cls_input
        self.standardise_v = Standardise(widths["visual"])
        self.standardise_a = Standardise(widths["audio"])
        self.f_v = _projection(widths["visual"], width, proj)
        self.f_a = _projection(widths["audio"], width, proj)
        read = widths["visual"] + widths["audio"] if cls_input == "raw" else 2 * width
        self.g = nn.Sequential(nn.Linear(read, width), nn.ReLU(), nn.Linear(width, classes))

    def standardise(self, inputs: Inputs) -> None:
        """Sets the statistics of both inputs from the training videos."""
        self.standardise_v.fit(inputs.visual, inputs.valid)
        self.standardise_a.fit(inputs.audio, inputs.valid)

    @property
    def _linear(self) -> bool:
        return isinstance(self.f_v, nn.Linear) and isinstance(self.f_a, nn.Linear)

    def project(self, visual: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """h_v and h_a, (..., d), of features (..., Dv) and (..., Da)."""
        return self.f_v(self.standardise_v(visual)), self.f_a(self.standardise_a(audio))

    def forward(self, visual: Tensor, audio: Tensor) -> Heads:
        """Maps features (..., Dv) and (..., Da) of the same clips to `Heads`."""
        x_v, x_a = self.standardise_v(visual), self.standardise_a(audio)
        h_v, h_a = self.f_v(x_v), self.f_a(x_a)  # (..., d)
        z_v, z_a = F.normalize(h_v, dim=-1), F.normalize(h_a, dim=-1)
        pair = {"proj": (h_v, h_a), "norm": (z_v, z_a), "raw": (x_v, x_a)}[self.cls_input]
        return Heads(h_v, h_a, z_v, z_a, self.g(torch.cat(pair, -1)))

    @torch.no_grad()
    def projector(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """A function of features that gives `project`'s h_v and h_a, up to rounding.

        Linear projections take the statistics into their weights: no standardised copy of the
        features is made. It keeps the weights of the moment it was made.
        """
        if not self._linear:
            return self.project
        w_v, b_v = self.standardise_v.into(self.f_v)
        w_a, b_a = self.standardise_a.into(self.f_a)
        return lambda visual, audio: (F.linear(visual, w_v, b_v), F.linear(audio, w_a, b_a))

    @torch.no_grad()
    def scorer(self) -> Callable[[Tensor, Tensor], Tensor]:
        """A function of features that gives `forward`'s logits, up to rounding, for prediction.

        Between linear projections and the classifier's first layer there is nothing but their
        product: taken once, it spares prediction, which costs a run more than training, about
        half its work. It keeps the weights of the moment it was made.
        """
        if self.cls_input != "proj" or not self._linear:
            return lambda visual, audio: self(visual, audio).logits
        first, second = self.g[0], self.g[2]
        by_v, by_a = first.weight.chunk(2, dim=1)  # (d, d) each
        w_v, b_v = self.standardise_v.into(self.f_v)
        w_a, b_a = self.standardise_a.into(self.f_a)
        w_v, w_a = by_v @ w_v, by_a @ w_a  # (d, Dv) and (d, Da)
        bias = first.bias + by_v @ b_v + by_a @ b_a  # (d,)

        def score(visual: Tensor, audio: Tensor) -> Tensor:
            hidden = F.linear(visual, w_v, bias)
            hidden += F.linear(audio, w_a)
            return second(hidden.relu_())

        return score


def _projection(inner: int, width: int, kind: str) -> nn.Module:
    if kind == "linear":
        return nn.Linear(inner, width)
    return nn.Sequential(nn.Linear(inner, width), nn.ReLU(), nn.Linear(width, width))
