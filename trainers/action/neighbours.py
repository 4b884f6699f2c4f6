"""Nearest neighbours among unit vectors, and the labels that they vote for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["TIES", "Neighbours", "Vote", "nearest", "strip_rows", "vote"]

STRIP_ROWS, STRIP_ENTRIES = 4096, 2**27

PRODUCT_ROWS = 512
"""Rows multiplied at once where a strip meets itself: only the upper half of those products counts,
and the fewer the rows, the less of the lower one is computed."""

BLOCK = 2048
"""Columns searched at once: what that needs beside the strip stays in a core's cache."""

GROUP = 16
"""Entries that share a maximum; fewer are slow to compare, more are slow to look through."""

TIES = ("similarity", "lowest")
"""Which of equally frequent labels wins: the one of more similar voters, or the first class."""


def strip_rows(n: int) -> int:
    """Rows of an N x N matrix that are worth having in memory at once: 512 MiB at most."""
    return max(1, min(STRIP_ROWS, STRIP_ENTRIES // max(1, n)))


class Neighbours(NamedTuple):
    """The k nearest of each of N vectors, nearest first.

    Attributes:
        index: (N, k) int64.
        similarity: (N, k), cosines.
    """

    index: Tensor
    similarity: Tensor


@torch.no_grad()
def nearest(
    z: Tensor, count: int, *, self_included: bool = False, strip: int | None = None
) -> Neighbours:
    """Finds the nearest neighbours of every vector by cosine, exactly.

    The matrix of similarities is symmetric, so only its upper half is computed: a strip of rows is
    searched along its rows for its own neighbours and down its columns for those of later rows.

    Args:
        z: (N, d) vectors of norm 1.
        count: Neighbours wanted; as many as there are if fewer.
        self_included: Whether a vector is among its own neighbours.
        strip: Rows computed at once, by default `strip_rows`; results depend on it by rounding.

    Returns:
        k = ``count`` neighbours, or all N - 1 (N with itself) others.
    """
    n = len(z)
    strip = strip_rows(n) if strip is None else strip
    k = min(count, n if self_included else n - 1)
    found = Neighbours(
        torch.zeros(n, k, dtype=torch.int64, device=z.device), z.new_full((n, k), -torch.inf)
    )
    # One buffer for all strips: fresh memory of this size costs a fifth of the product.
    buffer = z.new_empty(min(strip, n) * n)
    for start in range(0, n, strip):
        end = min(start + strip, n)
        scores = buffer[: (end - start) * (n - start)].view(end - start, n - start)
        _similarities(z[start:], scores)
        if not self_included:
            scores.fill_diagonal_(-torch.inf)
        _merge(found, slice(start, end), *_largest(scores, k, axis=1), start)
        for first in range(end, n, BLOCK):
            columns = scores[:, first - start : first - start + BLOCK]
            _merge(found, slice(first, first + BLOCK), *_largest(columns, k, axis=0), start)
    similarity, order = found.similarity.sort(dim=1, descending=True)
    return Neighbours(found.index.gather(1, order), similarity)


def _similarities(z: Tensor, out: Tensor) -> None:
    """Cosines of the first R of M vectors with all of them, into (R, M), each computed once."""
    rows = len(out)
    torch.mm(z[:rows], z[rows:].T, out=out[:, rows:])
    for first in range(0, rows, PRODUCT_ROWS):
        last = min(first + PRODUCT_ROWS, rows)
        torch.mm(z[first:last], z[first:rows].T, out=out[first:last, first:rows])
        out[last:, first:last] = out[first:last, last:rows].T


def _largest(scores: Tensor, k: int, *, axis: int) -> tuple[Tensor, Tensor]:
    """The largest scores along an axis, in no order.

    The k largest lie in the k groups with the largest maxima, and maxima of groups that are spread
    along the axis are found at the speed of reading.

    Args:
        scores: (R, M).
        k: How many.
        axis: 1 searches each row, 0 each column.

    Returns:
        Values and places along the axis, (R or M, k), or all where there are fewer than k.
    """
    lines = scores if axis == 1 else scores.T  # one for each result
    length = lines.shape[1]
    groups = length // GROUP
    if groups <= 2 * k:
        return lines.topk(min(k, length), dim=1, sorted=False)
    grouped = scores.narrow(axis, 0, groups * GROUP).unflatten(axis, (GROUP, groups))
    peaks = grouped.amax(axis)
    best = (peaks if axis == 1 else peaks.T).topk(k, dim=1, sorted=False).indices
    members = torch.arange(GROUP, device=scores.device) * groups
    place = (best[:, :, None] + members).flatten(1)  # (.., k GROUP)
    if length % GROUP:
        rest = torch.arange(groups * GROUP, length, device=scores.device)
        place = torch.cat((place, rest.expand(len(place), -1)), dim=1)
    top, within = lines.gather(1, place).topk(k, dim=1, sorted=False)
    return top, place.gather(1, within)


def _merge(found: Neighbours, rows: slice, top: Tensor, index: Tensor, offset: int) -> None:
    """Puts new neighbours (R, <= k), numbered from ``offset``, among the rows' k."""
    similarity = torch.cat((found.similarity[rows], top), dim=1)  # (R, <= 2k)
    index = torch.cat((found.index[rows], index + offset), dim=1)
    best, place = similarity.topk(found.index.shape[1], dim=1, sorted=False)
    found.similarity[rows] = best
    found.index[rows] = index.gather(1, place)


class Vote(NamedTuple):
    """What the neighbours of N videos say about their labels.

    Attributes:
        label: (N,) int64, the most frequent label among the neighbours.
        given_share: (N,) share of the neighbours that carry the video's own label.
    """

    label: Tensor
    given_share: Tensor


@torch.no_grad()
def vote(neighbours: Neighbours, labels: Tensor, classes: int, *, ties: str = "similarity") -> Vote:
    """The majority label among neighbours (Han et al., TMM 2024, Eq. 16).

    Args:
        neighbours: (N, k) of each video.
        labels: (N,) int64, the training labels, never votes of an earlier round.
        classes: K.
        ties: Out of `TIES`; the paper leaves it open.
    """
    n, k = neighbours.index.shape
    voices = labels[neighbours.index]  # (N, k)
    counts = torch.zeros(n, classes, dtype=torch.int64, device=labels.device)
    counts.scatter_add_(1, voices, torch.ones_like(voices))
    weight = neighbours.similarity.new_zeros(n, classes)
    if ties == "similarity":
        weight.scatter_add_(1, voices, neighbours.similarity)
    leading = counts == counts.amax(1, keepdim=True)  # (N, K)
    label = weight.masked_fill(~leading, -torch.inf).argmax(1)
    given = counts.gather(1, labels[:, None]).squeeze(1)
    return Vote(label, given.to(weight.dtype) / max(1, k))
