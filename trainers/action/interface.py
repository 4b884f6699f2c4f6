"""What a recognition method is given and what it gives back.

Shapes: N videos, S clips of each (the steps of its features, at the same times in both modalities),
K classes; widths are read from the feature store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline.registry import Registry
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import Hyperparameters
from trainers.random import RandomState

__all__ = [
    "METHODS",
    "Embedding",
    "Hyperparameters",
    "Inputs",
    "KnownNoise",
    "Method",
    "Prediction",
    "Predictor",
    "TrainView",
    "Verdict",
]


@dataclass(frozen=True)
class Inputs:
    """Features of N videos.

    Attributes:
        visual: (N, S, Dv) float32.
        audio: (N, S, Da) float32, that of the video's ``audio_id``.
        valid: (N, S) bool, clips that exist in both modalities; at least one a video. The others
            hold zeros.
    """

    visual: Tensor
    audio: Tensor
    valid: Tensor

    def __len__(self) -> int:
        return len(self.visual)

    def __getitem__(self, index: Any) -> Inputs:
        return Inputs(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device) -> Inputs:
        """The same features on another device."""
        return Inputs(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @property
    def device(self) -> torch.device:
        """Where the features are."""
        return self.visual.device

    @property
    def widths(self) -> dict[str, int]:
        """Last dimension of both modalities."""
        return {"visual": self.visual.shape[-1], "audio": self.audio.shape[-1]}


@dataclass(frozen=True)
class KnownNoise:
    """What methods that declare ``noise_level`` are told of the label noise.

    Attributes:
        kind: ``"symmetric"``, ``"asymmetric"`` or None where no label noise was injected.
        rate: Realised share of training videos with a wrong label, 0 to 1.
    """

    kind: str | None
    rate: float


@dataclass(frozen=True)
class TrainView:
    """All that a method may see of the training split.

    Clean labels, masks of what was altered and test data are not reachable from here.

    Attributes:
        inputs: Features of N videos; the audio is already that of each video's ``audio_id``.
        labels: (N,) int64, possibly wrong.
        groups: (N,) int64, equal for videos of one source: hold-outs are cut between them.
        classes: K names.
        noise: Only for methods whose ``needs`` holds ``noise_level``.
    """

    inputs: Inputs
    labels: Tensor
    groups: Tensor
    classes: tuple[str, ...]
    noise: KnownNoise | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Prediction:
    """Scores of N videos.

    Attributes:
        logits: (N, S, K) float32; softmax gives each clip's probabilities. Methods that predict
            probabilities give their logarithm.
        valid: (N, S) bool, as in `Inputs`.
    """

    logits: np.ndarray
    valid: np.ndarray

    @classmethod
    def concatenate(cls, parts: Sequence[Prediction]) -> Prediction:
        """Joins predictions along the videos."""
        return cls(
            **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)}
        )


class Embedding(NamedTuple):
    """Unit vectors of videos or clips in the space that both modalities share.

    Attributes:
        visual, audio: (..., d) float32, of norm 1.
    """

    visual: Tensor
    audio: Tensor


class Predictor(Protocol):
    """A trained method."""

    def predict(self, inputs: Inputs) -> Prediction:
        """Predicts in eval mode, without gradients and without side effects; batches itself."""
        ...

    def embed(self, inputs: Inputs) -> Embedding:
        """z of every clip, (N, S, d), in eval mode, without gradients; batches itself.

        From it the runner estimates correspondence alike for all methods.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What ``checkpoint.pt`` holds; loadable with ``weights_only``."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Puts back what `state_dict` gave."""
        ...


@dataclass(frozen=True)
class Verdict:
    """What a denoiser thinks of the training data.

    Attributes:
        keep: By the name of the criterion, (N,) float32: the larger, the more surely the label is
            right. The first one is the method's own.
        weights: (N, 2) float32, how surely picture and sound belong together, as the visual and
            the audio side see it; None for methods that weigh no pairs.
        corrected: (N,) int64 labels that the method puts in place of the given ones, or None.
    """

    keep: Mapping[str, np.ndarray] = field(default_factory=dict)
    weights: np.ndarray | None = None
    corrected: np.ndarray | None = None


class Method(Protocol):
    """One published algorithm.

    Class attributes:
        name: What ``--method`` takes.
        title: Name in tables.
        paper: Citation: title, venue, year.
        needs: Out of ``noise_level, truth, test_labels``; printed beside its results.
        supervision: ``"noisy"`` or what it uses beyond noisy labels.
        selections: How its best validation epoch is chosen, by phase; the last phase's is
            reported.
        released: Whether code was released for what is done here, so that ``as_released`` means
            something: of training on whole videos little remains on cached features.
        hyperparameters: Its settings' dataclass.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    supervision: ClassVar[str]
    selections: ClassVar[dict[str, Selection]]
    released: ClassVar[bool]
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

    def verdict(
        self, predictor: Predictor, view: TrainView, hp: Any, state: FitState
    ) -> Verdict | None:
        """What the method thinks of the training data as it stands after its last epoch.

        None for methods that judge nothing. The runner adds to it what it computes for all
        methods: the loss of every training label, and weights of pairs from `Predictor.embed`.
        """
        ...


METHODS: Registry[Method] = Registry(
    "action method", package="trainers.action.methods", group="avnoise.action"
)
