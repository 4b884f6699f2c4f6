"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Checks that several test files call; without this their asserts would not say what they compared.
pytest.register_assert_rewrite("tests.contract", "tests.commands")

# Tests compute little and start many processes; threads that wait for each other cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real media, annotation tables and weights that stands beside a checkout."""
    if not SHARED.is_dir():
        pytest.skip("the shared folder of real media and annotations is not beside this checkout")
    return SHARED


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps defaults such as ./store out of the checkout."""
    for name in ("DATA", "STORE", "RUNS"):
        monkeypatch.setenv(f"AVNOISE_{name}", str(tmp_path / name.lower()))
