"""The order of clips in RLLD: batches that overlap with the one before, within episodes.

Source: Gao et al., "Reinforced Label Denoising for Weakly-Supervised Audio-Visual Video Parsing",
arXiv 2412.19563; the paper gives the share that reappears, the queue is our choice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["OverlapQueue"]


class OverlapQueue:
    """Batches in which part of each reappears in the next, within episodes of fixed length.

    A queue runs over a permutation of the pool and over a new one when it is empty. The first batch
    of an episode is all from the queue; every other keeps random clips of the batch before and
    takes the rest from the queue, which never gives a clip of that batch, so that consecutive
    batches share exactly the clips kept (our choice). A pool too small for it has smaller batches.

    Args:
        size: B.
        overlap: Share of a batch that reappears.
        length: S.
        generator: Draws permutations and the clips kept.
    """

    def __init__(
        self, size: int, overlap: float, *, length: int, generator: torch.Generator
    ) -> None:
        self.largest = size
        self.overlap = overlap
        self.length = length
        self.generator = generator
        self.restart(torch.arange(0))

    def restart(self, pool: Tensor) -> None:
        """Begins an episode on another pool, (P,) int64 rows."""
        self.pool = pool
        self.step = 0
        self.batch = pool[:0]
        self.queue = pool[:0]

    @property
    def size(self) -> int:
        """B; two consecutive batches hold (2 - overlap) B different clips."""
        return max(1, min(self.largest, int(len(self.pool) / (2 - self.overlap))))

    @property
    def kept(self) -> int:
        """Clips of a batch that reappear in the next."""
        return round(self.size * self.overlap)

    @property
    def starts_episode(self) -> bool:
        """Whether the next batch is the first of an episode."""
        return self.step % self.length == 0

    def next(self) -> Tensor:
        """The next batch, (B,) int64 without repetition."""
        if self.starts_episode:
            self.batch = self._take(self.size, self.pool[:0])
        else:
            kept = self.batch[self._permutation(self.size)[: self.kept]]
            self.batch = torch.cat((kept, self._take(self.size - self.kept, self.batch)))
        self.step += 1
        return self.batch

    def _take(self, count: int, avoid: Tensor) -> Tensor:
        """The queue's first clips that are not in ``avoid``, (count,)."""
        free = self._outside(self.queue, avoid).nonzero()[:count, 0]
        taken, left = self.queue[free], torch.ones(len(self.queue), dtype=torch.bool)
        left[free] = False
        self.queue = self.queue[left]
        if (missing := count - len(taken)) > 0:
            fresh = self.pool[self._permutation(len(self.pool))]
            # Clips that this batch or the one before holds wait at the end of the new queue.
            unseen = self._outside(fresh, torch.cat((avoid, taken)))
            self.queue = torch.cat((fresh[unseen], fresh[~unseen]))
            taken, self.queue = torch.cat((taken, self.queue[:missing])), self.queue[missing:]
        return taken

    def _outside(self, rows: Tensor, others: Tensor) -> Tensor:
        """Which of some rows are not among others, (R,) bool."""
        outside = torch.ones(int(self.pool.max()) + 1, dtype=torch.bool)
        outside[others] = False
        return outside[rows]

    def _permutation(self, n: int) -> Tensor:
        return torch.randperm(n, generator=self.generator)

    def state_dict(self) -> dict[str, Any]:
        """Position in the queue and in the episode; the generator is saved by its owner."""
        return {"pool": self.pool, "step": self.step, "batch": self.batch, "queue": self.queue}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Puts back what `state_dict` gave, on the CPU."""
        self.step = state_dict["step"]
        for name in ("pool", "batch", "queue"):
            setattr(self, name, state_dict[name].cpu())
