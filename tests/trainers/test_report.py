"""Tables of finished runs and comparisons of methods, for readers and for programs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from pipeline.errors import UserError
from tests.made_results import made_config, made_result, noisy_result, write_run
from trainers.finished import find_runs
from trainers.report import compare, main
from trainers.runs import Run
from trainers.sheets import data_sheet, detection_sheet, paired_sheet, results_sheet


def test_report_compares_only_what_shares_its_data(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for seed in range(2):
        write_run(tmp_path, "han", seed, 50.0)
        write_run(tmp_path, "jomold", seed, 53.0 + seed)
        write_run(tmp_path, "rlld", seed, 99.0, manifest="another")
    results = list(find_runs([tmp_path]).values())
    rows = compare(results, "han", "segment/type")
    assert [(r["method"], r["mean"]) for r in rows] == [("jomold", 3.5)]
    with pytest.raises(UserError, match="'hann'"):
        compare(results, "hann", "segment/type")
    assert main([str(tmp_path), "--paired-to", "han", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["paired"][0]["method"] == "jomold"
    assert main([str(tmp_path)]) == 0
    assert "Speech deleted from the picture" in capsys.readouterr().out


def test_a_sheet_says_all_that_a_number_depends_on() -> None:
    results = [noisy_result("ntl", s, 50.0 + 2 * s, noise_seed=s) for s in (0, 1, 2)]
    other = noisy_result("ntl", 0, 60.0, noise_seed=0)
    other["identity"]["hyperparameters"] = {"lr": 0.01}
    sheet = results_sheet([*results, other])
    assert "last epoch" in sheet.title
    assert "frozen features" in sheet.title
    first, second = (dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows)
    assert first["method"] == "ntl (lr=0.001)"
    assert second["method"] == "ntl (lr=0.01)"
    assert first["C@1"] == "52.00 ± 1.15"
    assert first["sd"] == "2.00"
    assert first["V@1"] == "-"
    assert (first["noise"], first["realised %"]) == ("symmetric 40 %", "40.0")
    assert first["noise id"] == "0.4-0 and 2 more"
    assert (first["passes"], first["seconds"], first["runs"]) == ("60", "2.0", "3")
    oracle = results_sheet(results, epoch="oracle")
    assert dict(zip(oracle.columns, oracle.rows[0], strict=True))["epoch"] == "7 7 7"
    assert any("chosen on test" in note for note in oracle.notes)
    assert detection_sheet(results) is None


def test_rows_without_features_are_said_below_the_table() -> None:
    def notes(*failed: dict[str, int] | None, **more: object) -> list[str]:
        results = [
            noisy_result("ce", seed, 40.0, noise_seed=seed)
            | ({} if counts is None else {"failed": counts})
            | more
            for seed, counts in enumerate(failed)
        ]
        return [n for n in results_sheet(results).notes if n.startswith("Without features")]

    five = {"train": 5, "val": 0, "test": 2}
    assert notes(five, five) == [
        "Without features: 5 training, 2 test videos; those in test count as wrong."
    ]
    assert notes(None, five | {"train": 3, "val": 1}, five) == [
        "Without features: 3 to 5 training, 0 to 1 validation, 2 test videos; those in validation "
        "and test count as wrong."
    ]
    assert notes({"train": 1, "val": 0, "test": 0}) == [
        "Without features: 1 training videos; they are not trained on."
    ]
    assert notes(None) == notes(dict.fromkeys(five, 0), None) == []
    parsed = made_result("han", 0, 50.0, failed=five) | {"identity": made_config("han", 0)}
    assert results_sheet([parsed]).notes[-1] == (
        "Without features: 5 training, 2 test clips; those in test are predicted as nothing."
    )


def test_one_of_several_references_has_to_be_named() -> None:
    short, long = (
        noisy_result("ce", 0, 40.0, noise_seed=0),
        noisy_result("ce", 0, 44.0, noise_seed=0),
    )
    long["identity"]["hyperparameters"] = {"lr": 0.001, "epochs": 118}
    short["identity"]["hyperparameters"] = {"lr": 0.001, "epochs": 60}
    ours = noisy_result("ntl", 0, 50.0, noise_seed=0)
    results = [short, long, ours]
    with pytest.raises(UserError, match=r"'ce \(epochs=118\)', 'ce \(epochs=60\)'"):
        compare(results, "ce", "clip@1", epoch="last")
    rows = compare(results, "ce (epochs=118)", "clip@1", epoch="last")
    assert {row["name"]: row["mean"] for row in rows} == {"ntl": 6.0, "ce (epochs=60)": -4.0}


def test_missing_seeds_are_counted_and_no_pair_is_no_number(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for seed in range(5):
        write_run(tmp_path, "han", seed, 50.0 + seed)
    for seed in (1, 3, 4):
        write_run(tmp_path, "jomold", seed, 53.0 + seed**2)
    write_run(tmp_path, "rlld", 7, 60.0)
    assert main([str(tmp_path), "--paired-to", "han", "--json"]) == 0

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    rows = json.loads(capsys.readouterr().out, parse_constant=refuse)["paired"]
    assert [(r["name"], len(r["seeds"]), r["of"]) for r in rows] == [
        ("jomold", 3, 5),
        ("rlld", 0, 6),
    ]
    assert rows[1]["mean"] is None
    sheet = paired_sheet(rows, "han", "segment/type", "selected", "own")
    first, second = (dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows)
    assert first["seeds"] == "3 of 5"
    assert (first["needed"], first["sd d"][0].isdigit()) == ("4.30", True), "no sign where none is"
    assert (second["seeds"], second["mean d"], second["verdict"]) == (
        "0 of 6",
        "-",
        "no seed shared",
    )


def test_csv_is_one_tidy_table_and_the_comparison_another(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for seed in range(2):
        write_run(tmp_path, "han", seed, 50.0 + seed)
        write_run(tmp_path, "jomold", seed, 53.0 + 3 * seed)
    words = [str(tmp_path), "--format", "csv"]
    assert main(words) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    places = {(r["method"], r["split"], r["epoch"], r["never visible"]) for r in rows}
    assert len(places) == len(rows) == 2 * 2 * 4
    (row,) = (r for r in rows if r["method"] == "jomold" and r["never visible"] == ""
              and (r["split"], r["epoch"]) == ("test", "last"))  # fmt: skip
    assert (row["task"], row["dataset"], row["seeds"]) == ("avvp", "d", "0 1")
    assert (row["noise"], row["noise id"]) == ("no added noise", "")
    assert [float(row[f"segment/type{x}"]) for x in ("", " se", " sd")] == pytest.approx(
        [54.5, 1.5, 4.5**0.5], abs=1e-4
    )
    assert row["segment/visual"] == ""
    assert main([*words, "--paired-to", "han"]) == 0
    printed = capsys.readouterr().out
    (row,) = csv.DictReader(io.StringIO(printed))
    assert (row["reference"], row["method"], row["mean d"]) == ("han", "jomold", "4.0000")
    out = tmp_path / "table.csv"
    assert main([*words, "--paired-to", "han", "--out", str(out)]) == 0
    assert (tmp_path / "table.paired.csv").read_text() == printed
    assert len(list(csv.DictReader(io.StringIO(out.read_text())))) == len(rows)


def test_noise_found_in_training_data_stands_in_the_tidy_table() -> None:
    result = noisy_result("ntl", 0, 50.0, noise_seed=0)
    result["metrics"]["train"] = {"detect/auroc": 90.0}
    sheet = data_sheet([result, noisy_result("ce", 0, 40.0, noise_seed=0)])
    rows = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]
    (found,) = (row for row in rows if row["split"] == "train")
    assert (found["method"], found["detect/auroc"], found["clip@1"]) == ("ntl", "90.0000", "")
    assert (found["noise"], found["noise id"]) == ("symmetric 40 %", "0.4-0")


def test_data_sets_are_compared_apart_and_by_the_names_of_their_tables() -> None:
    def run(method: str, value: float, dataset: str, **hp: object) -> dict:
        result = noisy_result(method, 0, value, noise_seed=0)
        result["dataset"] = result["identity"]["dataset"] = dataset
        result["noise"][0]["parent"] = f"clean {dataset}"
        result["identity"]["hyperparameters"] = hp
        return result

    results = [
        run("ntl", 61.0, "two", epochs=60),
        run("ce", 50.0, "two", epochs=60),
        run("ce", 44.0, "one", epochs=118),
        run("ce", 40.0, "one", epochs=60),
        run("ntl", 51.0, "one", epochs=60),
    ]
    with pytest.raises(UserError, match=r"'ce \(epochs=118\)', 'ce \(epochs=60\)'"):
        compare(results, "ce", "clip@1", epoch="last")
    printed = results_sheet([r for r in results if r["dataset"] == "one"]).rows
    assert [row[0] for row in printed] == ["ce (epochs=118)", "ce (epochs=60)", "ntl"]
    rows = compare(results, "ce (epochs=60)", "clip@1", epoch="last")
    assert [(r["dataset"], r["name"], r["mean"]) for r in rows] == [
        ("one", "ce (epochs=118)", 4.0),
        ("one", "ntl", 11.0),
    ]
    both = [r for r in results if r["identity"]["hyperparameters"]["epochs"] == 60]
    rows = compare(both, "ce", "clip@1", epoch="last")
    sheet = paired_sheet(rows, "ce", "clip@1", "last", "")
    cells = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]
    assert [(c["data"], c["mean d"], c["noise id"]) for c in cells] == [
        ("one (clean one)", "+11.00", "0.4-0"),
        ("two (clean two)", "+11.00", "0.4-0"),
    ]
    with pytest.raises(UserError, match="'ce'"):
        compare(both, "cee", "clip@1", epoch="last")


def test_tables_of_some_runs_name_them_as_the_others_do() -> None:
    long, short = (noisy_result("ce", 0, 40.0, noise_seed=0) for _ in range(2))
    long["identity"]["hyperparameters"] = {"epochs": 118}
    short["identity"]["hyperparameters"] = {"epochs": 60}
    short["metrics"]["train"] = {"detect/auroc": 90.0}
    sheet = detection_sheet([long, short], among=[long, short])
    assert sheet is not None
    assert [row[0] for row in sheet.rows] == ["ce (epochs=60)"]
    other = noisy_result("ce", 0, 40.0, noise_seed=0)
    other["identity"]["features"] = {"audio": "b-2"}
    other["identity"]["hyperparameters"] = {"epochs": 60}
    names = [row[0] for row in results_sheet([short, other]).rows]
    assert names == ["ce (features.audio=a-1)", "ce (features.audio=b-2)"]


def test_options_that_would_be_ignored_are_refused(tmp_path: Path) -> None:
    for method in ("ce", "ntl"):
        result = noisy_result(method, 0, 40.0, noise_seed=0)
        run = Run(tmp_path / "action", {**result.pop("identity"), "seed": 0})
        run.begin(paths={})
        run.finish(result)
    write_run(tmp_path / "avvp", "han", 0, 50.0)
    action, both = [str(tmp_path / "action")], [str(tmp_path)]
    compared = ["--paired-to", "ce", "--metric", "clip@1"]
    modality = ["--filter", "modality"]
    for words in (action + modality, action + compared + modality, both + compared + modality):
        with pytest.raises(UserError, match=r"modality is of parsing, .* leave --filter out"):
            main(words)
    assert main([*action, *compared, "--filter", "own"]) == 0
    with pytest.raises(UserError, match="--json prints JSON and no table; leave it or --format"):
        main([*action, "--json", "--format", "csv"])
