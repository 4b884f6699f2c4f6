"""Lloyd's k-means on the tensors' own device, the same to the bit wherever it is run again."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.errors import UserError

__all__ = ["kmeans"]


@torch.no_grad()
def kmeans(
    x: Tensor,
    count: int,
    *,
    generator: torch.Generator,
    start: Tensor | None = None,
    iterations: int = 100,
) -> tuple[Tensor, Tensor]:
    """Clusters vectors until no assignment changes.

    A cluster that loses all its members moves to the vector that is worst represented, so that
    every cluster keeps one.

    Args:
        x: (N, d).
        count: k.
        generator: A CPU generator for the first centroids (k-means++); unused with ``start``.
        start: (k, d) centroids to go on from.
        iterations: Limit.

    Returns:
        (N,) int64 clusters and (k, d) centroids.

    Raises:
        UserError: If there are fewer vectors than clusters.
    """
    if len(x) < count:
        raise UserError(
            f"{len(x)} training videos do not make {count} clusters; lower --clusters to "
            f"{len(x)} or less."
        )
    centroids = _spread(x, count, generator) if start is None else start
    cluster, distance = _nearest(x, centroids)
    for _ in range(iterations):
        cluster = _fill(cluster, distance, count)
        sizes = torch.bincount(cluster, minlength=count)
        centroids = torch.zeros_like(centroids).index_add_(0, cluster, x) / sizes[:, None]
        before = cluster
        cluster, distance = _nearest(x, centroids)
        if torch.equal(cluster, before):
            break
    return cluster, centroids


def _nearest(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Each vector's nearest centroid, (N,), and the squared distance but for |x|^2, (N,)."""
    distance, cluster = ((centroids**2).sum(1) - 2 * (x @ centroids.T)).min(1)
    return cluster, distance + (x**2).sum(1)


def _fill(cluster: Tensor, distance: Tensor, count: int) -> Tensor:
    """Gives every empty cluster the vector that is furthest from the centroid it has now.

    No cluster gives its last member away.
    """
    sizes = torch.bincount(cluster, minlength=count)
    empty = (sizes == 0).nonzero().flatten().tolist()
    if not empty:
        return cluster
    cluster = cluster.clone()
    candidates = iter(distance.argsort(descending=True, stable=True).tolist())
    for target in empty:
        for row in candidates:
            if sizes[cluster[row]] > 1:
                sizes[cluster[row]] -= 1
                cluster[row] = target
                break
    return cluster


def _spread(x: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The first centroids by k-means++: each drawn by its squared distance from those before."""
    chosen = [int(torch.randint(len(x), (1,), generator=generator))]
    distance = ((x - x[chosen[0]]) ** 2).sum(1)  # (N,)
    while len(chosen) < count:
        # Where all vectors coincide with centroids, any will do.
        chance = distance.double().cpu() if bool(distance.any()) else torch.ones(len(x))
        row = int(torch.multinomial(chance, 1, generator=generator))
        chosen.append(row)
        distance = torch.minimum(distance, ((x - x[row]) ** 2).sum(1))
    return x[chosen]
