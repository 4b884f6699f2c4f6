"""Random state that is passed, saved and resumed; nothing outside a run sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["RandomState"]


class RandomState:
    """All the randomness of one training run.

    Named streams are independent: what one phase draws never moves another's, so two methods with
    the same seed see the same data order. Initialisation and dropout use torch's default
    generators, which PyTorch's own modules cannot do without; `scope` lends them to the run.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, torch.Generator] = {}

    def stream(self, name: str) -> torch.Generator:
        """A CPU generator that depends on the seed and its name only, made at first use."""
        if name not in self._streams:
            key = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
            self._streams[name] = torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)
        return self._streams[name]

    def batches(self, n: int, size: int, stream: str = "order") -> Iterator[torch.Tensor]:
        """Indices of one epoch: a new permutation, cut into batches; a short last one is kept.

        Yields:
            (B,) int64 indices on the CPU.
        """
        yield from torch.randperm(n, generator=self.stream(stream)).split(size)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Runs a block with torch's default generators seeded from here, and restores them."""
        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            yield

    def state_dict(self) -> dict[str, Any]:
        """The state of every stream and of torch's default generators."""
        state: dict[str, Any] = {
            "seed": self.seed,
            "default": torch.get_rng_state(),
            "streams": {name: stream.get_state() for name, stream in self._streams.items()},
        }
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave; call inside `scope`."""
        self.seed = state["seed"]
        torch.set_rng_state(state["default"].cpu())
        for name, value in state["streams"].items():
            self.stream(name).set_state(value.cpu())
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([value.cpu() for value in state["cuda"]])
