"""What trained recognition methods share beside networks: settings, visits, prediction, loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.errors import UserError
from trainers.action.interface import Embedding, Hyperparameters, Inputs, Prediction, TrainView
from trainers.action.networks.heads import (
    CLASSIFIER_INPUTS,
    PROJECTIONS,
    AudioVisualNet,
)
from trainers.options import check_options, option
from trainers.random import RandomState
from trainers.training import PREDICT_ROWS, by_batches

__all__ = [
    "ActionHyperparameters",
    "NetPredictor",
    "Visit",
    "build_net",
    "draw_clips",
    "per_video_loss",
    "visits",
]


@dataclass(frozen=True, kw_only=True)
class ActionHyperparameters(Hyperparameters):
    """The shared network and its optimisation (specification, section 3); checks all options.

    Methods add their own settings and change defaults by naming a field again. ``epochs`` is the
    length of the whole run in epochs (or rounds): the demo schedule scales everything that is
    counted in epochs by what it makes of it.
    """

    width: int = option(512, "width of the projections", low=1)
    proj: str = option("linear", "projection of each modality", choices=PROJECTIONS)
    cls_input: str = option(
        "proj", "the classifier reads projections, these at norm 1, or features",
        choices=CLASSIFIER_INPUTS,
    )  # fmt: skip
    lr: float = option(1e-3, "Adam's learning rate", low=0.0)
    batch_size: int = option(64, "videos an update; a last partial batch is dropped", low=1)
    epochs: int = option(60, "epochs, or rounds, of the whole run", low=0)

    def __post_init__(self) -> None:
        check_options(self)

    def steps_per_epoch(self, n: int) -> int:
        """Updates in one pass over ``n`` training videos.

        Raises:
            UserError: If the videos do not fill one batch.
        """
        return full_batches(n, self.batch_size)

    def passes(self) -> int:
        """Passes over the training videos in the whole run."""
        return self.epochs

    def updates(self, n: int) -> int:
        """Updates in the whole run over ``n`` training videos."""
        return self.passes() * self.steps_per_epoch(n)

    def check(self, view: TrainView) -> None:
        """Refuses a batch that the videos do not fill; methods refuse more."""
        self.steps_per_epoch(len(view))


def full_batches(n: int, size: int) -> int:
    """How many full batches there are in a pass.

    Raises:
        UserError: If there is none: a run without an update must not pass for a trained one.
    """
    if n < size:
        raise UserError(
            f"{n} training videos do not fill one batch of {size}; lower --batch-size to "
            f"{max(1, n)} or less."
        )
    return n // size


def build_net(widths: dict[str, int], classes: int, hp: ActionHyperparameters) -> AudioVisualNet:
    """The shared network with a method's settings; `AudioVisualNet.standardise` is still to call.

    Args:
        widths: ``{"visual": Dv, "audio": Da}``.
        classes: K.
        hp: Gives width, projection and the classifier's input.
    """
    return AudioVisualNet(widths, classes, width=hp.width, proj=hp.proj, cls_input=hp.cls_input)


def draw_clips(valid: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Draws one valid clip for each visit, uniformly.

    Args:
        valid: (N, S) bool; at least one clip a video.
        rows: (B,) videos visited.
        generator: A CPU generator; one number is drawn for each visit.

    Returns:
        (B,) int64 clip indices where ``valid`` is.
    """
    chance = torch.rand(len(rows), generator=generator, dtype=torch.float64).to(valid.device)
    there = valid[rows.to(valid.device)].cumsum(1)  # (B, S)
    wanted = (chance * there[:, -1]).long() + 1  # (B,) the how-manieth valid clip
    return torch.searchsorted(there, wanted[:, None]).squeeze(1)


class Visit(NamedTuple):
    """One batch: a clip of each of B videos, at the same time in both modalities.

    Attributes:
        rows: (B,) int64 videos.
        clips: (B,) int64 clips.
        visual: (B, Dv) float32.
        audio: (B, Da) float32.
        labels: (B,) int64 training labels.
    """

    rows: Tensor
    clips: Tensor
    visual: Tensor
    audio: Tensor
    labels: Tensor


