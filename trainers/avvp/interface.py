"""What a parsing method is given and what it gives back.

Shapes: N clips, T one-second segments, C classes; widths are read from the feature store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.registry import Registry
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import Hyperparameters
from trainers.random import RandomState

__all__ = [
    "METHODS",
    "DenseVal",
    "Hyperparameters",
    "Inputs",
    "Method",
    "Prediction",
    "Predictor",
    "TrainView",
]


@dataclass(frozen=True)
class Inputs:
    """Features of N clips, each by the role it plays.

    Attributes:
        audio: (N, T, Da) float32.
        visual: (N, T, Dv) float32; frames of a second are averaged beforehand (exact where the
            first visual layer is linear).
        motion: (N, T, Dm) float32, or None when the visual feature stands alone.
        labels: (N, C) float32 weak labels, only for methods that declare ``test_labels``.
        dense: (N, T, 2, C) float32 dense labels (audio, visual), likewise.
    """

    audio: Tensor
    visual: Tensor
    motion: Tensor | None = None
    labels: Tensor | None = None
    dense: Tensor | None = None

    def __len__(self) -> int:
        return len(self.audio)

    def __getitem__(self, index: Any) -> Inputs:
        return Inputs(
            **{
                f.name: None if (value := getattr(self, f.name)) is None else value[index]
                for f in fields(self)
            }
        )

    def to(self, device: torch.device) -> Inputs:
        """The same features on another device."""
        return Inputs(
            **{
                f.name: None if (value := getattr(self, f.name)) is None else value.to(device)
                for f in fields(self)
            }
        )

    @property
    def device(self) -> torch.device:
        """Where the features are."""
        return self.audio.device

    @property
    def widths(self) -> dict[str, int]:
        """Last dimension of every role that is there."""
        roles = {"audio": self.audio, "visual": self.visual, "motion": self.motion}
        return {role: x.shape[-1] for role, x in roles.items() if x is not None}


@dataclass(frozen=True)
class DenseVal:
    """The densely annotated validation split, for methods that declare ``dense_val``.

    Attributes:
        inputs: Features of V clips.
        audio, visual: (V, T, C) bool truth.
    """

    inputs: Inputs
    audio: np.ndarray
    visual: np.ndarray


@dataclass(frozen=True)
class TrainView:
    """All that a method may see of the training split.

    Clean labels and test data are not reachable from here. Where the correspondence is noisy,
    the audio features are already those of the clip's ``audio_id``.

    Attributes:
        inputs: Features of N clips.
        labels: (N, C) float32 weak labels of the clip, 0 or 1.
        labels_audio, labels_visual: (N, C) float32; equal to ``labels`` unless a manifest carries
            labels of one modality.
        classes: C names.
        dense_val: Only for methods whose ``needs`` holds ``dense_val``.
    """

    inputs: Inputs
    labels: Tensor
    labels_audio: Tensor
    labels_visual: Tensor
    classes: tuple[str, ...]
    dense_val: DenseVal | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Prediction:
    """Probabilities of N clips before any threshold; arrays of float32.

    Attributes:
        audio, visual: (N, T, C) of a segment.
        audio_clip, visual_clip: (N, C) of a clip in one modality.
        clip: (N, C) of a clip.
    """

    audio: np.ndarray
    visual: np.ndarray
    audio_clip: np.ndarray
    visual_clip: np.ndarray
    clip: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence[Prediction]) -> Prediction:
        """Joins predictions along the clips."""
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )


class Predictor(Protocol):
    """A trained method."""

    def predict(self, inputs: Inputs) -> Prediction:
        """Predicts in eval mode, without gradients and without side effects; batches itself."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What ``checkpoint.pt`` holds; loadable with ``weights_only``."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Puts back what `state_dict` gave."""
        ...


class Method(Protocol):
    """One published algorithm.

    Class attributes:
        name: What ``--method`` takes.
        title: Name in tables.
        paper: Citation: title, venue, year.
        roles: Feature roles it reads (``motion`` is used wherever it is given).
        needs: Out of ``dense_val, truth, test_labels, frames``; printed beside its results.
        supervision: ``"weak"`` or what it uses beyond weak labels.
        filter: Name of its published prediction filter.
        selections: How its best validation epoch is chosen, by phase; the last phase's is
            reported. Empty for methods without training.
        released: Whether code was released, so that ``as_released`` means something.
        published: Segment and event numbers on LLP's test split, as printed, or None.
        hyperparameters: Its settings' dataclass.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    roles: ClassVar[frozenset[str]]
    needs: ClassVar[frozenset[str]]
    supervision: ClassVar[str]
    filter: ClassVar[str]
    selections: ClassVar[dict[str, Selection]]
    released: ClassVar[bool]
    published: ClassVar[dict[str, tuple[float | None, ...]] | None]
    hyperparameters: ClassVar[type[Hyperparameters]]

    def fit(
        self,
        view: TrainView,
        hp: Any,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> Predictor:
        """Trains from the view alone.

        Args:
            view: Training data.
            hp: An instance of ``hyperparameters``.
            rng: Randomness; the caller has entered its scope.
            state: Holds what must survive an interruption.
            on_epoch: To be called at every epoch's end.
        """
        ...

    def build(self, widths: dict[str, int], classes: tuple[str, ...], hp: Any) -> Predictor:
        """An untrained predictor of the right shape, to load a checkpoint into."""
        ...

    def keep_scores(
        self, predictor: Predictor, view: TrainView, hp: Any, state: FitState
    ) -> dict[str, np.ndarray] | None:
        """For denoisers: how surely each label holds in each modality, else None.

        Returns:
            ``{"audio": (N, C), "visual": (N, C)}`` float32, 1 keeps and 0 removes.
        """
        ...


METHODS: Registry[Method] = Registry(
    "avvp method", package="trainers.avvp.methods", group="avnoise.avvp"
)
