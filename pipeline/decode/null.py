"""A decoder that opens no file: what planning and committing cost is measured with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["NullDecoder"]


class NullDecoder:
    """Shows at every moment one pixel whose three numbers are the second, whatever the path.

    Second 66051 = 1 * 65536 + 2 * 256 + 3 is (1, 2, 3), so that rows can be told apart.

    Args:
        threads: Taken as every decoder takes it, and of no use.
    """

    name = "null"

    def __init__(self, *, threads: int = 1) -> None:
        self.threads = threads

    def describe(self) -> dict[str, Any]:
        """See `Decoder`."""
        return {"decoder": self.name, "version": 1}

    def frames(
        self, path: str | os.PathLike[str], times: np.ndarray, *, timeout: float | None = None
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """See `Decoder`; (1, 1, 3) uint8 a moment."""
        for n, moment in enumerate(times):
            seconds = int(moment) % (1 << 24)
            yield (
                slice(n, n + 1),
                np.frombuffer(seconds.to_bytes(3, "big"), dtype=np.uint8).reshape(1, 1, 3),
            )
