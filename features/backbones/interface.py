"""What a backbone is given and what it gives back.

Shapes: T segments a clip, F frames a segment, S steps of the feature. Modules of this package
import torch only inside functions: the two descriptors need none of it, and a process that computes
nothing else starts seconds sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from pipeline.grid import Grid
from pipeline.registry import Registry

__all__ = ["BACKBONES", "Backbone", "Clip"]


@dataclass(frozen=True)
class Clip:
    """One decoded clip, or a block of a long clip's segments, as one backbone asked for it.

    Attributes:
        segments: T.
        waveform: (n,) float32 mono at the backbone's ``audio_rate``, from the first segment's
            start to the last one's end; None for a visual backbone.
        frames: T x F results of ``prepare``, segment after segment; empty for an audio backbone.
        starts: (T,) seconds of every segment's start from the waveform's first sample.
    """

    segments: int
    waveform: np.ndarray | None = None
    frames: Sequence[np.ndarray] = ()
    starts: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def cuts(self, samples: int, rate: int) -> np.ndarray:
        """The sound of every segment, with silence after the waveform's end.

        Args:
            samples: Samples a segment (n).
            rate: Samples a second of the waveform.

        Returns:
            (T, n) float32.
        """
        cuts = np.zeros((self.segments, samples), dtype=np.float32)
        for cut, start in zip(cuts, self.starts, strict=True):
            first = round(float(start) * rate)
            part = self.waveform[first : first + samples]
            cut[: len(part)] = part
        return cuts


class Backbone(Protocol):
    """One feature extractor. Its constructor takes keyword options with defaults only.

    Class attributes:
        name: The feature's name.
        modality: ``"audio"`` or ``"visual"``.
        weights_required: Whether the constructor takes ``weights``, a `WeightChoice`.

    Attributes:
        grid: The segments, and the frames looked at in each. Steps must not depend on more than
            their own block of segments: long clips are computed block by block.
        audio_rate: Samples a second, None for a visual backbone.
        shape: Shape of one step.
        dtype: Type the steps are stored in.
        preparation: What ``prepare`` does, as a hashable value, if there is this attribute;
            backbones with equal ones share its result.
        source: The backbone from whose feature this one can be computed without decoding, or
            None.
    """

    name: ClassVar[str]
    modality: ClassVar[str]
    weights_required: ClassVar[bool]
    grid: Grid
    audio_rate: int | None
    shape: tuple[int, ...]
    dtype: str
    source: Backbone | None

    def spec(self) -> dict[str, Any]:
        """All that changes a value, except what the decoder's own description says."""
        ...

    def times(self, start: float, end: float) -> np.ndarray:
        """Seconds of every step from the clip's start, (S,); the clip's bounds are in the file."""
        ...

    def to(self, device: str) -> None:
        """Loads the weights, where there are any, and moves them to a device.

        Raises:
            UserError: If the weights are not there or are those of another network.
        """
        ...

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        """Shrinks a frame (H, W, 3) uint8 to what ``compute`` needs, so that memory stays small."""
        ...

    def compute(self, clip: Clip) -> np.ndarray:
        """Computes a clip's steps, (S, ...)."""
        ...

    def derive(self, steps: np.ndarray) -> np.ndarray:
        """Computes the steps from those of ``source``; called only where there is one."""
        ...


BACKBONES: Registry[Backbone] = Registry(
    "feature", package="features.backbones", group="avnoise.backbones"
)
