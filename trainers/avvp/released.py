"""Reading the weights that authors released for HAN, MA and JoMoLD.

Nothing in such a file can run code: it is read with ``weights_only``.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import UserError
from trainers.fitting import Stateful

__all__ = ["DEAD_KEYS", "load_released"]

DEAD_KEYS = (
    "audio_encoder.",
    "visual_encoder.",
    "cmt_encoder.",
    "hat_encoder.norm1.",
    "hat_encoder.norm2.",
    "t_att.",
    "t_att2.",
    "fc1.",
    "fc2.",
)
"""Beginnings of parameter names that the released networks hold and never use."""

SHOWN = 6


def load_released(path: Path | str, net: Stateful) -> list[str]:
    """Loads a released state dict, or one under ``model`` beside an optimiser's.

    Args:
        path: The file as its authors published it.
        net: `trainers.avvp.networks.han.HAN` of the released size, or a predictor around it.

    Returns:
        Names of the parameters that were left out because nothing uses them.

    Raises:
        UserError: If the file cannot be read or does not fit the network; parameters that are
            unknown, missing or of another shape are named.
    """
    path = Path(path)
    weights = _read(path)
    dropped = [name for name in weights if name.startswith(DEAD_KEYS)]
    live = {name: value for name, value in weights.items() if name not in set(dropped)}
    expected: Mapping[str, Tensor] = net.state_dict()
    unknown = [name for name in live if name not in expected]
    missing = [name for name in expected if name not in live]
    if unknown or missing:
        parts = [f"{len(missing)} missing ({_some(missing)})"] if missing else []
        parts += [f"{len(unknown)} unknown ({_some(unknown)})"] if unknown else []
        raise UserError(
            f"The parameters in {path.name} are not those of this network: {', '.join(parts)}; "
            "name the method the file belongs to, its features by role (released weights have "
            "audio, visual and motion) and its number of layers."
        )
    if shapes := [
        f"{name} {tuple(live[name].shape)} for {tuple(value.shape)}"
        for name, value in expected.items()
        if live[name].shape != value.shape
    ]:
        raise UserError(
            f"The parameters in {path.name} have other shapes than this network: {_some(shapes)}; "
            "use the features it was trained on, its classes and its --width."
        )
    net.load_state_dict(live)
    return dropped


def _read(path: Path) -> dict[str, Tensor]:
    try:
        # JoMoLD's files hold NumPy's generator state, pickled under the name of NumPy 1.
        reconstruct = np._core.multiarray._reconstruct
        allowed = [
            np.ndarray,
            np.dtype,
            type(np.dtype(np.uint32)),
            reconstruct,
            (reconstruct, "numpy.core.multiarray._reconstruct"),
        ]
        with torch.serialization.safe_globals(allowed):
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(
            f"The weights {path} cannot be read ({error.strerror}); check --checkpoint."
        ) from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(
            f"{path} is not a file of released weights, or holds more than tensors and generator "
            "states; download it again from its authors."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(
            f"{path} holds no state dict of a network; give the file of weights its authors "
            "published."
        )
    return content


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
