"""Files of options: rates by class, maps from class to class, transition matrices."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError, unknown_name
from pipeline.manifest.classes import read_classes
from pipeline.noise.multiclass import check_matrix

__all__ = ["MINI_KINETICS", "read_map", "read_matrix", "read_rates"]

MINI_KINETICS = "mini-kinetics"
"""Stands for the rates 10, 20, 30 and 40 % of the classes of the four lists of that name."""


def read_rates(path: Path | str, classes: Sequence[str]) -> dict[str, float]:
    """Reads rates by class.

    CSV with the columns ``class,rate``; JSON ``{"class": rate, ...}``, or a list with one rate for
    each class in the order of the manifest's header.

    Args:
        path: The file, or `MINI_KINETICS` for the shares of unrelated sound that Han et al. (TMM
            2024) found in 200 classes of Kinetics.
        classes: K names.

    Raises:
        UserError: If it cannot be read as either.
    """
    path = Path(path)
    if str(path) == MINI_KINETICS and not path.is_file():
        return _mini_kinetics(classes)
    value = _read_json(path) if _is_json(path) else _read_columns(path, ("class", "rate"))
    if isinstance(value, list):
        if len(value) != len(classes):
            raise UserError(
                f"{path.name} lists {len(value)} rates and the manifest has {len(classes)} "
                "classes; give one each."
            )
        value = dict(zip(classes, value, strict=True))
    if not isinstance(value, dict):
        raise UserError(f"{path.name} must hold a rate for each class, by name or as a list.")
    return {name: _number(path, f"the rate of {name!r}", rate) for name, rate in value.items()}


def _mini_kinetics(classes: Sequence[str]) -> dict[str, float]:
    levels = {
        name: percent / 100
        for percent in (10, 20, 30, 40)
        for name in read_classes(f"{MINI_KINETICS}/{percent}")
    }
    rates = {name: levels[name] for name in classes if name in levels}
    if not rates:
        raise UserError(
            f"No class of the manifest is one of {MINI_KINETICS}'s; give a file with the rates 0.1 "
            "to 0.4 of your own classes."
        )
    return rates


def read_map(path: Path | str) -> dict[str, str]:
    """Reads a map from class to class: JSON ``{"class": "other class", ...}``.

    Raises:
        UserError: If it cannot be read as that.
    """
    path = Path(path)
    value = _read_json(path)
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise UserError(
            f'{path.name} must hold one object, {{"class": "the class it becomes", ...}}.'
        )
    return value


def read_matrix(path: Path | str, classes: Sequence[str]) -> np.ndarray:
    """Reads a transition matrix and puts it into the order of the classes.

    Rows are labels, columns noisy labels, both named. CSV: the first line names the columns (its
    first cell is free), the first cell of each further line names its row. JSON:
    ``{"classes": [...], "matrix": [[...], ...]}``, or ``{"class": {"noisy class": share, ...}}``,
    where what is left out is 0.

    Returns:
        (K, K) float64.

    Raises:
        UserError: If names do not fit, or it is no transition matrix; names the row and its sum.
    """
    path = Path(path)
    cells = _json_cells(path) if _is_json(path) else _csv_cells(path, classes)
    column = {name: c for c, name in enumerate(classes)}
    for name in (*cells, *(other for row in cells.values() for other in row)):
        if name not in column:
            raise unknown_name(f"class of {path.name} in the manifest named", name, classes)
    absent = [name for name in classes if name not in cells]
    if absent:
        raise UserError(
            f"{path.name} has {len(cells)} rows for {len(classes)} classes; {absent[0]!r} has "
            "none; add it, with a 1 on the diagonal if it never changes."
        )
    matrix = np.zeros((len(classes), len(classes)))
    for name, row in cells.items():
        for other, share in row.items():
            place = f"row {name!r}, column {other!r}"
            matrix[column[name], column[other]] = _number(path, place, share)
    return check_matrix(matrix, classes)


def _json_cells(path: Path) -> dict[str, dict[str, Any]]:
    value = _read_json(path)
    if isinstance(value, dict) and value.keys() == {"classes", "matrix"}:
        names, rows = value["classes"], value["matrix"]
        if not isinstance(names, list) or not isinstance(rows, list):
            raise UserError(f"{path.name} must hold lists under classes and matrix.")
        if not all(isinstance(name, str) for name in names):
            raise UserError(f"{path.name} must name the classes by texts.")
        if not all(isinstance(row, list) for row in rows):
            raise UserError(f"{path.name} must hold the matrix as a list of rows.")
        if len(rows) != len(names):
            raise UserError(
                f"{path.name} names {len(names)} classes and has {len(rows)} rows; "
                "the matrix must be square."
            )
        return _named(path, names, zip(names, rows, strict=True))
    if not isinstance(value, dict) or not all(isinstance(row, dict) for row in value.values()):
        raise UserError(
            f"{path.name} must hold classes and matrix, or an object of objects by class."
        )
    return value


def _csv_cells(path: Path, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    lines = _read_csv(path)
    if not lines:
        raise UserError(f"{path.name} is empty; its first line names the columns.")
    names = lines[0][1:]
    if any(_are_numbers(place, classes) for place in (names, [line[0] for line in lines[1:]])):
        raise UserError(
            f"{path.name} has numbers where its first line and its first column must name the "
            "classes; add a line of class names above the matrix and a column of them before it."
        )
    if len(lines) - 1 != len(names):
        raise UserError(
            f"{path.name} has {len(names)} columns and {len(lines) - 1} rows; "
            "the matrix must be square."
        )
    return _named(path, names, ((line[0], line[1:]) for line in lines[1:]))


def _are_numbers(names: Sequence[str], classes: Sequence[str]) -> bool:
    """Whether what stands in the place of names are numbers, and not classes called so."""
    if set(names) <= set(classes) and len(set(names)) == len(names):
        return False
    try:
        return all(math.isfinite(float(name)) for name in names)
    except ValueError:
        return False


def _named(path: Path, names: Sequence[str], rows: Any) -> dict[str, dict[str, Any]]:
    """Cells by the names of row and column, each of which must stand once."""
    cells: dict[str, dict[str, Any]] = {}
    twice = next((name for n, name in enumerate(names) if name in names[:n]), None)
    for name, row in rows:
        if len(row) != len(names):
            raise UserError(
                f"{path.name}: row {name!r} has {len(row)} numbers for {len(names)} columns; "
                "the matrix must be square."
            )
        twice = name if name in cells else twice
        cells[name] = dict(zip(names, row, strict=True))
    if twice is not None:
        raise UserError(f"{path.name} names the class {twice!r} twice; keep one.")
    return cells


def _read_columns(path: Path, columns: tuple[str, str]) -> dict[str, str]:
    lines = _read_csv(path)
    if not lines or tuple(cell.lower() for cell in lines[0]) != columns:
        raise UserError(f"{path.name} line 1: the columns must be {','.join(columns)}.")
    values: dict[str, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(columns):
            raise UserError(
                f"{path.name}: entry {number - 1} has {len(line)} columns instead of "
                f"{len(columns)}; quote names that hold commas."
            )
        if line[0] in values:
            raise UserError(f"{path.name} names the class {line[0]!r} twice; keep one.")
        values[line[0]] = line[1]
    return values


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _read_csv(path: Path) -> list[list[str]]:
    """All lines that are not blank, as stripped cells; separated by tabs if the first line is."""
    text = _read(path)
    delimiter = "\t" if "\t" in text.partition("\n")[0] else ","
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [cells for line in lines if any(cells := [cell.strip() for cell in line])]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_read(path), object_pairs_hook=_unrepeated)
    except ValueError as error:
        raise UserError(f"{path.name} is no JSON ({error}); mend it.") from error


def _unrepeated(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(
            f"The file {path} cannot be read ({error.strerror}); check the path."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"The file {path} is not UTF-8 text; save it as UTF-8.") from error


def _number(path: Path, what: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path.name}: {what} is {value!r}, which is no number.") from error
