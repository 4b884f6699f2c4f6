"""Where networks run: one batch after the other on a CPU, whole blocks through a GPU's streams."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import UserError

if TYPE_CHECKING:
    import torch

__all__ = ["GPU_BATCHES", "move", "run_network"]

GPU_BATCHES = 16
"""Batches of a CPU that a GPU takes at a time. They fill a GPU, and few clips are longer."""

_LANE = threading.local()
"""Stream and pinned memory of every thread: while one thread's block is computed, another's is
copied."""


def move(module: torch.nn.Module, device: str, *, name: str, compute: str) -> None:
    """Moves a network to a device.

    Args:
        module: The network.
        device: ``"cpu"`` or ``"cuda"``.
        name: The feature family's name, for errors.
        compute: ``"float32"`` or ``"float16"``.

    Raises:
        UserError: If it cannot compute so there, or the GPU's memory is too small.
    """
    if device == "cpu":
        _refuse_half(name, compute)
        module.to(device)
        return
    import torch

    if compute == "float32":
        # By default convolutions drop half of the mantissa on a GPU, and a feature's spec says
        # float32 whatever device it was computed on.
        torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    with _enough_memory(name):
        module.to(device)
        if compute == "float16":
            # Tensor cores want the channels last; the other order costs two transpositions a layer.
            module.to(memory_format=torch.channels_last)
    torch.cuda.synchronize()


def run_network(
    module: torch.nn.Module,
    device: str,
    prepare: Callable[[torch.Tensor], torch.Tensor],
    items: np.ndarray,
    *,
    name: str,
    compute: str,
    batch: int,
) -> np.ndarray:
    """Runs a network without gradients.

    Batches are cut from one block of one clip only, so that a clip's values do not depend on its
    neighbours.

    Args:
        module: The network, on the device.
        device: ``"cpu"`` or ``"cuda"``.
        prepare: Turns a batch of ``items`` on the device into the network's input.
        items: (n, ...) inputs.
        name: The feature family's name, for errors.
        compute: ``"float32"``, or ``"float16"`` for a GPU's mixed precision.
        batch: Items at a time on a CPU; a GPU takes `GPU_BATCHES` times as many.

    Returns:
        (n, ...) float32.

    Raises:
        UserError: If it cannot compute so there, or the GPU's memory is too small.
    """
    import torch

    with torch.inference_mode():
        whole = torch.from_numpy(np.ascontiguousarray(items))
        if device == "cpu":
            _refuse_half(name, compute)
            return torch.cat([module(prepare(part)) for part in whole.split(batch)]).float().numpy()
        lane = _lane()
        half = torch.autocast("cuda", dtype=torch.float16, enabled=compute == "float16")
        with _enough_memory(name), torch.cuda.stream(lane.stream), half:
            outputs = [
                module(prepare(part.to(device, non_blocking=True)))
                for part in lane.pin(whole).split(GPU_BATCHES * batch)
            ]
            # Reading the result waits for this stream only, and frees the pinned memory for the
            # thread's next block.
            return torch.cat(outputs).float().cpu().numpy()


class _Lane:
    """A stream, and host memory from which copies to the device need not wait.

    Attributes:
        stream: The CUDA stream.
    """

    def __init__(self) -> None:
        import torch

        self.stream = torch.cuda.Stream()
        self._memory = torch.empty(0, dtype=torch.uint8, pin_memory=True)

    def pin(self, items: torch.Tensor) -> torch.Tensor:
        """A pinned copy, valid until the next one is made."""
        size = items.numel() * items.element_size()
        if self._memory.numel() < size:
            import torch

            self._memory = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        pinned = self._memory[:size].view(items.dtype).view(items.shape)
        pinned.copy_(items)
        return pinned


def _lane() -> _Lane:
    if not hasattr(_LANE, "lane"):
        _LANE.lane = _Lane()
    return _LANE.lane


def _refuse_half(name: str, compute: str) -> None:
    if compute == "float16":
        raise UserError(
            f"The feature {name} computes in float16 on a GPU only; use --device cuda or leave out "
            f"--option {name}.compute=float16."
        )


@contextlib.contextmanager
def _enough_memory(name: str):
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"The GPU has too little free memory for {name}; free some or use --device cpu."
        ) from error
