"""What a method tells its runner while it trains, so that any run can stop and go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch

__all__ = ["FitState", "OnEpoch", "Selection", "Stateful", "copied"]


class Stateful(Protocol):
    """A network, optimiser or schedule."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...


class Selection:
    """The rule by which the best validation epoch is chosen.

    Args:
        metric: Key of the validation metrics, such as ``"segment/type"``.
        ties: ``"later"`` (a later epoch wins a tie) or ``"earlier"``.
    """

    def __init__(self, metric: str, ties: str = "later") -> None:
        if ties not in ("later", "earlier"):
            raise ValueError(f"ties must be 'later' or 'earlier', not {ties!r}")
        self.metric = metric
        self.ties = ties

    def better(self, value: float, best: float | None) -> bool:
        """Whether an epoch's value replaces the best one so far."""
        if best is None:
            return True
        return value >= best if self.ties == "later" else value > best


class OnEpoch(Protocol):
    """The runner's side of an epoch's end: metrics, selection, checkpoint."""

    def __call__(self, phase: str, epoch: int, predictor: Any, **log: float) -> bool:
        """Takes note of a finished epoch.

        If it is the phase's best, its weights go to `FitState.select` before the state is saved:
        what a method did after this call would be missing from that saved state.

        Args:
            phase: The method's name for this stage of its algorithm.
            epoch: Counts from 1 within the phase.
            predictor: Predicts as the method would if training stopped here.
            **log: Numbers for the epoch's line in ``metrics.jsonl``, such as mean losses.

        Returns:
            Whether this epoch is the best of its phase so far by the method's selection rule.
        """
        ...


class FitState:
    """Everything that a method must find again to go on after an interruption.

    A method tracks its stateful objects, keeps plain values in `values`, and walks its epochs
    with `epochs`; the runner saves `state_dict` after every epoch. On resume, tracked objects are
    restored when they are tracked and finished epochs are not walked again.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self._tracked: dict[str, Stateful] = {}
        self._pending: dict[str, Any] = {}
        self._done: dict[str, int] = {}

    def track(self, **objects: Stateful) -> None:
        """Registers networks, optimisers and schedules under names unique in the run."""
        for name, value in objects.items():
            if name in self._tracked:
                raise ValueError(f"{name!r} is tracked twice; give every object its own name")
            self._tracked[name] = value
            if name in self._pending:
                value.load_state_dict(self._pending.pop(name))

    def epochs(self, phase: str, count: int) -> Iterator[int]:
        """Epochs of a phase that are still to do, counted from 1."""
        for epoch in range(self._done.get(phase, 0) + 1, count + 1):
            # Marked before the body runs: the body ends with on_epoch, which saves this state.
            self._done[phase] = epoch
            yield epoch

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors, loadable with ``weights_only``."""
        return {
            "values": dict(self.values),
            "done": dict(self._done),
            "tracked": {name: value.state_dict() for name, value in self._tracked.items()}
            | dict(self._pending),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a saved state; objects tracked later are restored as they come."""
        self.values = dict(state["values"])
        self._done = dict(state["done"])
        self._pending = dict(state["tracked"])
        for name in list(self._pending):
            if name in self._tracked:
                self._tracked[name].load_state_dict(self._pending.pop(name))

    def select(self, phase: str, predictor: Stateful) -> None:
        """Stores the weights of a phase's best epoch so far; the runner's part."""
        self.keep(f"selected/{phase}", predictor)

    def selected(self, phase: str) -> dict[str, Any] | None:
        """The weights of a phase's best epoch, or None if none was chosen."""
        return self.values.get(f"selected/{phase}")

    def keep(self, name: str, module: Stateful) -> None:
        """Stores a copy of a module's state as a value, to come back to it later."""
        self.values[name] = copied(module.state_dict())


def copied(state: Any) -> Any:
    """A state dict whose tensors no longer change with the network, however deep they lie."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    if isinstance(state, list):
        return [copied(value) for value in state]
    return state
