"""Run folders, tables, paired comparisons and noise detection."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row, read_manifest
from pipeline.noise import Modality, inject, write_noisy
from trainers.detection import detection_metrics, detector_scores
from trainers.report import compare, main
from trainers.results import METRIC_TITLES, group_seeds, paired, results_table, summary
from trainers.runs import Run, find_runs, read_results
from trainers.sheets import detection_sheet, results_sheet


def _result(method: str, seed: int, value: float, **more: object) -> dict:
    metrics = dict.fromkeys(METRIC_TITLES, value) | {"segment/visual": None}
    block = {"val": metrics, "test": {"last": metrics, "selected": metrics, "oracle": metrics}}
    return {
        "method": method, "seed": seed, "as_released": False, "supervision": "weak",
        "dataset": "d", "features": {"audio": "a-1"}, "updates": 300, "metrics": block,
        "metrics_never_visible": {"class": "Speech", **block},
    } | more  # fmt: skip


def _config(method: str, seed: int, **more: object) -> dict:
    return {
        "task": "avvp",
        "method": method,
        "seed": seed,
        "manifest": "m",
        "dataset": "d",
        "features": {"audio": "a-1"},
        "rows": "r",
        "noise": [],
        "annotations": "x",
    } | more


def _write(root: Path, method: str, seed: int, value: float, **config: object) -> Run:
    run = Run(root, _config(method, seed, **config))
    run.begin(paths={"manifest": "somewhere"})
    run.finish(_result(method, seed, value))
    return run


def test_a_runs_name_depends_on_its_configuration_only(tmp_path: Path) -> None:
    one = Run(tmp_path, _config("han", 0))
    assert one.path == Run(tmp_path, _config("han", 0)).path
    assert one.path != Run(tmp_path, _config("han", 1)).path
    assert not one.done
    one.begin(paths={})
    one.log({"epoch": 1})
    one.log({"epoch": 2})
    one.truncate_log(1)
    assert (one.path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
    assert not one.done
    one.finish(_result("han", 0, 1.0))
    assert one.done
    assert one.results()["identity"]["method"] == "han"
    assert "seed" not in one.results()["identity"]


def test_a_run_in_another_process_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = (Run(tmp_path, _config("han", 0)) for _ in range(2))
    held, waited = threading.Event(), threading.Event()

    def other() -> None:
        with theirs.claim():
            held.set()
            assert waited.wait(30)
            theirs.begin(paths={})
            theirs.finish(_result("han", 0, 1.0))

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(30)
    monkeypatch.setattr(Run, "_wait", lambda run: waited.set())
    with mine.claim():
        assert mine.done
    thread.join()
    assert not (mine.path / ".lock").exists()


def test_a_killed_process_holds_no_run(tmp_path: Path) -> None:
    run = Run(tmp_path, _config("han", 0))
    hold = (
        "import json, sys, time; from pathlib import Path; from trainers.runs import Run\n"
        "with Run(Path(sys.argv[1]), json.loads(sys.argv[2])).claim():\n"
        "    print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", hold, str(tmp_path), json.dumps(run.config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait()
    with run.claim():
        assert not run.done
    assert (run.path / ".lock").exists(), "who waits for an unfinished run must meet the same file"


def test_seeds_are_averaged_and_configurations_are_not(tmp_path: Path) -> None:
    for seed, value in enumerate((50.0, 52.0, 54.0)):
        _write(tmp_path, "han", seed, value)
    _write(tmp_path, "han", 0, 10.0, filter="modality")
    results = [read_results(path) for path in find_runs([tmp_path])]
    groups = group_seeds(results)
    assert sorted(len(group) for group in groups) == [1, 3]
    assert [r["seed"] for r in max(groups, key=len)] == [0, 1, 2]
    console = Console(width=220, record=True, file=io.StringIO())
    console.print(results_table(results))
    text = console.export_text()
    assert "52.00 ± 2.00" in text
    assert " - " in text
    with pytest.raises(UserError, match="no finished run"):
        find_runs([tmp_path / "empty"])


def test_summary_leaves_blanks_blank() -> None:
    assert summary([None, None]) is None
    assert summary([3.0]) == (3.0, None)
    assert summary([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))


def test_a_claim_needs_t_above_2_78_on_five_seeds() -> None:
    base = [_result("han", s, 50.0 + s) for s in range(5)]
    ours = [_result("jomold", s, 50.0 + s + d) for s, d in enumerate((1.0, 2.0, 1.5, 1.2, 1.8))]
    found = paired(ours, base, "segment/type")
    d = np.array([1.0, 2.0, 1.5, 1.2, 1.8])
    assert found["t"] == pytest.approx(d.mean() / (d.std(ddof=1) / 5**0.5))
    assert (found["critical"], found["above"], found["below"]) == (2.78, True, False)
    assert paired(base, ours, "segment/type")["below"]
    same = {**ours[0], "metrics_modality": base[0]["metrics"]}
    under = [{**r, "metrics_modality": r["metrics"]} for r in base[:1]]
    assert paired([same], under, "segment/type", which="metrics_modality")["differences"] == [0.0]
    noisy = [_result("x", s, 50.0 + s + e) for s, e in enumerate((5.0, -5.0, 5.0, -5.0, 1.0))]
    assert not paired(noisy, base, "segment/type")["above"]
    assert paired(ours[:2], base[3:], "segment/type")["seeds"] == []


def test_report_compares_only_what_shares_its_data(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for seed in range(2):
        _write(tmp_path, "han", seed, 50.0)
        _write(tmp_path, "jomold", seed, 53.0 + seed)
        _write(tmp_path, "rlld", seed, 99.0, manifest="another")
    results = [read_results(path) for path in find_runs([tmp_path])]
    rows = compare(results, "han", "segment/type")
    assert [(r["method"], r["mean"]) for r in rows] == [("jomold", 3.5)]
    with pytest.raises(UserError, match="'hann'"):
        compare(results, "hann", "segment/type")
    assert main([str(tmp_path), "--paired-to", "han", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["paired"][0]["method"] == "jomold"
    assert main([str(tmp_path)]) == 0
    assert "Speech deleted from the picture" in capsys.readouterr().out


def _noisy(method: str, seed: int, value: float, *, noise_seed: int, rate: float = 0.4) -> dict:
    """A recognition result under one draw of symmetric noise."""
    noise = [
        {"kind": "symmetric", "options": {"inclusive": False}, "rate": rate, "seed": noise_seed,
         "parent": "clean", "id": f"{rate}-{noise_seed}", "realised": {"overall": rate}}
    ]  # fmt: skip
    metrics = {"clip@1": value, "clip@5": 2 * value, "video@1": None}
    return {
        "task": "action", "method": method, "seed": seed, "as_released": False,
        "supervision": "noisy", "needs": [], "dataset": "d", "features": {"audio": "a-1"},
        "updates": 100, "passes": 60, "seconds": 2.0, "schedule": "demo", "noise": noise,
        "selection": {"epoch": 3, "oracle_epoch": 7},
        "metrics": {"val": metrics, "test": dict.fromkeys(("last", "selected", "oracle"), metrics)},
        "identity": _config(method, seed, task="action", manifest=f"{rate}-{noise_seed}",
                            noise=noise, rows=f"r{noise_seed}", hyperparameters={"lr": 0.001}),
    }  # fmt: skip


def test_draws_of_one_noise_are_one_cell_and_pair_draw_by_draw() -> None:
    def cell(method: str, values: list[float], **more: float) -> list[dict]:
        return [
            _noisy(method, n % 2, value, noise_seed=n // 2, **more)
            for n, value in enumerate(values)
        ]

    ours, base = cell("ntl", [50.0, 52.0, 54.0, 56.0]), cell("ce", [40.0, 41.0, 42.0, 43.0])
    for result in (*ours, *base):
        result["identity"].pop("seed")
    assert [len(group) for group in group_seeds([*ours, *base])] == [4, 4]
    more = cell("ce", [30.0], rate=0.6)
    assert len(group_seeds([*base, *more])) == 2, "another rate is another cell"
    found = paired(ours, base[::-1], "clip@1", epoch="last")
    assert found["differences"] == [10.0, 12.0, 11.0, 13.0]
    assert found["seeds"] == [0, 0, 1, 1]
    assert paired(ours, base, "video@1", epoch="last")["seeds"] == [], "blanks are no numbers"
    (row,) = compare([*ours, *base, *more], "ce", "clip@1", epoch="last")
    assert (row["name"], row["noise"], row["mean"]) == ("ntl", "symmetric 40 %", 11.5)


def test_a_sheet_says_all_that_a_number_depends_on() -> None:
    results = [_noisy("ntl", s, 50.0 + 2 * s, noise_seed=s) for s in (0, 1, 2)]
    other = _noisy("ntl", 0, 60.0, noise_seed=0)
    other["identity"]["hyperparameters"] = {"lr": 0.01}
    for result in (*results, other):
        result["identity"].pop("seed")
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
    plain = results_sheet(results, epoch="oracle", separate=True)
    row = dict(zip(plain.columns, plain.rows[0], strict=True))
    assert (row["clip@1"], row["clip@1 sd"]) == ("52.0000", "2.0000")
    assert float(row["clip@1 se"]) == pytest.approx(2 / 3**0.5, abs=1e-4)
    assert row["video@1"] == ""
    assert row["noise id"] == "0.4-0 0.4-1 0.4-2"
    assert row["epoch"] == "7 7 7"
    assert any("chosen on test" in note for note in plain.notes)
    assert detection_sheet(results) is None


def test_one_of_several_references_has_to_be_named() -> None:
    short, long = _noisy("ce", 0, 40.0, noise_seed=0), _noisy("ce", 0, 44.0, noise_seed=0)
    long["identity"]["hyperparameters"] = {"lr": 0.001, "epochs": 118}
    short["identity"]["hyperparameters"] = {"lr": 0.001, "epochs": 60}
    ours = _noisy("ntl", 0, 50.0, noise_seed=0)
    for result in (short, long, ours):
        result["identity"].pop("seed")
    results = [short, long, ours]
    with pytest.raises(UserError, match=r"name one of them: 'ce \(epochs=60\)'"):
        compare(results, "ce", "clip@1", epoch="last")
    rows = compare(results, "ce (epochs=118)", "clip@1", epoch="last")
    assert {row["name"]: row["mean"] for row in rows} == {"ntl": 6.0, "ce (epochs=60)": -4.0}


def test_detection_is_scored_on_given_labels_against_the_truth(tmp_path: Path) -> None:
    rows = tuple(
        Row(id=f"v{n}", start=0, end=10, split="train", labels=("a", "b")) for n in range(4)
    )
    manifest = Manifest(Header("d", "multilabel", ("a", "b")), rows, tmp_path / "m.jsonl")
    ids = [row.id for row in rows]
    keep = {"audio": np.ones((4, 2)), "visual": np.ones((4, 2))}
    keep["visual"][:2, 0] = 0
    assert detection_metrics(manifest, ids, keep) == {}
    (tmp_path / "m.truth.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "id": i,
                    "labels_audio": ["a", "b"],
                    "labels_visual": ["b"] if n < 2 else ["a", "b"],
                }
            )
            + "\n"
            for n, i in enumerate(ids)
        )
    )
    found = detection_metrics(manifest, ids, keep)
    assert found == {"detect/auroc": 100.0, "detect/ap": 100.0, "detect/precision": 100.0}
    keep["visual"][:] = 1
    keep["visual"][2:, 0] = 0
    worse = detection_metrics(manifest, ids, keep)
    assert worse["detect/precision"] == 0.0
    assert worse["detect/auroc"] < 50


def test_rows_that_noise_left_alone_hold_their_labels(tmp_path: Path) -> None:
    clean = tuple(
        Row(f"v{n}", 0.0, 10.0, "train", ("a", "b"), labels_visual=("a",)) for n in range(6)
    )
    manifest = Manifest(Header("d", "multilabel", ("a", "b")), clean, tmp_path / "clean.jsonl")
    added = inject(manifest, Modality(change="add"), rate=0.5)
    noisy = read_manifest(write_noisy(added, tmp_path / "noisy.jsonl"))
    ids = [row.id for row in noisy]
    wrong = noisy.label_matrix(noisy, "visual") & ~manifest.label_matrix(clean, "visual")
    assert wrong.sum() == 3
    found = detection_metrics(noisy, ids, {"visual": np.where(wrong, 0.0, 1.0)})
    assert found == {"detect/auroc": 100.0, "detect/ap": 100.0, "detect/precision": 100.0}


@given(st.integers(2, 40), st.integers(1, 8), st.integers(0, 10**6))
def test_detectors_are_scored_as_scikit_learn_scores_them(n: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    noisy = rng.random(n) < 0.4
    # Few levels make ties.
    score = rng.integers(0, levels, n) / levels
    found = detector_scores("x", noisy, score)
    if noisy.all() or not noisy.any():
        assert found == {}
        return
    assert found["x/auroc"] == pytest.approx(100 * roc_auc_score(noisy, score))
    assert found["x/ap"] == pytest.approx(100 * average_precision_score(noisy, score))
    assert 0 <= found["x/precision"] <= 100
    assert detector_scores("x", noisy, noisy * 1.0)["x/precision"] == 100.0
    assert detector_scores("x", noisy, np.full(n, np.nan)) == {}
