"""Run folders, groups of results, paired comparisons and noise detection."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row, read_manifest
from pipeline.noise import Modality, inject, write_noisy
from tests.made_results import made_config, made_result, noisy_result, write_run
from trainers.detection import detection_metrics, detector_scores
from trainers.finished import find_runs
from trainers.report import compare
from trainers.results import (
    group_seeds,
    noise_title,
    paired,
    summary,
)
from trainers.runs import Run
from trainers.sheets import results_sheet


def test_a_runs_name_depends_on_its_configuration_only(tmp_path: Path) -> None:
    one = Run(tmp_path, made_config("han", 0))
    assert one.path == Run(tmp_path, made_config("han", 0)).path
    assert one.path != Run(tmp_path, made_config("han", 1)).path
    assert not one.done
    one.begin(paths={})
    one.log({"epoch": 1})
    one.log({"epoch": 2})
    one.truncate_log(1)
    assert (one.path / "metrics.jsonl").read_text() == '{"epoch": 1}\n'
    assert not one.done
    one.finish(made_result("han", 0, 1.0))
    assert one.done
    assert one.results()["identity"]["method"] == "han"
    assert "seed" not in one.results()["identity"]


def test_a_run_in_another_process_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = (Run(tmp_path, made_config("han", 0)) for _ in range(2))
    held, waited = threading.Event(), threading.Event()

    def other() -> None:
        with theirs.claim():
            held.set()
            assert waited.wait(30)
            theirs.begin(paths={})
            theirs.finish(made_result("han", 0, 1.0))

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(30)
    monkeypatch.setattr(Run, "_wait", lambda run: waited.set())
    with mine.claim():
        assert mine.done
    thread.join()
    assert not (mine.path / ".lock").exists()


def test_a_run_that_cannot_be_claimed_is_one_sentence(tmp_path: Path) -> None:
    run = Run(tmp_path, made_config("han", 0))
    (run.path / ".lock").mkdir(parents=True)
    with pytest.raises(UserError, match="cannot be written"), run.claim():
        pass


def test_a_killed_process_holds_no_run(tmp_path: Path) -> None:
    run = Run(tmp_path, made_config("han", 0))
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
        write_run(tmp_path, "han", seed, value)
    write_run(tmp_path, "han", 0, 10.0, filter="modality")
    results = list(find_runs([tmp_path]).values())
    groups = group_seeds(results)
    assert sorted(len(group) for group in groups) == [1, 3]
    assert [r["seed"] for r in max(groups, key=len)] == [0, 1, 2]
    sheet = results_sheet(results, narrow=True)
    rows = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]
    (averaged,) = (row for row in rows if row["runs"] == "3")
    assert (averaged["seg Type"], averaged["sd"]) == ("52.00 ± 1.15", "2.00")
    assert averaged["seg V"] == "-"
    assert not {"noise", "realised %", "noise id", "epoch", "passes", "seconds"} & set(
        sheet.columns
    )


def test_summary_leaves_blanks_blank() -> None:
    assert summary([None, None]) is None
    assert summary([3.0]) == (3.0, None)
    assert summary([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))


def test_a_claim_needs_t_above_2_78_on_five_seeds() -> None:
    base = [made_result("han", s, 50.0 + s) for s in range(5)]
    ours = [made_result("jomold", s, 50.0 + s + d) for s, d in enumerate((1.0, 2.0, 1.5, 1.2, 1.8))]
    found = paired(ours, base, "segment/type")
    d = np.array([1.0, 2.0, 1.5, 1.2, 1.8])
    assert found["t"] == pytest.approx(d.mean() / (d.std(ddof=1) / 5**0.5))
    assert (found["critical"], found["above"], found["below"]) == (2.78, True, False)
    assert paired(base, ours, "segment/type")["below"]
    same = {**ours[0], "metrics_modality": base[0]["metrics"]}
    under = [{**r, "metrics_modality": r["metrics"]} for r in base[:1]]
    assert paired([same], under, "segment/type", which="metrics_modality")["differences"] == [0.0]
    noisy = [made_result("x", s, 50.0 + s + e) for s, e in enumerate((5.0, -5.0, 5.0, -5.0, 1.0))]
    assert not paired(noisy, base, "segment/type")["above"]
    assert paired(ours[:2], base[3:], "segment/type")["seeds"] == []


def test_draws_of_one_noise_are_one_cell_and_pair_draw_by_draw() -> None:
    def cell(method: str, values: list[float], **more: float) -> list[dict]:
        return [
            noisy_result(method, n % 2, value, noise_seed=n // 2, **more)
            for n, value in enumerate(values)
        ]

    ours, base = cell("ntl", [50.0, 52.0, 54.0, 56.0]), cell("ce", [40.0, 41.0, 42.0, 43.0])
    assert [len(group) for group in group_seeds([*ours, *base])] == [4, 4]
    more = cell("ce", [30.0], rate=0.6)
    assert len(group_seeds([*base, *more])) == 2, "another rate is another cell"
    found = paired(ours, base[::-1], "clip@1", epoch="last")
    assert found["differences"] == [10.0, 12.0, 11.0, 13.0]
    assert found["seeds"] == [0, 0, 1, 1]
    assert paired(ours, base, "video@1", epoch="last")["seeds"] == [], "blanks are no numbers"
    (row,) = compare([*ours, *base, *more], "ce", "clip@1", epoch="last")
    assert (row["name"], row["noise"], row["mean"]) == ("ntl", "symmetric 40 %", 11.5)


def test_equal_differences_are_no_claim() -> None:
    base = [made_result("han", s, v) for s, v in enumerate((0.1, 51.7, 38.9))]
    ours = [made_result("x", s, v + 0.3) for s, v in enumerate((0.1, 51.7, 38.9))]
    differences = paired(ours, base, "segment/type")["differences"]
    assert np.std(differences, ddof=1) > 0, "rounding makes them differ"
    found = paired(ours, base, "segment/type")
    assert (found["sd"], found["t"], found["above"], found["below"]) == (0.0, None, False, False)
    assert paired(base, base, "segment/type")["t"] is None
    near = [made_result("x", s, 50.0 + d) for s, d in enumerate((1e-4, 2e-4, 3e-4))]
    level = [made_result("han", s, 50.0) for s in range(3)]
    assert paired(near, level, "segment/type")["t"] == pytest.approx(2 * 3**0.5)


SOUND = {"kind": "correspondence", "rate": 0.4}
EXTERNAL = {"donors": "external", "different_class": True, "pool": "0123456789"}


@pytest.mark.parametrize(
    ("noise", "title"),
    [
        ([], "no added noise"),
        ([{"kind": "symmetric", "rate": 0.4, "options": {"inclusive": False}}], "symmetric 40 %"),
        (
            [{"kind": "symmetric", "rate": 0.2, "options": {"inclusive": True}}],
            "symmetric 20 % (inclusive)",
        ),
        (
            [{"kind": "asymmetric", "rate": 0.4, "options": {"flip": "pairflip"}}],
            "asymmetric 40 %",
        ),
        (
            [{"kind": "asymmetric", "rate": 0.4, "options": {"flip": "half", "half_exact": True}}],
            "asymmetric 40 % (half, half exact)",
        ),
        (
            [{"kind": "symmetric", "rate": 0.1}, {**SOUND, "options": EXTERNAL}],
            "symmetric 10 %, correspondence 40 % (external, different class, pool 012345)",
        ),
        (
            [{"kind": "transition", "rate": 1.0, "options": {"matrix": "fedcba9876543210"}}],
            "transition 100 % (matrix fedcba)",
        ),
        (
            [{"kind": "modality", "rate": 0.4, "options": {"change": "flip", "modality": "audio"}}],
            "modality 40 % (audio)",
        ),
        ([{"kind": "elsewhere", "options": {"how": "so"}}], "elsewhere (so)"),
    ],
)
def test_noise_in_words_says_what_is_not_the_default(noise: list[dict], title: str) -> None:
    assert noise_title(noise) == title


def test_rates_by_class_and_maps_are_told_apart() -> None:
    rates = [{"a": 0.1, "b": 0.9}, {"a": 0.9, "b": 0.1}]
    titles = {noise_title([{"kind": "symmetric", "rate": 0.5, "rates": r}]) for r in rates}
    assert len(titles) == 2
    assert all(title.startswith("symmetric 10 to 90 % by class (rates ") for title in titles)
    maps = [{"a": "b"}, {"b": "a"}]
    custom = [{"flip": "custom", "half_exact": False, "map": m} for m in maps]
    titles = {noise_title([{"kind": "asymmetric", "rate": 0.4, "options": o}]) for o in custom}
    assert len(titles) == 2
    assert all(title.startswith("asymmetric 40 % (custom, map ") for title in titles)


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
