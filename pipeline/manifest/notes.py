"""What an importer tolerated, for its report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Notes"]


@dataclass
class Notes:
    """What an import tolerated: how often, and one example of each kind."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, example: str, n: int = 1) -> None:
        """Counts ``n`` things of a kind; the first example is kept."""
        self.counts[kind] += n
        self.examples.setdefault(kind, example)

    def lines(self) -> list[str]:
        """One line a kind, in the order met."""
        return [f"{kind}: {n}, such as {self.examples[kind]}" for kind, n in self.counts.items()]
