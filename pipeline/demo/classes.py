"""The ten event classes and how often each is heard, seen, or both: data beside the manifests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["CLASS_FILE", "ClassTable", "EventClass", "class_table"]

CLASS_FILE = Path(__file__).parents[2] / "manifests" / "demo-avvp" / "classes.json"


@dataclass(frozen=True, slots=True)
class EventClass:
    """One class of events.

    Attributes:
        name: Its label.
        weight: How often it is drawn, relative to the other classes; 0 for the dominant one.
        audio: Share of its labels that hold in the sound only.
        visual: Share that hold in the picture only.
        both: Share that hold in both; the three sum to 1.
    """

    name: str
    weight: float
    audio: float
    visual: float
    both: float


@dataclass(frozen=True)
class ClassTable:
    """All that `pipeline.demo.timelines` needs to know of the classes.

    Attributes:
        classes: In index order.
        dominant: Index of the class that most clips with several labels carry.
        dominant_share: Share of the clips with two labels or more that carry it; it never
            stands alone, as Speech never does in the training split of LLP.
        labels_per_clip: For each split the probabilities of 1, 2, 3, ... labels.
    """

    classes: tuple[EventClass, ...]
    dominant: int
    dominant_share: float
    labels_per_clip: dict[str, tuple[float, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """Labels in index order."""
        return tuple(c.name for c in self.classes)


@cache
def class_table() -> ClassTable:
    """Reads the class file; shares are scaled to sum to 1."""
    data = json.loads(CLASS_FILE.read_text(encoding="utf-8"))
    classes = []
    for entry in data["classes"]:
        shares = {key: entry[key] for key in ("audio", "visual", "both")}
        scaled = {key: share / sum(shares.values()) for key, share in shares.items()}
        classes.append(EventClass(entry["name"], entry["weight"], **scaled))
    return ClassTable(
        classes=tuple(classes),
        dominant=[c.name for c in classes].index(data["dominant"]),
        dominant_share=data["dominant_share"],
        labels_per_clip={k: tuple(v) for k, v in data["labels_per_clip"].items()},
    )
