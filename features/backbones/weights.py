"""Weights: a local file, torchvision's own download, or, if asked for, random numbers."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import UserError
from pipeline.files import file_digest

if TYPE_CHECKING:
    import torch

__all__ = ["Network", "WeightChoice", "looks_like"]


@dataclass(frozen=True)
class WeightChoice:
    """Which weights a backbone uses.

    Args:
        file: A state dict's file, or None for the published weights.
        seed: Random weights of this seed, or None. They make features without meaning.
    """

    file: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Published:
    """Where a network's published weights are.

    Args:
        url: Where they can be downloaded; the last part is the file's name.
        download: Whether to do so when the file is not here.
    """

    url: str
    download: bool

    @property
    def file(self) -> Path:
        """The file in torch's own cache, where torchvision looks as well."""
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[-1]


class Network:
    """A network whose weights are found, checked and loaded at first use.

    Args:
        name: The feature family's name, as in ``--weights NAME=FILE``.
        choice: Which weights.
        make: Builds the network, with parameters that need not mean anything.
        published: Its published weights.
        unused: Prefixes of parameters that a checkpoint may hold and the feature does not use.
    """

    def __init__(
        self,
        name: str,
        choice: WeightChoice,
        make: Callable[[], torch.nn.Module],
        *,
        published: Published,
        unused: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.choice = choice
        self._make = make
        self._published = published
        self._unused = unused
        self._device = "cpu"
        self._module: torch.nn.Module | None = None
        self._lock = threading.Lock()

    @property
    def random(self) -> bool:
        """Whether the weights are random."""
        return self.choice.file is None and self.choice.seed is not None

    def file(self) -> Path:
        """The weight file, downloaded if need be.

        Raises:
            UserError: If there is none and it cannot be downloaded.
        """
        if self.choice.file is not None:
            return Path(self.choice.file)
        file = self._published.file
        if not file.exists():
            if not self._published.download:
                raise self._not_here("they have no packaged download")
            import torch

            try:
                torch.hub.load_state_dict_from_url(
                    self._published.url, check_hash=True, map_location="cpu", weights_only=True
                )
            except (OSError, RuntimeError) as error:
                raise self._not_here(f"downloading failed: {error}") from error
        return file

    def _not_here(self, why: str) -> UserError:
        return UserError(
            f"The weights of {self.name} are not here ({why}); download {self._published.url} "
            f"and put it at {self._published.file} or pass --weights {self.name}=FILE "
            "(--random-weights SEED runs without, for a trial)."
        )

    def digest(self) -> str:
        """SHA-256 of the weight file, or ``random:SEED``: what a spec says of the weights.

        Raises:
            UserError: See `file`.
        """
        if self.random:
            return f"random:{self.choice.seed}"
        return _digest(str(self.file()), self.file().stat().st_mtime_ns)

    def to(self, device: str) -> None:
        """Loads the weights and moves them.

        Raises:
            UserError: If the weights are not there, cannot be read or are another network's.
        """
        with self._lock:
            if self._module is None:
                self._module = self._load()
            if device != self._device:
                self._module.to(device)
                self._device = device

    def _load(self) -> torch.nn.Module:
        import torch

        # Building draws random numbers; nobody else's stream may move because of it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.choice.seed or 0)
            module = self._make()
        if not self.random:
            path = self.file()
            module.load_state_dict(_matching(self.name, path, module, self._unused))
        return module.eval().requires_grad_(False)

    def __call__(
        self, prepare: Callable[[torch.Tensor], torch.Tensor], items: np.ndarray, *, batch: int
    ) -> np.ndarray:
        """Runs the network without gradients in float32.

        Batches are cut from one clip only, so that a clip's values do not depend on its
        neighbours.

        Args:
            prepare: Turns a batch of ``items`` on the device into the network's input.
            items: (n, ...) inputs.
            batch: Most items at a time.

        Returns:
            (n, ...) float32.
        """
        import torch

        self.to(self._device)
        outputs = []
        try:
            with torch.inference_mode():
                for part in torch.from_numpy(items).split(batch):
                    outputs.append(self._module(prepare(part.to(self._device))).cpu())
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"The GPU has too little free memory for {self.name}; free some or use "
                "--device cpu."
            ) from error
        return torch.cat(outputs).numpy()


@lru_cache(maxsize=64)
def _digest(path: str, stamp: int) -> str:
    """A file's digest; the stamp only tells a replaced file from the one before."""
    return f"sha256:{file_digest(path)}"


def read_state(name: str, path: Path) -> dict[str, Any]:
    """Reads a state dict without running any code it may hold.

    Raises:
        UserError: If the file is none.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(
            f"The weights {path} of {name} cannot be read as a plain state dict "
            f"({str(error).splitlines()[0][:120]}); check the file."
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in state.values()
    ):
        raise UserError(
            f"The weights {path} of {name} hold no plain state dict of tensors; save "
            "network.state_dict() and pass that file."
        )
    return dict(state)


def _matching(
    name: str, path: Path, module: torch.nn.Module, unused: tuple[str, ...]
) -> dict[str, Any]:
    """The parameters for a module, checked to be all there and of the right shape."""
    state = read_state(name, path)
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    # Checkpoints from before PyTorch 0.4.1 lack these counters, which evaluation does not read.
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    missing = sorted(set(wanted) - set(state) - counters)
    surplus = sorted(
        key for key in state if key not in wanted and not key.startswith(unused or ("\0",))
    )
    wrong = sorted(k for k in wanted if k in state and tuple(state[k].shape) != wanted[k])
    if missing or surplus or wrong:
        problems = []
        if missing:
            problems.append(f"lacks {_some(missing)}")
        if surplus:
            problems.append(f"has {_some(surplus)} too many")
        if wrong:
            shape = tuple(state[wrong[0]].shape)
            problems.append(f"has {wrong[0]} of shape {shape} instead of {wanted[wrong[0]]}")
        kind = looks_like(state)
        guess = f"; it looks like {kind}" if kind else ""
        raise UserError(
            f"The weights {path} do not fit {name}: the file {', '.join(problems)}{guess}; pass "
            f"the weights of {name} with --weights {name}=FILE."
        )
    absent = {key: module.state_dict()[key] for key in counters if key not in state}
    return absent | {key: value for key, value in state.items() if key in wanted}


def _some(keys: list[str]) -> str:
    rest = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{keys[0]!r}{rest}"


_SIGNS = (
    ("r2plus1d_18", "layer1.0.conv1.0.0.weight", (144, 64, 1, 3, 3)),
    ("resnet152", "layer3.35.conv1.weight", (256, 1024, 1, 1)),
    ("a ResNet of another depth", "layer1.0.conv1.weight", None),
    ("squeezenet1_0", "features.0.weight", (96, 3, 7, 7)),
    ("squeezenet1_1", "features.3.squeeze.weight", (16, 64, 1, 1)),
    ("vggish", "embeddings.0.weight", (4096, 12288)),
    ("a VGG network", "features.0.weight", (64, 3, 3, 3)),
)
"""A parameter by which each network is known, and its shape."""


def looks_like(state: Mapping[str, Any]) -> str | None:
    """Guesses the network of a state dict, for errors."""
    for name, key, shape in _SIGNS:
        if key in state and (shape is None or tuple(state[key].shape) == shape):
            return name
    return None
