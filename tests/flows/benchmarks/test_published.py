"""Published numbers are data: complete, of one shape, and as printed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flows.benchmarks.published import PUBLISHED_FOLDER, published_tables, read_published
from pipeline.errors import UserError

SIX = {"gblend", "mrl", "xdc_star", "avr", "adamml", "ntl"}
NAMES = {
    "G-Blend": "gblend",
    "MRL": "mrl",
    "XDC*": "xdc_star",
    "AV-R": "avr",
    "AdaMML": "adamml",
    "NTL": "ntl",
}
MINI = [f"mini-kinetics-{level}" for level in (10, 20, 30, 40)]
SYMMETRIC = [f"symmetric:0.{tenths}" for tenths in (2, 4, 6, 8)]
THREE = ("clip@1", "clip@5", "video@1")
SHAPES = {
    "action/ntl-1": (SIX, SYMMETRIC, ["ucf101-51", *MINI], THREE),
    "action/ntl-2": (SIX, ["asymmetric:0.2", "asymmetric:0.4"], ["ucf101-51", *MINI], THREE),
    "action/ntl-3": (SIX, SYMMETRIC, ["kinetics-noisiest-10"], THREE[:2]),
    "action/ntl-4": (SIX, ["none"], ["ucf101-51", "kinetics-sound"], THREE),
    "action/ntl-5": (
        {f"ntl:contrast={terms}" for terms in ("none", "ins", "cat", "full")},
        ["symmetric:0.6"],
        ["ucf101-51", "mini-kinetics-40"],
        THREE,
    ),
    "action/ntl-6": (
        {f"ntl:warmup={n}" for n in (0, 2, 5, 10)},
        SYMMETRIC,
        ["ucf101-51"],
        THREE[:2],
    ),
}


def test_all_tables_are_there() -> None:
    assert set(SHAPES) <= set(published_tables())


@pytest.mark.parametrize("name", SHAPES)
def test_a_table_is_complete(name: str) -> None:
    methods, noises, datasets, metrics = SHAPES[name]
    table = read_published(name)
    assert table.metrics == metrics
    wanted = {(m, n, d) for m in methods for n in noises for d in datasets}
    assert set(table.values) == wanted
    assert set(table.methods) == methods
    assert list(table.datasets) == datasets
    for values in table.values.values():
        assert len(values) == len(metrics)
        assert all(0 < value < 100 for value in values)
        assert values[0] < values[1]
        if len(values) == 3:
            assert values[0] < values[2]


@pytest.mark.parametrize("name", published_tables())
def test_a_file_says_where_its_numbers_stand(name: str) -> None:
    data = json.loads((PUBLISHED_FOLDER / f"{name}.json").read_text())
    assert f"{data['task']}/{data['name']}" == name
    assert data["unit"] == "percent"
    assert {"title", "authors", "venue"} <= set(data["paper"])
    assert data["table"] in read_published(name).citation


def test_contradictions_of_the_paper_are_kept() -> None:
    one, two, four, five, six = (read_published(f"action/ntl-{n}") for n in (1, 2, 4, 5, 6))
    assert one.look_up("ntl", "symmetric:0.8", "ucf101-51")["clip@5"] == 81.12
    assert six.look_up("ntl:warmup=2", "symmetric:0.8", "ucf101-51")["clip@5"] == 81.22
    assert one.look_up("ntl", "symmetric:0.6", "mini-kinetics-40")["clip@5"] == 79.86
    full = five.look_up("ntl:contrast=full", "symmetric:0.6", "mini-kinetics-40")
    assert full["clip@5"] == 79.83
    for method in ("gblend", "adamml"):
        assert two.look_up(method, "asymmetric:0.4", "ucf101-51")["clip@1"] == 51.85
    assert four.look_up("adamml", "none", "ucf101-51")["clip@1"] == 86.06
    assert four.look_up("ntl", "none", "ucf101-51")["clip@1"] == 85.86
    for table in (one, two, four, five, six):
        assert table.remarks


def test_what_a_paper_does_not_print_is_empty() -> None:
    table = read_published("action/ntl-1")
    assert table.look_up("ce", "symmetric:0.2", "ucf101-51") == {}
    assert table.look_up("ntl", "none", "ucf101-51") == {}


def test_blank_cells_and_papers_outside_arxiv_are_no_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = json.loads((PUBLISHED_FOLDER / "action/ntl-1.json").read_text())
    first, second = data["rows"][:2]
    first["values"], second["values"] = [61.5, None, 70.25], [None, None, None]
    del data["paper"]["arxiv"]
    (tmp_path / "action").mkdir()
    (tmp_path / "action/made-1.json").write_text(json.dumps(data))
    monkeypatch.setattr("flows.benchmarks.published.PUBLISHED_FOLDER", tmp_path)
    table = read_published("action/made-1")
    printed = table.look_up(first["method"], first["noise"], first["dataset"])
    assert printed == {"clip@1": 61.5, "video@1": 70.25}
    assert table.look_up(second["method"], second["noise"], second["dataset"]) == {}
    assert table.label == data["paper"]["title"]
    assert table.citation.endswith(f"{data['paper']['venue']}, Table I")
    assert "arXiv" not in table.citation


def test_an_unknown_table_is_refused_and_the_nearest_offered() -> None:
    with pytest.raises(UserError, match="did you mean 'action/ntl-"):
        read_published("action/ntl-7")


def test_a_data_set_with_a_class_list_of_its_own_is_known() -> None:
    four, one = read_published("action/ntl-4"), read_published("action/ntl-1")
    assert four.dataset_of("Kinetics-Sound") == "kinetics-sound"
    assert four.dataset_of("kinetics-sound-31") == "kinetics-sound"
    assert four.dataset_of("ucf101-51") == "ucf101-51"
    assert one.dataset_of("mini-kinetics-40") == "mini-kinetics-40"
    for other in ("ucf101", "ucf101-50", "kinetics", "kinetics-sound-few", "mini-kinetics"):
        assert four.dataset_of(other) is None
        assert one.dataset_of(other) is None
    assert one.dataset_of("kinetics-sound-31") is None


def _printed(shared: Path) -> dict[tuple[str, str, str, str], tuple[float, ...]]:
    """(table, method, noise, data set) to values, read from the method's description."""
    text = (shared / "methods/action.md").read_text()
    found = {}

    def add(table: int, method: str, noise: str, dataset: str, cell: str) -> None:
        values = tuple(float(value) for value in cell.split("/"))
        found[f"action/ntl-{table}", method, noise, dataset] = values

    for kind, percent, method, cells in re.findall(
        r"^\|(sym|asym) (\d+)\|([^|]+)\|(.+)\|$", text, re.MULTILINE
    ):
        noise = f"{kind}metric:0.{int(percent) // 10}"
        for dataset, cell in zip(["ucf101-51", *MINI], cells.split("|"), strict=True):
            add(1 if kind == "sym" else 2, NAMES[method], noise, dataset, cell)

    def entries(number: str) -> list[str]:
        return re.search(rf"^Table {number} \(.+?\): (.+)\.$", text, re.MULTILINE)[1].split("; ")

    for entry in entries("III"):
        method, cells = entry.split(" ", 1)
        for noise, cell in zip(SYMMETRIC, cells.split(", "), strict=True):
            add(3, NAMES[method], noise, "kinetics-noisiest-10", cell)
    for number, names, noise, second in (
        ("IV", NAMES, "none", "kinetics-sound"),
        ("V", None, "symmetric:0.6", "mini-kinetics-40"),
    ):
        for entry in entries(number):
            method, cells = entry.split(" ", 1)
            method = names[method] if names else f"ntl:contrast={method}"
            for dataset, cell in zip(("ucf101-51", second), cells.split(" | "), strict=True):
                add(4 if names else 5, method, noise, dataset, cell)
    for entry in entries("VI"):
        epochs, cells = entry.split(": ")
        for noise, cell in zip(SYMMETRIC, cells.split(", "), strict=True):
            add(6, f"ntl:warmup={epochs}", noise, "ucf101-51", cell)
    return found


def test_every_number_is_as_printed(shared: Path) -> None:
    ours = {
        (name, *key): values
        for name in SHAPES
        for key, values in read_published(name).values.items()
    }
    assert ours == _printed(shared)
