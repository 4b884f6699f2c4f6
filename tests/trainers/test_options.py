"""Hyper-parameters: what options are held to."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pipeline.errors import UserError
from trainers.options import check_options, option


@dataclass(frozen=True, kw_only=True)
class _Options:
    cl: str = option("none", "which", choices=("none", "ma"))
    lr_step: float = option(1.0, "when", low=0.5)
    ratio: float | None = option(None, "share", low=0.0, high=1.0)

    def __post_init__(self) -> None:
        check_options(self)


def test_options_are_held_to_choices_and_limits() -> None:
    assert _Options(cl="ma", lr_step=0.5, ratio=1.0).ratio == 1.0
    with pytest.raises(UserError, match="--cl 'mma' is not known; choose one of none, ma"):
        _Options(cl="mma")
    with pytest.raises(UserError, match=r"--lr-step 0.1 is out of range; give at least 0.5"):
        _Options(lr_step=0.1)
    with pytest.raises(UserError, match=r"give at least 0.0 and at most 1.0"):
        _Options(ratio=2.0)
