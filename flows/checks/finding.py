"""One thing to look at, and what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["GIB", "SYNC", "Check", "Finding", "examine", "existing"]

GIB = 2**30
SYNC = "Run 'uv sync' in the project's folder."


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Args:
        status: ``"ok"``, ``"warn"`` (works, or is not needed by most) or ``"fail"``.
        text: What is here.
        remedy: What to do, where something is to be done.
    """

    status: str
    text: str
    remedy: str = ""


@dataclass(frozen=True)
class Check:
    """One thing to look at.

    Args:
        name: What it is.
        look: Finds out; whatever it raises is a finding too.
        remedy: What to do where it raises.
        needed: Whether nothing works without it (a failure) or only an option (a warning).
    """

    name: str
    look: Callable[[], Finding]
    remedy: str
    needed: bool = True


def examine(check: Check) -> Finding:
    """Runs a check; whatever it raises becomes a finding with the check's remedy."""
    try:
        return check.look()
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        return Finding("fail" if check.needed else "warn", text, check.remedy)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above that is there already."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
