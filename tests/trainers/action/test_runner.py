"""Runs of every registered method, from data to the files that other programs read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from features.store import Store
from pipeline.errors import UserError
from pipeline.manifest import read_manifest, write_manifest
from tests.action_corpora import make_noisy, write_action_corpus
from tests.recognition import OWN, SMALL
from trainers.action.experiment import DEMO_UPDATES, Experiment
from trainers.action.interface import METHODS
from trainers.launching import scheduled
from trainers.options import demo_schedule
from trainers.runs import Run

NAMES = METHODS.names()
ROLES = {"audio": "sound", "visual": "sight"}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    manifest, store = write_action_corpus(tmp_path_factory.mktemp("corpus"), sizes=(32, 10, 15))
    return make_noisy(manifest), store


def _run(
    name: str,
    manifest: Path,
    store: Path,
    runs: Path,
    *,
    changed: dict[str, Any] | None = None,
    **options: Any,
) -> Run:
    known = METHODS.get(name).hyperparameters.__dataclass_fields__
    small = SMALL | OWN.get(name, {})
    values = {key: value for key, value in small.items() if key in known} | (changed or {})
    (run,) = Experiment(
        method=name,
        manifest=read_manifest(manifest),
        store=Store(store),
        roles=ROLES,
        values=values,
        runs=runs,
        threads=1,
        quiet=True,
        **options,
    ).run([0])
    return run


@pytest.mark.parametrize("name", NAMES)
def test_every_method_runs_and_never_sees_the_truth(
    name: str, noisy: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest, store = noisy
    told = _run(name, manifest, store, tmp_path / "told")
    lines = [json.loads(x) for x in (told.path / "metrics.jsonl").read_text().splitlines()]
    last = next(reversed(METHODS.get(name).selections))
    assert all(("train" in line) == (line["phase"] == last) for line in lines)
    results = told.results()
    assert lines[-1]["train"] == results["metrics"]["train"]
    assert {"detect/label/auroc", "detect/pair/auroc"} <= set(results["metrics"]["train"])
    assert results["needs"] == sorted(METHODS.get(name).needs)
    # What estimates weights, and passes that meet too few clean labels, update nothing.
    made = {"gblend": [8], "dividemix": range(5, 8)}.get(name, [results["passes"] * 4])
    assert results["updates"] in made

    clean = read_manifest(manifest)
    alone = tmp_path / "alone" / manifest.name
    alone.parent.mkdir()
    # A header that counts no rows leaves open which ones were changed.
    counts = ("changed", "overlap")
    bare = [{k: v for k, v in n.items() if k not in counts} for n in clean.header.noise]
    write_manifest(clean.with_rows(clean.rows, noise=tuple(bare)), alone)
    names = clean.classes
    other = {name: names[n - 1] for n, name in enumerate(names)}
    poison = "".join(
        json.dumps({"id": row.id, "labels": [other[row.labels[0]]], "audio_id": "nobody"}) + "\n"
        for row in clean.split("train")
    )
    alone.with_name("noisy.truth.jsonl").write_text(poison)
    poisoned = _run(name, alone, store, tmp_path / "poisoned")
    assert poisoned.results()["metrics"]["train"] != results["metrics"]["train"]
    alone.with_name("noisy.truth.jsonl").unlink()
    blind = _run(name, alone, store, tmp_path / "blind")
    assert "train" not in blind.results()["metrics"]
    files = [run.path / "predictions.h5" for run in (told, poisoned, blind)]
    logits = []
    for path in files:
        with h5py.File(path) as file:
            logits.append([file[f"{split}/last/logits"][:] for split in ("val", "test")])
    for other in logits[1:]:
        for mine, theirs in zip(logits[0], other, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert (told.path / "labels.h5").is_file() == (blind.path / "labels.h5").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_training_that_diverges_is_no_result(
    name: str, noisy: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"has diverged: .* lower --lr"):
        _run(name, *noisy, tmp_path, changed={"lr": 1e30})
    assert not list(tmp_path.glob("**/results.json"))


@pytest.mark.parametrize(
    ("name", "val"), [*((name, 0) for name in NAMES), ("ce", 3), ("adamml", 3)]
)
def test_every_method_does_without_validation_videos(name: str, val: int, tmp_path: Path) -> None:
    without_features = [f"val{n}" for n in range(val)]
    corpus = write_action_corpus(tmp_path, sizes=(24, val, 10), failed=without_features)
    run = _run(name, *corpus, tmp_path / "runs")
    metrics = run.results()["metrics"]
    assert metrics["test"]["last"]["clip@1"] > 0
    assert metrics["val"]["clip@1"] is None
    with h5py.File(run.path / "predictions.h5") as file:
        logits = file["val/last/logits"][:]
    assert len(logits) == val
    assert not logits.any()


def test_looking_at_noise_less_often_changes_nothing_else(
    noisy: tuple[Path, Path], tmp_path: Path
) -> None:
    often = _run("ntl", *noisy, tmp_path / "often")
    seldom = _run("ntl", *noisy, tmp_path / "seldom", detect_every=0)
    assert often.path.name == seldom.path.name
    assert often.results()["metrics"] == seldom.results()["metrics"]
    lines = [json.loads(x) for x in (seldom.path / "metrics.jsonl").read_text().splitlines()]
    assert not any("train" in line for line in lines)


def test_the_name_of_a_run_depends_on_what_changes_its_result(
    noisy: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest, store = noisy
    other = make_noisy(manifest.with_name("made.jsonl"), seed=1, name="other")
    names = [
        _run("ce", manifest, store, tmp_path / "a").path.name,
        _run("ce", other, store, tmp_path / "b").path.name,
        _run("ce", manifest, store, tmp_path / "c", missing="zero").path.name,
        _run("ce", manifest, store, tmp_path / "d").path.name,
    ]
    assert names[0] == names[3]
    assert len(set(names)) == 3


@pytest.mark.parametrize("name", NAMES)
def test_the_demo_schedule_keeps_the_published_length(name: str) -> None:
    method = METHODS.get(name)
    hp = scheduled(method, {}, "demo", 600, updates=DEMO_UPDATES)
    assert (hp.batch_size, hp.epochs) == (32, 60)
    twice = demo_schedule(method.hyperparameters(), 600, updates=2 * DEMO_UPDATES)
    assert twice.epochs == 120
