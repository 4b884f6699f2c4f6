"""Random numbers that a noise set is drawn from, the same on every machine and in every release.

A stream is PCG64, seeded with the SHA-256 of what it is for. Only its raw 64-bit words are used:
NumPy promises those for ever, but not what its distributions make of them. Permutations are stable
sorts of words; whole numbers are scaled words (biased by less than 2**-40).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from pipeline.files import canonical_json

__all__ = ["VERSION", "Streams"]

VERSION = 1
"""Raised by hand whenever equal inputs would get another noise than before."""


class Streams:
    """Independent streams of one noise, by purpose.

    Args:
        context: JSON values that tell this noise from all others.
    """

    def __init__(self, *context: Any) -> None:
        self._context = context

    def words(self, purpose: str, n: int) -> np.ndarray:
        """The first ``n`` words of a stream, (n,) uint64; a longer draw begins with a shorter."""
        text = canonical_json(["noise", VERSION, purpose, *self._context])
        seed = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        return np.random.PCG64(int.from_bytes(seed, "big")).random_raw(n)

    def order(self, purpose: str, n: int) -> np.ndarray:
        """A uniform permutation, (n,) int64."""
        return np.argsort(self.words(purpose, n), kind="stable")

    def uniform(self, purpose: str, n: int) -> np.ndarray:
        """Numbers in [0, 1), (n,) float64."""
        return (self.words(purpose, n) >> np.uint64(11)) * 2.0**-53

    def below(self, purpose: str, bounds: np.ndarray | int, n: int) -> np.ndarray:
        """Whole numbers from 0 to below their bound, (n,) int64.

        Args:
            purpose: Names the stream.
            bounds: One for all, or (n,).
            n: How many.
        """
        # A number below 1 with 53 bits, times a whole bound, never rounds up to that bound.
        return np.floor(self.uniform(purpose, n) * bounds).astype(np.int64)
