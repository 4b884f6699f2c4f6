"""What an import has done, and what is there of its features."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from features.spec import FeatureSpec
from features.tables import status_table

__all__ = ["ImportReport"]


@dataclass
class ImportReport:
    """The state of every row, and what was done to get there.

    Attributes:
        statuses: By feature, how often each (status, reason) occurs, over all rows.
        features: Spec of every feature.
        rows: Rows of the manifest.
        imported: Rows that were worked on.
        strangers: Names that belong to no row, by the place that was read.
        notes: What else there is to tell, a line each.
        seconds: What it took.
    """

    statuses: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    features: tuple[FeatureSpec, ...] = ()
    rows: int = 0
    imported: int = 0
    strangers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failed(self) -> int:
        """Rows without features, summed over the features; 0 means exit code 0, else 2."""
        return sum(
            count
            for counts in self.statuses.values()
            for (status, _), count in counts.items()
            if status != "ok"
        )

    def table(self) -> str:
        """Rows by feature, status and reason, then a line on what was done."""
        if self.imported:
            done = f"{self.imported} rows imported in {self.seconds:.1f} s"
        else:
            done = f"nothing imported: {self.rows} rows of {len(self.statuses)} features are there"
        return f"{status_table(self.statuses)}\n{done}"