def visits(
    view: TrainView,
    size: int,
    rng: RandomState,
    *,
    stream: str = "order",
    rows: Tensor | None = None,
) -> Iterator[Visit]:
    """One pass over the training videos in a new order; a last partial batch is dropped.

    Order and clips come from the streams ``<stream>`` and ``<stream>/clips``: methods that walk
    the same stream equally often meet the same batches with the same seed.

    Args:
        view: Training data.
        size: B.
        rng: The run's randomness.
        stream: Passes that must not move another's draws need a name of their own.
        rows: (M,) some of the videos; None takes all.

    Yields:
        Batches on the view's device.

    Raises:
        UserError: If the videos do not fill one batch.
    """
    n = len(view) if rows is None else len(rows)
    count = full_batches(n, size)
    device = view.inputs.device
    order = torch.randperm(n, generator=rng.stream(stream))[: count * size].to(device)
    order = order if rows is None else rows.to(device)[order]  # (count * B,)
    clips = draw_clips(view.inputs.valid, order, rng.stream(f"{stream}/clips"))
    for batch, clip in zip(order.split(size), clips.split(size), strict=True):
        yield Visit(
            batch,
            clip,
            view.inputs.visual[batch, clip],
            view.inputs.audio[batch, clip],
            view.labels[batch],
        )


class NetPredictor:
    """Predicts and embeds with a network that maps features to `Heads`.

    Args:
        net: The network; training goes on in it, a prediction leaves no trace. Where it has a
            ``scorer()`` or a ``projector()``, what that makes predicts or embeds in its place.
        batch_size: Videos a pass.
    """

    def __init__(self, net: nn.Module, *, batch_size: int = PREDICT_ROWS) -> None:
        self.net = net
        self.batch_size = batch_size

    def predict(self, inputs: Inputs) -> Prediction:
        """Logits of every clip; those of clips that are not valid are zero."""
        make = getattr(self.net, "scorer", None)
        score = self._logits if make is None else make()

        def step(part: Inputs) -> Prediction:
            logits = score(part.visual, part.audio) * part.valid[..., None]  # (N, S, K)
            return Prediction(logits.float().cpu().numpy(), part.valid.cpu().numpy())

        return Prediction.concatenate(by_batches(self.net, inputs, step, size=self.batch_size))

    def _logits(self, visual: Tensor, audio: Tensor) -> Tensor:
        return self.net(visual, audio).logits

    def embed(self, inputs: Inputs) -> Embedding:
        """z of every clip in both modalities, (N, S, d), where the network is."""
        make = getattr(self.net, "projector", None)
        project: Any = self.net.project if make is None else make()

        def step(part: Inputs) -> tuple[Tensor, Tensor]:
            h_v, h_a = project(part.visual, part.audio)
            return F.normalize(h_v, dim=-1), F.normalize(h_a, dim=-1)

        parts = by_batches(self.net, inputs, step, size=self.batch_size)
        if len(parts) == 1:
            return Embedding(*parts[0])
        return Embedding(*(torch.cat(side) for side in zip(*parts, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """The network's weights and statistics."""
        return self.net.state_dict()

    def load_state_dict(self, state_dict: Any) -> Any:
        """Puts the network's weights and statistics back."""
        return self.net.load_state_dict(state_dict)


def per_video_loss(prediction: Prediction, labels: Tensor | np.ndarray) -> np.ndarray:
    """Cross-entropy of every video's label, averaged over its valid clips.

    Args:
        prediction: Of N videos.
        labels: (N,) class indices.

    Returns:
        (N,) float32.
    """
    log_p = F.log_softmax(torch.from_numpy(prediction.logits), -1)  # (N, S, K)
    given = torch.as_tensor(labels).cpu()[:, None, None].expand(-1, log_p.shape[1], 1)
    loss = -log_p.gather(2, given).squeeze(2).numpy()  # (N, S)
    valid = prediction.valid
    return ((loss * valid).sum(1) / valid.sum(1).clip(min=1)).astype(np.float32)
