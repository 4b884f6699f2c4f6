"""`python -m trainers.avvp` from the command line down to the files it leaves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import h5py
import pytest
import torch

from pipeline.errors import UserError
from pipeline.manifest import (
    DenseEvent,
    Header,
    Manifest,
    Row,
    read_manifest,
    write_dense,
    write_manifest,
)
from tests.commands import (
    RESULTS,
    RUN_FILES,
    Trainer,
    check_finished_runs,
    check_killed_run,
    check_mistake,
    only,
    results_of,
)
from tests.corpora import commit, write_corpus
from tests.parsing import make_events, make_inputs
from trainers.avvp import runner
from trainers.avvp.__main__ import main
from trainers.avvp.data import load_inputs
from trainers.tasks import AVVP

SMALL = ["--width", "16", "--ff", "16", "--batch-size", "8", "--epochs", "3", "--lr", "0.003"]
FEATURES = ["--features", "audio=sound", "visual=sight", "motion=moves"]
_train = Trainer(main, runner.train, FEATURES)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def test_a_run_leaves_what_the_contract_says(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _train(corpus, tmp_path, "--method", "jomold", *SMALL) == 0
    run = only(tmp_path)
    assert {p.name for p in run.iterdir()} == RUN_FILES | {"denoiser.json", "labels.h5"}
    results = json.loads((run / "results.json").read_text())
    assert set(results) == RESULTS | {"metrics_modality", "metrics_never_visible"}
    assert results["schedule"] == "paper"
    assert results["updates"] == 2 * 3 * 4, "those of the estimator count"
    assert set(results["metrics"]["val"]) == set(AVVP.metrics)
    assert set(results["metrics"]["test"]) == {"last", "selected", "oracle"}
    for block in results["metrics"]["test"].values():
        assert set(block) == set(AVVP.metrics)
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
        json.loads((only(tmp_path / name) / "metrics.jsonl").read_text().splitlines()[0])
        for name in ("whole", "split")
    )
    assert whole["test"] != {}
    assert whole["val"] != split["val"]
    verdict = json.loads((only(tmp_path / "split") / "denoiser.json").read_text())
    assert set(verdict) == {"removed", "curves"}
    assert verdict["curves"]


def test_finished_runs_are_found_and_seeds_are_separate(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    check_finished_runs(_train, corpus, tmp_path, ["--method", "han", *SMALL], capsys)


def test_a_killed_run_resumes_and_ends_with_the_same_numbers(
    corpus: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--method", "jomold", *SMALL]
    check_killed_run(_train, corpus, tmp_path, argv, monkeypatch, after=4)


def test_a_checkpoint_scores_as_its_run_did(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    manifest, store = corpus
    _train(corpus, tmp_path, "--method", "han", *SMALL)
    run = only(tmp_path)
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
        ["--predict", "--checkpoint", str(only(tmp_path / "runs") / "checkpoint.pt"),
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
    run = only(tmp_path / "runs")
    with h5py.File(run / "predictions.h5") as file:
        assert not file["test/last/audio"][3].any()
        assert file["test/last/audio"][2].any()
    with pytest.raises(UserError, match="'train0' first"):
        _train(corpus, tmp_path / "other", "--method", "han", *SMALL, "--missing", "error")
    assert _train(corpus, tmp_path / "zero", "--method", "han", *SMALL, "--missing", "zero") == 0


def test_scores_tell_of_missing_and_of_other_features(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from features.store import Store

    corpus = write_corpus(tmp_path, failed=("train0", "test3"))
    assert _train(corpus, tmp_path / "runs", "--method", "han", *SMALL) == 0
    manifest, store = read_manifest(corpus[0]), Store(corpus[1])
    rows = make_inputs(make_events(len(manifest), 5, 3), seed=3)
    commit(store, "hum", manifest, rows.audio.numpy(), set())
    common = ["--checkpoint", str(only(tmp_path / "runs") / "checkpoint.pt"),
              "--manifest", str(corpus[0]), "--store", str(corpus[1])]  # fmt: skip
    capsys.readouterr()
    counted = "clips without features: 1 test (predicted as nothing)"
    assert main([*common, "--evaluate"]) == 0
    assert capsys.readouterr().err.splitlines() == [counted]
    other = [*common, "--features", "audio=hum", "visual=sight", "motion=moves"]
    assert main([*other, "--evaluate"]) == 0
    said, count = capsys.readouterr().err.splitlines()
    assert count == counted
    used = results_of(tmp_path / "runs")["features"]["audio"]
    assert f"trained on audio={used} and are given audio={store.find('hum').label};" in said
    assert main([*other, "--predict", "--out", str(tmp_path / "table.tsv")]) == 2
    assert capsys.readouterr().err.splitlines() == [said]


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


def test_without_validation_no_epoch_is_selected(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, sizes=(24, 0, 12))
    assert _train(corpus, tmp_path / "runs", "--method", "han", *SMALL) == 0
    run = only(tmp_path / "runs")
    results = json.loads((run / "results.json").read_text())
    for block in ("metrics", "metrics_modality", "metrics_never_visible"):
        assert set(results[block]["val"].values()) == {None}
        assert set(results[block]["test"]["selected"].values()) == {None}
        assert results[block]["test"]["last"]["segment/type"] > 0
    assert results["selection"]["epoch"] is None
    assert results["selection"]["value"] is None
    saved = torch.load(run / "checkpoint.pt", weights_only=True)
    for name, value in saved["last"].items():
        assert torch.equal(saved["selected"][name], value), "either may be loaded"


def test_a_method_without_training_is_scored_without_validation(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, sizes=(8, 0, 12))
    assert _train(corpus, tmp_path / "runs", "--method", "broadcast") == 0
    results = results_of(tmp_path / "runs")
    test = results["metrics"]["test"]
    assert test["selected"] == test["last"]
    assert test["selected"]["segment/type"] > 0


def test_training_clips_without_any_feature_are_refused(tmp_path: Path) -> None:
    failed = tuple(f"train{n}" for n in range(8))
    corpus = write_corpus(tmp_path, sizes=(8, 4, 4), failed=failed)
    with pytest.raises(UserError, match=r"No training clip has features .*features ls"):
        _train(corpus, tmp_path / "runs", "--method", "han", *SMALL)


def test_a_manifest_of_test_rows_is_enough_to_score_weights(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    _train(corpus, tmp_path / "runs", "--method", "rlld", *SMALL, "--episode-length", "2")
    run = only(tmp_path / "runs")
    whole = read_manifest(corpus[0])
    alone = corpus[0].with_name("alone.jsonl")
    lines = corpus[0].with_name("made.dense.tsv").read_text().splitlines()
    cells = [line.split("\t") for line in lines if line.startswith("test")]
    events = [DenseEvent(n, m, float(a), float(b), label) for n, m, a, b, label in cells]
    annotations = write_dense(events, alone.with_name("alone.dense.tsv"))
    header = dataclasses.replace(whole.header, annotations=annotations)
    write_manifest(Manifest(header, tuple(whole.split("test"))), alone)
    out = tmp_path / "scores.json"
    assert main(["--evaluate", "--checkpoint", str(run / "checkpoint.pt"), "--manifest", str(alone),
                 "--store", str(corpus[1]), "--out", str(out)]) == 0  # fmt: skip
    scores = json.loads(out.read_text())["metrics"]
    results = json.loads((run / "results.json").read_text())
    assert scores["test"] == results["metrics"]["test"]["selected"]
    assert set(scores["val"].values()) == {None}
    with pytest.raises(UserError, match="no training rows"):
        _train((alone, corpus[1]), tmp_path / "none", "--method", "han", *SMALL)


def test_without_annotations_a_run_ends_with_blank_metrics(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, annotated=False)
    assert _train(corpus, tmp_path / "runs", "--method", "han", *SMALL) == 0
    results = results_of(tmp_path / "runs")
    assert set(results["metrics"]["test"]["selected"].values()) == {None}
    with pytest.raises(UserError, match="dense validation labels"):
        _train(corpus, tmp_path / "runs", "--method", "rlld")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--method", "jomould"], "'jomold'"),
        (["--method", "han", "--learning-rate", "1"], "no option '--learning-rate'"),
        (["--method", "han", "--features", "vggish"], "ROLE=NAME"),
        (["--method", "han", "--features", "=vggish"], "ROLE=NAME"),
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
    check_mistake(_train, corpus, tmp_path, argv, message)


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
