"""Reference rows that every results table carries: what needs no training at all.

    python -m trainers.avvp --method broadcast --manifest llp.jsonl

``nothing`` predicts nothing. The others say for each clip which classes it has in which modality
and spread them over all its segments; they read labels of the split they are scored on, so they
are no competitors but marks on the scale: how far does the weak label alone carry, how far the
knowledge that one class is heard and not seen, and how far perfect modality labels without any
sense of time?
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError, unknown_name
from trainers.avvp.interface import METHODS, Hyperparameters, Inputs, Prediction, TrainView
from trainers.fitting import FitState, OnEpoch, Selection
from trainers.options import option
from trainers.random import RandomState

__all__ = [
    "Broadcast",
    "BroadcastNeverVisible",
    "NeverVisibleHyperparameters",
    "Nothing",
    "OracleModality",
    "ReferenceHyperparameters",
    "ReferencePredictor",
]

PAPER = "reference row, no training"
READS_LABELS = "reads test labels"

Rule = Callable[[Inputs, int], tuple[Tensor, Tensor]]
"""From N clips and C to each clip's classes in audio and in the picture, (N, C) float32 each."""


@dataclass(frozen=True, kw_only=True)
class ReferenceHyperparameters(Hyperparameters):
    """There is nothing to set."""


@dataclass(frozen=True, kw_only=True)
class NeverVisibleHyperparameters(Hyperparameters):
    """Settings of ``broadcast_speech_never_visible``."""

    never_visible: str | None = option(
        None, "class that is never seen; none takes the most frequent training label"
    )


class ReferencePredictor:
    """Spreads each clip's classes over all its segments, with probabilities 0 and 1.

    Args:
        rule: Says the classes of a clip.
        classes: C names.
        never_visible: Class deleted from the picture, or None.
    """

    def __init__(
        self, rule: Rule, classes: tuple[str, ...], never_visible: str | None = None
    ) -> None:
        self.rule = rule
        self.classes = classes
        self.never_visible = never_visible

    def predict(self, inputs: Inputs) -> Prediction:
        """Predicts clips that carry the labels the rule reads.

        Raises:
            UserError: If they do not.
        """
        audio, visual = self.rule(inputs, len(self.classes))  # (N, C) each
        if self.never_visible is not None:
            visual = visual.clone()
            visual[:, self.classes.index(self.never_visible)] = 0
        segments = inputs.audio.shape[1]

        def spread(x: Tensor) -> np.ndarray:
            return x[:, None].expand(-1, segments, -1).float().cpu().numpy().copy()  # (N, T, C)

        def clip(x: Tensor) -> np.ndarray:
            return x.float().cpu().numpy().copy()  # (N, C)

        return Prediction(
            audio=spread(audio),
            visual=spread(visual),
            audio_clip=clip(audio),
            visual_clip=clip(visual),
            clip=clip(torch.maximum(audio, visual)),
        )

    def state_dict(self) -> dict[str, Any]:
        """The class that is never seen; the rest is in the method's name."""
        return {"never_visible": self.never_visible}

    def load_state_dict(self, state_dict: Any) -> None:
        """Takes over what `state_dict` gave.

        Raises:
            UserError: If the class is not among this data set's.
        """
        self.never_visible = _known(state_dict["never_visible"], self.classes)


def _known(name: str | None, classes: tuple[str, ...]) -> str | None:
    if name is not None and name not in classes:
        raise unknown_name("class", name, classes)
    return name


def _no_class(inputs: Inputs, classes: int) -> tuple[Tensor, Tensor]:
    none = inputs.audio.new_zeros(len(inputs), classes)  # (N, C)
    return none, none


def _weak_label(inputs: Inputs, classes: int) -> tuple[Tensor, Tensor]:
    if inputs.labels is None:
        raise UserError(
            "This reference row reads the labels of what it predicts and there are none; "
            "choose a method that is trained."
        )
    return inputs.labels, inputs.labels


