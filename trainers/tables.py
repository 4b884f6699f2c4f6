"""Tables of text cells, written for a terminal, as Markdown or as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.errors import UserError

__all__ = ["FORMATS", "Sheet", "render", "table_format"]

FORMATS = ("text", "markdown", "csv")
ENDINGS = {".csv": "csv", ".md": "markdown", ".txt": "text"}
"""Format by a file's ending."""

UNLIMITED = 10_000
"""Columns of text that no table fills."""


@dataclass(frozen=True)
class Sheet:
    """A table.

    Attributes:
        title: Heading.
        columns: Names, unique.
        rows: Cells, as many a row as there are columns.
        notes: Sentences below the table; CSV, which programs read, leaves title and notes out.
        left: Columns whose cells are words; all others are numbers, to the right.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    left: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if len(set(self.columns)) != len(self.columns):
            raise ValueError(f"columns of the table {self.title!r} repeat a name: {self.columns}")
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"a row of the table {self.title!r} has {len(row)} cells for "
                    f"{len(self.columns)} columns: {row}"
                )

    def without(self, columns: Collection[str]) -> Sheet:
        """The table without some columns; names that it does not have do not matter."""
        kept = [n for n, name in enumerate(self.columns) if name not in columns]
        return replace(
            self,
            columns=[self.columns[n] for n in kept],
            rows=[[row[n] for n in kept] for row in self.rows],
        )


def render(sheet: Sheet, how: str = "text", *, width: int | None = None) -> str:
    """Writes a table as text, with a line end.

    Args:
        sheet: The table.
        how: One of `FORMATS`.
        width: Columns of text that cells are folded into; None for as many as it takes.

    Raises:
        ValueError: If there is no such format.
    """
    if how == "csv":
        return _csv(sheet)
    if how == "markdown":
        return _markdown(sheet)
    if how == "text":
        return _text(sheet, width)
    raise ValueError(f"there is no table format {how!r}; use one of {', '.join(FORMATS)}")


def _csv(sheet: Sheet) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(sheet.columns)
    writer.writerows(sheet.rows)
    return buffer.getvalue()


def _markdown(sheet: Sheet) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    rule = [":--" if name in sheet.left else "--:" for name in sheet.columns]
    lines = [f"**{sheet.title}**", "", line(sheet.columns), line(rule), *map(line, sheet.rows)]
    for note in sheet.notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def _text(sheet: Sheet, width: int | None) -> str:
    table = Table(title=Text(sheet.title), title_justify="left")
    for name in sheet.columns:
        side = "left" if name in sheet.left else "right"
        table.add_column(Text(name), justify=side, overflow="fold")
    for row in sheet.rows:
        # Not as markup: names may hold square brackets.
        table.add_row(*map(Text, row))
    stream = io.StringIO()
    console = Console(width=width or UNLIMITED, file=stream, color_system=None)
    console.print(table)
    for note in sheet.notes:
        console.print(Text(note))
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def table_format(asked: str | None, out: Path | None) -> str:
    """The format of the tables: the one asked for, or that of the file's ending, or text.

    Raises:
        UserError: If the two contradict each other.
    """
    ending = "" if out is None else out.suffix.lower()
    if asked is None:
        return ENDINGS.get(ending, "text")
    if ENDINGS.get(ending, asked) != asked:
        raise UserError(
            f"--out {out} is a {ENDINGS[ending]} file by its ending and --format is {asked}; leave "
            "--format out or give the file another ending."
        )
    return asked
