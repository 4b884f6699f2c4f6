"""Who lends audio to whom: permutations, mended by exchanges until every place may keep its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.noise.streams import Streams

__all__ = ["Allowed", "cycle", "repair", "shares"]

Allowed = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Whether places (L,) may have donors (L,), as (L,) bool."""

ROUNDS = 40
"""Random exchanges, all at once, before single places are searched for; those cost L each."""


def cycle(streams: Streams, n: int) -> np.ndarray:
    """A uniform single cycle over n places, (n,) int64: no place is its own donor if n > 1."""
    order = streams.order("donors", n)
    donor = np.empty(n, dtype=np.int64)
    donor[order] = np.roll(order, -1)
    return donor


def shares(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether rows have a class in common.

    Args:
        first: (L, A) int64 classes, filled with -1.
        second: (L, B) int64, the same.

    Returns:
        (L,) bool.
    """
    common = np.zeros(len(first), dtype=bool)
    for column in first.T:
        common |= ((second == column[:, None]) & (column >= 0)[:, None]).any(axis=1)
    return common


def repair(donor: np.ndarray, allowed: Allowed, streams: Streams, *, block: int) -> np.ndarray:
    """Exchanges donors between places of one block until all are allowed.

    An exchange happens only where it is allowed on both sides, so bad places never grow in number.
    One is always possible while a class condition can be met at all: if no class has more places
    and donors together than there are places.

    Args:
        donor: (L,) int64, changed in place; L is a multiple of ``block``.
        allowed: The condition.
        streams: Random numbers.
        block: Places are exchanged inside blocks of so many.

    Returns:
        Places that no exchange can mend, (B,) int64.
    """
    places = np.arange(len(donor))
    bad = places[~allowed(places, donor)]
    for attempt in range(ROUNDS):
        if not len(bad):
            return bad
        one, other = _pairs(bad, streams, attempt, block)
        good = allowed(one, donor[other]) & allowed(other, donor[one])
        one, other = one[good], other[good]
        donor[one], donor[other] = donor[other], donor[one]
        bad = bad[~allowed(bad, donor[bad])]
    left = []
    picks = streams.uniform("exchange", len(bad))
    for place, pick in zip(bad, picks, strict=True):
        if not _exchange(donor, allowed, place, pick, block):
            left.append(place)
    return np.array(left, dtype=np.int64)


def _pairs(
    bad: np.ndarray, streams: Streams, attempt: int, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bad places with a random partner of their block each; no place stands in two pairs."""
    one = bad[streams.order(f"shuffle {attempt}", len(bad))]
    if attempt % 2:
        partner = streams.below(f"partner {attempt}", block, len(one))
        other = one - one % block + partner
    else:
        # Two bad places often hold what the other one needs.
        one = one[np.argsort(one // block, kind="stable")]
        one, other = one[: len(one) // 2 * 2 : 2], one[1::2]
        same = one // block == other // block
        one, other = one[same], other[same]
    flat = np.stack([one, other], axis=1).ravel()
    first = np.zeros(len(flat), dtype=bool)
    first[np.unique(flat, return_index=True)[1]] = True
    single = first.reshape(-1, 2).all(axis=1)
    return one[single], other[single]


def _exchange(
    donor: np.ndarray, allowed: Allowed, place: np.int64, pick: float, block: int
) -> bool:
    """Mends one place by an exchange with any other of its block, if one is possible."""
    begin = place - place % block
    others = np.arange(begin, begin + block)
    here = np.full(block, place)
    if allowed(here[:1], donor[here[:1]])[0]:
        return True
    good = allowed(here, donor[others]) & allowed(others, donor[here])
    found = others[good]
    if not len(found):
        return False
    other = found[int(pick * len(found))]
    donor[place], donor[other] = donor[other], donor[place]
    return True
