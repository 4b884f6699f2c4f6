"""Published numbers: data under ``manifests/published/<task>/<table>.json``, one file a table.

A file says where its numbers stand (paper, table, data sets) and holds them as printed, in rows of
method, noise, data set and values, null where the paper leaves a cell blank; contradictions inside
a paper are kept and listed as remarks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import unknown_name
from pipeline.manifest.classes import DATA_FOLDER

__all__ = ["PUBLISHED_FOLDER", "Published", "published_tables", "read_published"]

PUBLISHED_FOLDER = DATA_FOLDER / "published"


@dataclass(frozen=True)
class Published:
    """A table of a paper.

    Attributes:
        name: ``<task>/<table>``, such as ``"action/ntl-1"``.
        paper: Title, authors, venue and, where there is one, the number on arXiv.
        table: The table's number in the paper.
        caption: What it shows.
        metrics: What each row's values are, in percent.
        methods: The paper's names by ours; a variant is written ``ntl:contrast=ins``.
        datasets: The paper's names by ours.
        remarks: What readers must know, contradictions among them.
        values: By (method, noise, data set), one a metric; None where none was printed.
    """

    name: str
    paper: Mapping[str, str]
    table: str
    caption: str
    metrics: tuple[str, ...]
    methods: Mapping[str, str]
    datasets: Mapping[str, str]
    remarks: tuple[str, ...]
    values: Mapping[tuple[str, str, str], tuple[float | None, ...]]

    @property
    def label(self) -> str:
        """The paper in short: its number on arXiv, or its title."""
        return f"arXiv {self.paper['arxiv']}" if "arxiv" in self.paper else self.paper["title"]

    @property
    def citation(self) -> str:
        """Paper and table in one line."""
        place = f" ({self.label})" if "arxiv" in self.paper else ""
        return (
            f"{self.paper['authors']}: {self.paper['title']}. {self.paper['venue']}{place}, "
            f"Table {self.table}"
        )

    def dataset_of(self, dataset: str) -> str | None:
        """Which of the table's data sets a manifest's data set is; None if it is none of them.

        A number at the end of the manifest's counts the classes of a list of its own:
        ``kinetics-sound-31`` is ``kinetics-sound``, of which papers use 27, 31, 32 or 34 classes.
        """
        name = dataset.lower()
        family, _, classes = name.rpartition("-")
        if name not in self.datasets and classes.isdecimal():
            name = family
        return name if name in self.datasets else None

    def look_up(self, method: str, noise: str, dataset: str) -> dict[str, float]:
        """Printed values by metric; empty where the paper has no such row, or no number in it."""
        values = self.values.get((method, noise, dataset), ())
        pairs = zip(self.metrics, values, strict=False)
        return {metric: value for metric, value in pairs if value is not None}


def published_tables() -> tuple[str, ...]:
    """Names of all tables, sorted."""
    return tuple(
        sorted(
            path.relative_to(PUBLISHED_FOLDER).with_suffix("").as_posix()
            for path in PUBLISHED_FOLDER.glob("*/*.json")
        )
    )


def read_published(name: str) -> Published:
    """Reads a table.

    Args:
        name: ``<task>/<table>``.

    Raises:
        UserError: If there is none of this name.
        ValueError: If a row does not fit the rest of its file; the files are part of the project.
    """
    if name not in published_tables():
        raise unknown_name("published table", name, published_tables())
    path = PUBLISHED_FOLDER / f"{name}.json"
    return _parse(name, json.loads(path.read_text(encoding="utf-8")), path)


def _parse(name: str, data: Mapping[str, Any], path: Path) -> Published:
    metrics = tuple(data["metrics"])
    values: dict[tuple[str, str, str], tuple[float | None, ...]] = {}
    for number, row in enumerate(data["rows"], start=1):
        key = (row["method"], row["noise"], row["dataset"])
        if (
            key in values
            or row["method"] not in data["methods"]
            or row["dataset"] not in data["datasets"]
            or len(row["values"]) != len(metrics)
        ):
            raise ValueError(f"row {number} of {path.name} does not fit its table: {row}")
        values[key] = tuple(v if v is None else float(v) for v in row["values"])
    return Published(
        name=name,
        paper=data["paper"],
        table=data["table"],
        caption=data["caption"],
        metrics=metrics,
        methods=data["methods"],
        datasets=data["datasets"],
        remarks=tuple(data["remarks"]),
        values=values,
    )