def _dense_label(inputs: Inputs, classes: int) -> tuple[Tensor, Tensor]:
    if inputs.dense is None:
        raise UserError(
            "oracle_modality reads dense annotations and there are none; "
            "choose broadcast, or a method that is trained."
        )
    present = inputs.dense.amax(dim=1)  # (N, 2, C)
    return present[:, 0], present[:, 1]


def _fit(
    self: Any,
    view: TrainView,
    hp: Any,
    *,
    rng: RandomState,
    state: FitState,
    on_epoch: OnEpoch,
) -> ReferencePredictor:
    """There is nothing to train."""
    return self.build(view.inputs.widths, view.classes, hp)


def _build(
    self: Any, widths: dict[str, int], classes: tuple[str, ...], hp: Any
) -> ReferencePredictor:
    """The predictor; features play no part."""
    return ReferencePredictor(self.rule, classes)


def _keep_scores(
    self: Any, predictor: ReferencePredictor, view: TrainView, hp: Any, state: FitState
) -> None:
    """None: reference rows do not judge labels."""


@METHODS.add
class Nothing:
    """Predicts no event: what the metric gives for empty clips and nothing else."""

    name = "nothing"
    title = "nothing"
    paper = PAPER
    roles = frozenset()
    needs = frozenset()
    supervision = "none"
    filter = "modality"
    selections: ClassVar[dict[str, Selection]] = {}
    released = False
    published = None
    hyperparameters = ReferenceHyperparameters
    rule = staticmethod(_no_class)
    fit = _fit
    build = _build
    keep_scores = _keep_scores


@METHODS.add
class Broadcast:
    """The clip's weak label on all segments of both modalities."""

    name = "broadcast"
    title = "broadcast"
    paper = PAPER
    roles = frozenset()
    needs = frozenset({"test_labels"})
    supervision = READS_LABELS
    filter = "modality"
    selections: ClassVar[dict[str, Selection]] = {}
    released = False
    published = None
    hyperparameters = ReferenceHyperparameters
    rule = staticmethod(_weak_label)
    fit = _fit
    build = _build
    keep_scores = _keep_scores


@METHODS.add
class BroadcastNeverVisible:
    """Broadcast, with one class heard but never seen (on LLP: Speech)."""

    name = "broadcast_speech_never_visible"
    title = "broadcast, Speech never visible"
    paper = PAPER
    roles = frozenset()
    needs = frozenset({"test_labels"})
    supervision = READS_LABELS
    filter = "modality"
    selections: ClassVar[dict[str, Selection]] = {}
    released = False
    published = None
    hyperparameters = NeverVisibleHyperparameters
    rule = staticmethod(_weak_label)
    build = _build
    keep_scores = _keep_scores

    def fit(
        self,
        view: TrainView,
        hp: NeverVisibleHyperparameters,
        *,
        rng: RandomState,
        state: FitState,
        on_epoch: OnEpoch,
    ) -> ReferencePredictor:
        """Finds the most frequent training label, unless a class is named.

        Raises:
            UserError: If the named class is unknown, or there are no labels to count.
        """
        name = _known(hp.never_visible, view.classes)
        if name is None:
            counts = view.labels.sum(dim=0)  # (C,)
            if not counts.any():
                raise UserError(
                    "There are no training labels to find the most frequent one of; "
                    "name the class with --never-visible."
                )
            name = view.classes[int(counts.argmax())]
        return ReferencePredictor(self.rule, view.classes, name)


@METHODS.add
class OracleModality:
    """The true classes of each modality on all segments: the ceiling without temporal skill."""

    name = "oracle_modality"
    title = "oracle modality"
    paper = PAPER
    roles = frozenset()
    needs = frozenset({"test_labels"})
    supervision = READS_LABELS
    filter = "modality"
    selections: ClassVar[dict[str, Selection]] = {}
    released = False
    published = None
    hyperparameters = ReferenceHyperparameters
    rule = staticmethod(_dense_label)
    fit = _fit
    build = _build
    keep_scores = _keep_scores
