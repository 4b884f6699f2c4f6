"""How many cores there are for this process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_cores", "share_cores", "shared_cores"]

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_share: int | None = None


def available_cores() -> int:
    """Cores that this process may use: its share, its affinity and its container's quota."""
    if _share is not None:
        return _share
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = _QUOTA.read_text().split()
        limit = -(-int(quota) // int(period))
    except (OSError, ValueError):
        return cores or 1
    return max(1, min(cores or 1, limit))


@contextlib.contextmanager
def shared_cores(cores: int) -> Iterator[None]:
    """Makes this process's share smaller for a while."""
    before = _share
    share_cores(cores)
    try:
        yield
    finally:
        share_cores(before)


def share_cores(cores: int | None) -> None:
    """Sets this process's share, where several work beside each other; None for all it may use."""
    global _share
    _share = cores
