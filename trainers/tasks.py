"""The tasks: what tables show of their results, what ranks them, how sweeps run them.

Data only. Readers of finished runs import this and no task's package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import unknown_name

__all__ = ["ACTION", "AVVP", "EPOCHS", "TASKS", "Task", "Variation", "find_task", "task_name"]

Result = Mapping[str, Any]

EPOCHS = ("last", "selected", "oracle")
"""Epochs that results hold the test metrics of."""


@dataclass(frozen=True)
class Variation:
    """A block of results beside ``metrics``, of the same keys: what changes if data are altered.

    Attributes:
        key: Of the block in a result.
        of: Entry of the block that names what was altered.
        heading: Of its table, with braces for that name.
        column: Of the table for programs, where that name stands.
    """

    key: str
    of: str
    heading: str
    column: str

    def name(self, result: Result) -> str | None:
        """What was altered; None where nothing was trained or the result has no such block."""
        return str(result[self.key][self.of]) if result["updates"] and self.key in result else None


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        name: Of its package in ``trainers``, which holds ``experiment`` and ``interface``.
        metrics: Title by key of every metric that its results hold, in percent.
        metric: The one that comparisons are made by.
        epochs: Test epochs that reports show, in this order; the first one ranks.
        demo: Function of `features.demo` that makes its corpus.
        levels: What stands before titles that repeat, by the first part of their keys.
        brief: Metrics that tables for readers show; empty for all.
        filters: Block of results that a comparison reads, by the filter of predictions it is made
            under; empty where there are no filters.
        variations: Further blocks of results.
        quick: Settings of its experiment for sweeps, which leave out what their tables do not show.
    """

    name: str
    metrics: Mapping[str, str]
    metric: str
    epochs: tuple[str, ...]
    demo: str
    levels: Mapping[str, str] = field(default_factory=dict)
    brief: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    variations: tuple[Variation, ...] = ()
    quick: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epoch(self) -> str:
        """The test epoch that ranks."""
        return self.epochs[0]

    @property
    def headings(self) -> dict[str, str]:
        """Headings of columns by metric, unique, of all metrics."""
        levels = {key: self.levels.get(key.partition("/")[0]) for key in self.metrics}
        return {
            key: f"{levels[key]} {title}" if levels[key] else title
            for key, title in self.metrics.items()
        }

    @property
    def shown(self) -> dict[str, str]:
        """Those of the metrics that tables for readers show."""
        headings = self.headings
        return {key: headings[key] for key in self.brief or headings}


AVVP = Task(
    name="avvp",
    metrics={
        f"{level}/{key}": title
        for level in ("segment", "event")
        for key, title in (
            ("audio", "A"),
            ("visual", "V"),
            ("audio_visual", "AV"),
            ("type", "Type"),
            ("event", "Event"),
        )
    },
    metric="segment/type",
    epochs=("selected", "last"),
    demo="ensure_demo",
    levels={"segment": "seg", "event": "ev"},
    filters={"own": "metrics", "modality": "metrics_modality"},
    variations=(
        Variation(
            key="metrics_never_visible",
            of="class",
            heading="with {} deleted from the picture",
            column="never visible",
        ),
    ),
)

ACTION = Task(
    name="action",
    metrics={"clip@1": "C@1", "clip@5": "C@5", "video@1": "V@1"},
    metric="clip@1",
    epochs=("last", "selected", "oracle"),
    demo="ensure_demo_action",
    # Noise detection is scored at the end of a run and not after every epoch.
    quick={"detect_every": 0},
)

TASKS = {task.name: task for task in (AVVP, ACTION)}
"""By name."""


def find_task(name: str) -> Task:
    """A task by its name.

    Raises:
        UserError: If there is none; the nearest are offered.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name]


def task_name(result: Result) -> str:
    """The name of a result's task; results older than their task's name are of parsing."""
    return str(result.get("task", AVVP.name))
