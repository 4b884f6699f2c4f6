"""What runs of parsing methods state in their results."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.parsing import fit, make_view, small_settings
from trainers.avvp.interface import METHODS

NAMES = METHODS.names()
TRAINED = [name for name in NAMES if METHODS.get(name).selections]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in TRAINED),
        ("jomold", {"ratio": 0.1}),
        ("rlld", {"retrain": True}),
        ("rlld", {"retrain": True, "protocol": "fresh"}),
        ("rlld", {"retrain": True, "subset": "third"}),
    ],
)
def test_the_updates_stated_are_those_made(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    original = torch.optim.Adam.step

    def counting(self: torch.optim.Adam, *args: Any) -> Any:
        made.append(self)
        return original(self, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", counting)
    view, hp = make_view(n=26), small_settings(name, **options)
    _, state, _ = fit(name, view, hp)
    # The policy's own come beside them, one an episode.
    assert hp.updates(len(view)) == len(made) - len(state.values.get("curves", []))


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(TRAINED)))
def test_reference_rows_make_no_update(name: str) -> None:
    assert METHODS.get(name).hyperparameters().updates(24) == 0
