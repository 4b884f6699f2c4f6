"""Run folders, tables, paired comparisons and noise detection."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row
from trainers.detection import detection_metrics
from trainers.report import compare, main
from trainers.results import METRIC_TITLES, group_seeds, paired, results_table, summary
from trainers.runs import Run, find_runs, read_results


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
