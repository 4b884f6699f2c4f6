"""`python -m trainers.avvp` from the command line down to the files it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row, read_manifest, write_manifest
from tests.corpora import commit, write_corpus
from tests.parsing import make_events, make_inputs
from trainers import bookkeeping
from trainers.avvp import runner
from trainers.avvp.__main__ import main
from trainers.avvp.data import load_inputs
from trainers.results import METRIC_TITLES

SMALL = ["--width", "16", "--ff", "16", "--batch-size", "8", "--epochs", "3", "--lr", "0.003"]
FEATURES = ["--features", "audio=sound", "visual=sight", "motion=moves"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def _train(corpus: tuple[Path, Path], runs: Path, *more: str) -> int:
    manifest, store = corpus
    common = ["--manifest", str(manifest), "--store", str(store), "--runs", str(runs)]
    return main([*common, *FEATURES, "--threads", "1", *more])


def _only(runs: Path) -> Path:
    (run,) = [done.parent for done in runs.rglob("DONE")]
    return run


def test_a_run_leaves_what_the_contract_says(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _train(corpus, tmp_path, "--method", "jomold", *SMALL) == 0
    run = _only(tmp_path)
    assert {p.name for p in run.iterdir()} == {
        "config.json", "environment.json", "metrics.jsonl", "results.json", "predictions.h5",
        "denoiser.json",
        "labels.h5", "checkpoint.pt", "DONE",
    }  # fmt: skip
    results = json.loads((run / "results.json").read_text())
    assert set(results) == {
        "schema", "task", "method", "seed", "as_released", "supervision", "needs", "filter",
        "annotations", "schedule", "updates", "dataset", "features", "noise", "metrics",
        "selection", "seconds", "peak_memory_bytes", "threads", "metrics_modality",
        "metrics_never_visible",
    }  # fmt: skip
    assert results["schedule"] == "paper"
    assert results["updates"] == 3 * 4
    assert set(results["metrics"]["val"]) == set(METRIC_TITLES)
    assert set(results["metrics"]["test"]) == {"last", "selected", "oracle"}
    for block in results["metrics"]["test"].values():
        assert set(block) == set(METRIC_TITLES)
        assert all(0 <= value <= 100 for value in block.values())
    assert set(results["metrics"]["train"]) == {"detect/auroc", "detect/ap", "detect/precision"}
    assert results["metrics_never_visible"]["class"] in read_manifest(corpus[0]).classes
    oracle, chosen = (results["metrics"]["test"][k] for k in ("oracle", "selected"))
    assert oracle["event/audio"] >= chosen["event/audio"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(x["phase"], x["epoch"]) for x in lines] == [
        (phase, epoch) for phase in ("estimate", "train") for epoch in (1, 2, 3)
    ]
    best = max(x["val"]["event/audio"] for x in lines if x["phase"] == "train")
    assert results["selection"]["value"] == best
    assert results["metrics"]["val"]["event/audio"] == best
    with h5py.File(run / "predictions.h5") as file:
        assert set(file) == {"val", "test"}
        group = file["test/selected"]
        assert group["audio"].shape == (12, 10, 5)
        assert group["clip"].shape == (12, 5)
        assert group["id"].asstr()[0] == "test0"
        for name, dataset in group.items():
            if name != "id":
                assert (dataset[:] >= 0).all()
                assert (dataset[:] <= 1).all()
    verdict = json.loads((run / "denoiser.json").read_text())
    assert set(verdict["noise_ratios"]["visual"]) == set(read_manifest(corpus[0]).classes)
    assert all(0 <= ratio <= 1 for ratio in verdict["noise_ratios"]["visual"].values())
    with h5py.File(run / "labels.h5") as file:
        assert file["visual"].shape == (32, 5)
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    assert saved["method"] == "jomold"
    out = capsys.readouterr().out
    assert "jomold" in out
    assert str(run) in out


def test_rlld_can_be_selected_on_clips_that_no_reward_has_seen(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    small = [*SMALL, "--episode-length", "2"]
    for name, more in (("whole", []), ("split", ["--reward-split"])):
        assert _train(corpus, tmp_path / name, "--method", "rlld", *small, *more) == 0
    whole, split = (
        json.loads((_only(tmp_path / name) / "metrics.jsonl").read_text().splitlines()[0])
        for name in ("whole", "split")
    )
    assert whole["test"] != {}
    assert whole["val"] != split["val"]
    verdict = json.loads((_only(tmp_path / "split") / "denoiser.json").read_text())
    assert set(verdict) == {"removed", "curves"}
    assert verdict["curves"]


def test_finished_runs_are_found_and_seeds_are_separate(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _train(corpus, tmp_path, "--method", "han", *SMALL) == 0
    stamp = (_only(tmp_path) / "DONE").stat().st_mtime_ns
    capsys.readouterr()
    assert _train(corpus, tmp_path, "--method", "han", *SMALL, "--seed", "0", "1") == 0
    printed = capsys.readouterr()
    assert "nothing to train" in printed.err
    assert "±" in printed.out
    runs = sorted(done.parent for done in tmp_path.rglob("DONE"))
    assert len(runs) == 2
    assert stamp in [(run / "DONE").stat().st_mtime_ns for run in runs]


def test_a_killed_run_resumes_and_ends_with_the_same_numbers(
    corpus: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _train(corpus, tmp_path / "whole", "--method", "jomold", *SMALL) == 0
    monkeypatch.setattr(runner.train, "__kwdefaults__", {
        **runner.train.__kwdefaults__, "checkpoint_seconds": 0.0
    })  # fmt: skip
    original = bookkeeping.Bookkeeper.__call__
    calls = []

    def dying(self: object, *args: object, **log: float) -> bool:
        selected = original(self, *args, **log)
        calls.append(args[:2])
        if len(calls) == 4:
            raise KeyboardInterrupt
        return selected

    monkeypatch.setattr(bookkeeping.Bookkeeper, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        _train(corpus, tmp_path / "cut", "--method", "jomold", *SMALL)
    assert not list((tmp_path / "cut").rglob("DONE"))
    assert _train(corpus, tmp_path / "cut", "--method", "jomold", *SMALL) == 0
    assert len(calls) == 6, "finished epochs were trained again"
    whole, cut = (_only(tmp_path / name) for name in ("whole", "cut"))
    assert whole.name == cut.name
    one, other = (json.loads((run / "results.json").read_text()) for run in (whole, cut))
    assert one["metrics"] == other["metrics"]
    assert one["selection"] == other["selection"]
    with h5py.File(whole / "predictions.h5") as a, h5py.File(cut / "predictions.h5") as b:
        for key in ("audio", "visual", "clip"):
            np.testing.assert_array_equal(a[f"test/last/{key}"], b[f"test/last/{key}"])
    logs = [(run / "metrics.jsonl").read_text().splitlines() for run in (whole, cut)]
    assert len(logs[0]) == len(logs[1])


def test_a_checkpoint_scores_as_its_run_did(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    manifest, store = corpus
    _train(corpus, tmp_path, "--method", "han", *SMALL)
    run = _only(tmp_path)
    out = tmp_path / "scores.json"
    common = ["--checkpoint", str(run / "checkpoint.pt"), "--manifest", str(manifest)]
    assert main([*common, "--evaluate", "--store", str(store), "--out", str(out)]) == 0
    results = json.loads((run / "results.json").read_text())
    scores = json.loads(out.read_text())["metrics"]
    assert scores["test"] == results["metrics"]["test"]["selected"]
    assert scores["val"] == results["metrics"]["val"]
    assert "segment/type" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds weights of han, not jomold"):
        main([*common, "--evaluate", "--store", str(store), "--method", "jomold"])


def test_unlabelled_videos_get_an_event_table(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    _, store = corpus
    _train(corpus, tmp_path / "runs", "--method", "han", *SMALL, "--epochs", "12")
    rows = tuple(Row(id=f"new{n}", start=0, end=10, split="test", labels=()) for n in range(6))
    unlabelled = write_manifest(
        Manifest(Header("mine", "none", ()), rows), tmp_path / "unlabelled.jsonl"
    )
    events = make_events(6, 5, 11)
    inputs = make_inputs(events, seed=12)
    from features.store import Store

    for name, x in (("sound", inputs.audio), ("sight", inputs.visual), ("moves", inputs.motion)):
        commit(Store(store), name, unlabelled, x.numpy(), {"new5"} if name == "sight" else set())
    out = tmp_path / "events.tsv"
    code = main(
        ["--predict", "--checkpoint", str(_only(tmp_path / "runs") / "checkpoint.pt"),
         "--manifest", str(tmp_path / "unlabelled.jsonl"), "--store", str(store), "--out", str(out)]
    )  # fmt: skip
    assert code == 2, "one clip has no features"
    assert "no features: new5" in capsys.readouterr().out
    lines = [line.split("\t") for line in out.read_text().splitlines()]
    assert lines[0] == ["id", "modality", "onset", "offset", "label", "probability"]
    assert len(lines) > 1
    for row_id, modality, onset, offset, label, probability in lines[1:]:
        assert row_id in {f"new{n}" for n in range(5)}
        assert modality in ("audio", "visual")
        assert 0 <= float(onset) < float(offset) <= 10
        assert label.startswith("class ")
        assert 0.5 <= float(probability) <= 1


def test_clips_without_features_are_left_out_of_training_and_predicted_as_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    corpus = write_corpus(tmp_path, failed=("train0", "train1", "test3"))
    assert _train(corpus, tmp_path / "runs", "--method", "han", *SMALL) == 0
    assert "2 train, 1 test" in capsys.readouterr().err
    run = _only(tmp_path / "runs")
    with h5py.File(run / "predictions.h5") as file:
        assert not file["test/last/audio"][3].any()
        assert file["test/last/audio"][2].any()
    with pytest.raises(UserError, match="'train0' first"):
        _train(corpus, tmp_path / "other", "--method", "han", *SMALL, "--missing", "error")
    assert _train(corpus, tmp_path / "zero", "--method", "han", *SMALL, "--missing", "zero") == 0


def test_borrowed_audio_is_the_audio_of_the_row_named(tmp_path: Path) -> None:
    from features.store import Store

    path, store = write_corpus(tmp_path)
    clean = read_manifest(path)
    first, second, *rest = clean.rows
    swapped = clean.with_rows(
        [
            Row(**{**_fields(first), "audio_id": second.id}),
            Row(**{**_fields(second), "audio_id": first.id}),
            *rest,
        ]
    )
    roles = {"audio": "sound", "visual": "sight"}
    before, _, _ = load_inputs(clean, clean.split("train"), Store(store), roles)
    after, _, _ = load_inputs(swapped, swapped.split("train"), Store(store), roles)
    assert torch.equal(after.audio[0], before.audio[1])
    assert torch.equal(after.audio[1], before.audio[0])
    assert torch.equal(after.audio[2:], before.audio[2:])
    assert torch.equal(after.visual, before.visual)
    assert clean.content_digest() != swapped.content_digest()


def _fields(row: Row) -> dict:
    names = ("id", "start", "end", "split", "labels", "video", "group")
    return {name: getattr(row, name) for name in names}


def test_without_annotations_a_run_ends_with_blank_metrics(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, annotated=False)
    assert _train(corpus, tmp_path / "runs", "--method", "han", *SMALL) == 0
    results = json.loads((_only(tmp_path / "runs") / "results.json").read_text())
    assert set(results["metrics"]["test"]["selected"].values()) == {None}
    with pytest.raises(UserError, match="dense validation labels"):
        _train(corpus, tmp_path / "runs", "--method", "rlld")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--method", "jomould"], "'jomold'"),
        (["--method", "han", "--learning-rate", "1"], "no option '--learning-rate'"),
        (["--method", "han", "--features", "vggish"], "ROLE=NAME"),
        (["--method", "han", "--features", "audio=sound", "visual=resnet152"], "resnet152"),
        (["--method", "han", "--filter", "modal"], "no filter"),
        (["--method", "rlld", "--as-released"], "as-released"),
        (["--method", "han", "--never-visible", "Speach"], "no class 'Speach'"),
        (["--method", "han", "--device", "tpu9"], "no device"),
        ([], "--list-methods"),
        (["--evaluate"], "--checkpoint FILE"),
        (["--evaluate", "--checkpoint", "nowhere.pt"], "no checkpoint"),
    ],
)
def test_mistakes_end_with_one_sentence(
    corpus: tuple[Path, Path], tmp_path: Path, argv: list[str], message: str
) -> None:
    manifest, store = corpus
    common = ["--manifest", str(manifest), "--store", str(store), "--runs", str(tmp_path)]
    with pytest.raises(UserError, match=message) as found:
        main([*common, *argv])
    assert "\n" not in str(found.value)
    assert not list(tmp_path.rglob("config.json")), "work had begun"


def test_a_missing_store_and_unlabelled_training_are_refused(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest, store = corpus
    with pytest.raises(UserError, match=r"flows\.extract"):
        main(["--method", "han", "--manifest", str(manifest), "--store", str(tmp_path / "no")])
    rows = (Row(id="a", start=0, end=10, split="train", labels=()),)
    write_manifest(Manifest(Header("mine", "none", ()), rows), tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="--predict"):
        main(["--method", "han", "--manifest", str(tmp_path / "none.jsonl"), "--store", str(store)])


def test_all_methods_are_listed(capsys: pytest.CaptureFixture) -> None:
    assert main(["--list-methods"]) == 0
    out = capsys.readouterr().out
    for name in ("han", "jomold", "rlld", "broadcast", "oracle_modality"):
        assert name in out
