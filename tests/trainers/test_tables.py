"""Tables as text, Markdown and CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from pipeline.errors import UserError
from trainers.tables import Sheet, render, table_format

SHEET = Sheet(
    "made [table]",
    ["method", "ours clip@1", "paper clip@1"],
    [["ntl:contrast=ins", "41.00 ± 0.50", "52.31"], ["a|b", "[red]", "-"]],
    notes=["ours: made up"],
    left=frozenset({"method"}),
)


def test_text_is_aligned_and_nothing_is_markup() -> None:
    lines = render(SHEET).splitlines()
    assert lines[0] == "made [table]"
    assert "[red]" in "".join(lines)
    assert lines[-1] == "ours: made up"
    body = [line for line in lines if "│" in line]
    assert len({len(line) for line in body}) == 1
    assert body[0].index("41.00") > body[0].index("ntl:contrast=ins")


def test_text_folds_into_a_width_and_loses_nothing() -> None:
    lines = render(SHEET, width=40).splitlines()
    assert max(map(len, lines)) <= 40
    cells = [line.strip("│").split("│")[0].strip() for line in lines if line.startswith("│")]
    assert "".join(cells).startswith("ntl:contrast=ins")


def test_markdown_escapes_and_aligns() -> None:
    lines = render(SHEET, "markdown").splitlines()
    assert lines[0] == "**made [table]**"
    assert lines[3] == "| :-- | --: | --: |"
    assert lines[5] == "| a\\|b | [red] | - |"
    assert lines[-1] == "ours: made up"


def test_csv_is_read_back() -> None:
    rows = list(csv.reader(io.StringIO(render(SHEET, "csv"))))
    assert rows == [list(SHEET.columns), *map(list, SHEET.rows)]


def test_other_formats_and_crooked_tables_are_errors() -> None:
    with pytest.raises(ValueError, match="text, markdown, csv"):
        render(SHEET, "latex")
    with pytest.raises(ValueError, match="2 cells for 1"):
        Sheet("x", ["a"], [["1", "2"]])
    with pytest.raises(ValueError, match="repeat a name"):
        Sheet("x", ["a", "a"], [])


@pytest.mark.parametrize(
    ("asked", "out", "how"),
    [
        (None, None, "text"),
        ("csv", None, "csv"),
        (None, "w.csv", "csv"),
        (None, "W.CSV", "csv"),
        (None, "w.md", "markdown"),
        (None, "w.txt", "text"),
        (None, "w", "text"),
        ("csv", "w.csv", "csv"),
        ("csv", "w.dat", "csv"),
        ("markdown", "w", "markdown"),
    ],
)
def test_the_format_follows_the_ending(asked: str | None, out: str | None, how: str) -> None:
    assert table_format(asked, None if out is None else Path(out)) == how


@pytest.mark.parametrize(("asked", "out"), [("text", "w.csv"), ("csv", "w.md"), ("csv", "w.txt")])
def test_a_format_that_contradicts_the_ending_is_refused(asked: str, out: str) -> None:
    with pytest.raises(UserError, match=f"--out {out} .* --format is {asked}"):
        table_format(asked, Path(out))
