"""Weights: a local file, the published one, or, if asked for, random numbers."""

from __future__ import annotations

import codecs
import os
import pickle
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.backbones.devices import move, run_network
from features.backbones.published import WeightFile
from pipeline.errors import UserError
from pipeline.files import file_digest

if TYPE_CHECKING:
    import torch

__all__ = ["COMPUTE", "Network", "WeightChoice", "looks_like", "read_state"]

COMPUTE = ("float32", "float16")
"""Types in which networks compute; float16 keeps float32 where a GPU's mixed precision does."""


@dataclass(frozen=True)
class WeightChoice:
    """Which weights a backbone uses.

    Args:
        file: A state dict's file, or None for the published weights.
        seed: Random weights of this seed, or None. They make features without meaning.
    """

    file: str | None = None
    seed: int | None = None


class Network:
    """A network whose weights are found, checked and loaded at first use.

    Args:
        name: The feature family's name, as in ``--weights NAME=FILE``.
        choice: Which weights.
        make: Builds the network, with parameters that need not mean anything.
        published: Its published weights, None if there are none.
        unused: Prefixes of parameters that a checkpoint may hold and the feature does not use.
        inside: Key under which a checkpoint may keep its state dict.
        compute: ``"float32"`` or ``"float16"``.

    Raises:
        ValueError: If there is no such compute type.
    """

    def __init__(
        self,
        name: str,
        choice: WeightChoice,
        make: Callable[[], torch.nn.Module],
        *,
        published: WeightFile | None = None,
        unused: tuple[str, ...] = (),
        inside: str | None = None,
        compute: str = "float32",
    ) -> None:
        if compute not in COMPUTE:
            raise ValueError(f"compute is {' or '.join(COMPUTE)}, not {compute!r}")
        self.name = name
        self.choice = choice
        self.compute = compute
        self._make = make
        self._published = published
        self._unused = unused
        self._inside = inside
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
        if self._published is None:
            raise UserError(
                f"There are no published weights of {self.name}; pass --weights {self.name}=FILE "
                "(--random-weights SEED runs without, for a trial)."
            )
        if not self._published.path.is_file():
            self._download(self._published)
        return self._published.path

    def _download(self, published: WeightFile) -> None:
        if not published.download:
            raise self._not_here(published, "nothing says what their digest should be")
        import torch

        part = published.path.with_name(f"{published.file}.{os.getpid()}.part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(published.url, str(part))
            if not published.matches(part):
                raise OSError(f"what came is not {published.digest}")
            part.replace(published.path)
        except (OSError, RuntimeError) as error:
            raise self._not_here(published, f"downloading failed: {error}") from error
        finally:
            part.unlink(missing_ok=True)

    def _not_here(self, published: WeightFile, why: str) -> UserError:
        return UserError(
            f"The weights of {self.name} are not here ({why}); download {published.url} "
            f"and put it at {published.path} or pass --weights {self.name}=FILE "
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
            UserError: If the weights are not there, cannot be read or are another network's, or
                the device cannot compute so.
        """
        with self._lock:
            if self._module is None:
                self._module = self._load()
            elif device == self._device:
                return
            move(self._module, device, name=self.name, compute=self.compute)
            self._device = device

    def _load(self) -> torch.nn.Module:
        import torch

        # Building draws random numbers; nobody else's stream may move because of it.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.choice.seed or 0)
            module = self._make()
        if not self.random:
            path = self.file()
            module.load_state_dict(_matching(self.name, path, module, self._unused, self._inside))
        return module.eval().requires_grad_(False)

    def __call__(
        self, prepare: Callable[[torch.Tensor], torch.Tensor], items: np.ndarray, *, batch: int
    ) -> np.ndarray:
        """Runs the network without gradients; see `features.backbones.devices.run_network`.

        Args:
            prepare: Turns a batch of ``items`` on the device into the network's input.
            items: (n, ...) inputs.
            batch: Items at a time on a CPU.

        Returns:
            (n, ...) float32.
        """
        if self._module is None:
            self.to(self._device)
        return run_network(
            self._module,
            self._device,
            prepare,
            items,
            name=self.name,
            compute=self.compute,
            batch=batch,
        )


@lru_cache(maxsize=64)
def _digest(path: str, stamp: int) -> str:
    """A file's digest; the stamp only tells a replaced file from the one before."""
    return f"sha256:{file_digest(path)}"


def read_state(name: str, path: Path, *, inside: str | None = None) -> dict[str, torch.Tensor]:
    """Reads a state dict without running any code it may hold.

    Args:
        name: Whose weights, for errors.
        path: The file. Arrays of numpy, in files from before 2020, become tensors.
        inside: Key under which the file may keep the state dict.

    Raises:
        UserError: If the file is none.
    """
    import torch

    try:
        with torch.serialization.safe_globals(_array_parts()):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise UserError(
            f"The weights {path} of {name} cannot be read as a plain state dict "
            f"({str(error).splitlines()[0][:120]}); check the file."
        ) from error
    if inside is not None and isinstance(state, Mapping) and inside in state:
        state = state[inside]
    if not isinstance(state, Mapping) or not all(
        isinstance(value, torch.Tensor | np.ndarray) for value in state.values()
    ):
        raise UserError(
            f"The weights {path} of {name} hold no plain state dict of tensors; save "
            "network.state_dict() and pass that file."
        )
    return {key: torch.as_tensor(value) for key, value in state.items()}


def _array_parts() -> list[Any]:
    """What a pickled array of plain numbers is made of; none of it runs code of the file.

    numpy 2 moved the first function; files from before name its old place.
    """
    rebuild = np.zeros(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")]
    old = [(rebuild, "numpy.core.multiarray._reconstruct")]
    return [rebuild, *old, np.ndarray, np.dtype, *kinds, codecs.encode]


def _matching(
    name: str, path: Path, module: torch.nn.Module, unused: tuple[str, ...], inside: str | None
) -> dict[str, Any]:
    """The parameters for a module, checked to be all there and of the right shape."""
    state = read_state(name, path, inside=inside)
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
    ("panns_resnet22", "resnet.layer4.1.conv2.weight", (512, 512, 3, 3)),
    ("a VGG network", "features.0.weight", (64, 3, 3, 3)),
)
"""A parameter by which each network is known, and its shape."""


def looks_like(state: Mapping[str, Any]) -> str | None:
    """Guesses the network of a state dict, for errors."""
    for name, key, shape in _SIGNS:
        if key in state and (shape is None or tuple(state[key].shape) == shape):
            return name
    return None
