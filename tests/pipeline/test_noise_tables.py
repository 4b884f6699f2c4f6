"""Files of rates, maps and transition matrices are read strictly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.manifest.classes import read_classes
from pipeline.noise import read_map, read_matrix, read_rates

CLASSES = ("b", "a", "c, d")
MATRIX = np.array([[0.9, 0.1, 0], [0, 1, 0], [0.25, 0.25, 0.5]])


def put(folder: Path, text: str, name: str = "x.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", 'class,rate\nb,0.1\n"c, d",0.3\n\na, 1\n'),
        ("r.tsv", "Class\tRate\nb\t.1\nc, d\t3e-1\na\t1\n"),
        ("r.json", '{"c, d": 0.3, "a": 1, "b": 0.1}'),
        ("r.json", "[0.1, 1, 0.3]"),
    ],
)
def test_rates(tmp_path: Path, name: str, text: str) -> None:
    assert read_rates(put(tmp_path, text, name), CLASSES) == {"b": 0.1, "a": 1, "c, d": 0.3}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("r.csv", "b,0.1\n", r"r\.csv line 1: the columns must be class,rate"),
        ("r.csv", "", "the columns must be class,rate"),
        ("r.csv", "class,rate\nb,0.1\nb,0.2\n", "names the class 'b' twice"),
        ("r.csv", "class,rate\nc, d,0.1\n", "entry 1 has 3 columns instead of 2; quote names"),
        ("r.csv", "class,rate\nb,many\n", "the rate of 'b' is 'many', which is no number"),
        ("r.json", "[0.1]", "lists 1 rates and the manifest has 3 classes"),
        ("r.json", "0.1", "must hold a rate for each class"),
        ("r.json", '{"b": true}', "is True, which is no number"),
        ("r.json", '{"b": 1, "b": 0}', "a name stands twice"),
        ("r.json", "{", "is no JSON"),
    ],
)
def test_bad_rates(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_rates(put(tmp_path, text, name), CLASSES)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_rates(tmp_path / "none.csv", CLASSES)
    (tmp_path / "x.csv").write_bytes(b"class,rate\n\xff,1\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_rates(tmp_path / "x.csv", CLASSES)


def test_levels_of_mini_kinetics() -> None:
    lists = {level: read_classes(f"mini-kinetics/{level}") for level in (10, 20, 30, 40)}
    classes = tuple(sorted(name for names in lists.values() for name in names))
    rates = read_rates("mini-kinetics", (*classes, "another"))
    assert len(rates) == 200
    assert all(rates[name] == level / 100 for level, names in lists.items() for name in names)
    with pytest.raises(UserError, match="No class of the manifest is one of mini-kinetics"):
        read_rates("mini-kinetics", CLASSES)


def test_map(tmp_path: Path) -> None:
    assert read_map(put(tmp_path, '{"a": "b"}')) == {"a": "b"}
    for text in ('["a"]', '{"a": 1}'):
        with pytest.raises(UserError, match="must hold one object"):
            read_map(put(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.csv", ',a,"c, d",b\n"c, d",0.25,0.5,0.25\na,1,0,0\nb,0.1,0,0.9\n'),
        ("m.tsv", "label\tb\ta\tc, d\na\t0\t1\t0\nb\t0.9\t0.1\t0\nc, d\t.25\t.25\t.5\n"),
        ("m.json", json.dumps({"classes": CLASSES, "matrix": MATRIX.tolist()})),
        ("m.json", '{"a": {"a": 1}, "b": {"b": 0.9, "a": 0.1}, "c, d": {"b": 0.25, "a": 0.25, '
         '"c, d": 0.5}}'),
    ],
)  # fmt: skip
def test_matrix_in_class_order(tmp_path: Path, name: str, text: str) -> None:
    np.testing.assert_array_equal(read_matrix(put(tmp_path, text, name), CLASSES), MATRIX)


def test_classes_may_be_called_by_numbers(tmp_path: Path) -> None:
    path = put(tmp_path, ",1,0\n0,0.25,0.75\n1,1,0\n")
    np.testing.assert_array_equal(read_matrix(path, ("0", "1")), [[0.75, 0.25], [0, 1]])
    identity = put(tmp_path, "1,0,0\n0,1,0\n0,0,1\n")
    with pytest.raises(UserError, match="has numbers where its first line"):
        read_matrix(identity, ("0", "1", "2"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "x,a,b\na,0.5,0.5\nb,0.2,0.7\n", "Row 'b' of the .* sums to 0.9, not 1"),
        ("m.csv", "x,a,b\na,0.5,0.5\n", "has 2 columns and 1 rows; the matrix must be square"),
        ("m.csv", "x,a,b\na,1\nb,0,1\n", "row 'a' has 1 numbers for 2 columns"),
        ("m.csv", "x,a,a\na,0.5,0.5\nb,0,1\n", "names the class 'a' twice"),
        ("m.csv", "x,a,b\na,0.5,0.5\na,0,1\n", "names the class 'a' twice"),
        ("m.csv", "x,a,q\na,1,0\nq,0,1\n", "no class of m.csv in the manifest named 'q'"),
        ("m.csv", "x,a,b\na,1,-\nb,0,1\n", "row 'a', column 'b' is '-', which is no number"),
        ("m.csv", "x,a\na,1\n", "has 1 rows for 2 classes; 'b' has none"),
        ("m.csv", "", "is empty"),
        ("m.csv", "0.9,0.1\n0.2,0.8\n", "m.csv has numbers where .*; add a line of class names"),
        ("m.csv", "1,0,0\n0,1,0\n0,0,1\n", "first line and its first column must name the cl"),
        ("m.csv", "a,b\n0.9,0.1\n0.2,0.8\n", "has numbers where its first line"),
        ("m.csv", "a,0.9,0.1\nb,0.2,0.8\n", "has numbers where its first line"),
        ("m.json", '{"a": {"a": 1}}', "has 1 rows for 2 classes; 'b' has none"),
        ("m.json", '{"a": {"a": 2, "b": -1}, "b": {"b": 1}}', "Row 'a' .* holds -1"),
        ("m.json", "[[1, 0], [0, 1]]", "must hold classes and matrix"),
        ("m.json", '{"classes": ["a", "b"], "matrix": [[1, 0]]}', "2 classes and has 1 rows"),
        ("m.json", '{"classes": "ab", "matrix": []}', "must hold lists"),
        ("m.json", '{"classes": [1, 2], "matrix": [[1, 0], [0, 1]]}', "name the classes by texts"),
        ("m.json", '{"classes": ["a"], "matrix": [1]}', "as a list of rows"),
        ("m.json", '{"a": {"a": NaN}, "b": {"b": 1}}', "Row 'a' .* holds nan"),
    ],
)
def test_bad_matrices(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_matrix(put(tmp_path, text, name), ("a", "b"))
