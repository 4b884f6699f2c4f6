"""What trained parsing methods share beside networks and losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pipeline.errors import UserError
from trainers.avvp.interface import Hyperparameters, Inputs, Prediction
from trainers.options import check_options, option
from trainers.training import PREDICT_ROWS, by_batches

__all__ = ["NetPredictor", "NetworkHyperparameters"]


@dataclass(frozen=True, kw_only=True)
class NetworkHyperparameters(Hyperparameters):
    """The shape of a hybrid attention network, and the check of all options.

    Methods add their schedule and change defaults by naming a field again.
    """

    width: int = option(512, "model width", low=1)
    layers: int = option(1, "hybrid attention layers", low=1)
    heads: int = option(1, "attention heads", low=1)
    ff: int = option(512, "inner width of the feed-forward block", low=1)
    dropout: float = option(0.1, "dropout of the attention layers", low=0.0, high=1.0)
    cls_dropout: float = option(
        0.0, "dropout on the visual stream before the heads", low=0.0, high=1.0
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.width % self.heads:
            raise UserError(
                f"--width {self.width} cannot be split among --heads {self.heads}; "
                "give a multiple of the heads."
            )

    def shape(self) -> dict[str, int]:
        """Arguments of networks with hybrid attention."""
        return {"width": self.width, "layers": self.layers, "heads": self.heads, "ff": self.ff}

    def parser(self) -> dict[str, Any]:
        """Arguments of `trainers.avvp.networks.han.HAN`."""
        return self.shape() | {"dropout": self.dropout, "cls_dropout": self.cls_dropout}


class NetPredictor:
    """Predicts with a network that maps `Inputs` to `Parsing`.

    Args:
        net: The network; training goes on in it, a prediction leaves no trace.
        batch_size: Clips a pass.
        **options: For the network's forward, such as ``with_ca=False``.
    """

    def __init__(self, net: nn.Module, *, batch_size: int = PREDICT_ROWS, **options: Any) -> None:
        self.net = net
        self.batch_size = batch_size
        self.options = options

    def predict(self, inputs: Inputs) -> Prediction:
        """Predicts in eval mode, wherever network and features are."""
        return Prediction.concatenate(
            by_batches(self.net, inputs, self._batch, size=self.batch_size)
        )

    def _batch(self, inputs: Inputs) -> Prediction:
        out = self.net(inputs, **self.options)

        def array(x: Tensor) -> Any:
            return x.float().cpu().numpy()

        return Prediction(
            audio=array(out.p[:, :, 0]),
            visual=array(out.p[:, :, 1]),
            audio_clip=array(out.audio_clip),
            visual_clip=array(out.visual_clip),
            clip=array(out.clip.clamp(max=1.0)),
        )

    def state_dict(self) -> dict[str, Any]:
        """The network's weights."""
        return self.net.state_dict()

    def load_state_dict(self, state_dict: Any) -> Any:
        """Puts the network's weights back."""
        return self.net.load_state_dict(state_dict)
