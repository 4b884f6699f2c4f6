"""`python -m trainers.action` from the command line down to the files it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from features.store import Store
from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row, read_manifest, write_manifest
from tests.action_corpora import FEATURES, make_noisy, write_action_corpus
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
from tests.corpora import commit
from tests.recognition import make_inputs
from trainers.action import runner
from trainers.action.__main__ import main
from trainers.action.evaluation import METRICS
from trainers.report import main as report

SMALL = ["--width", "16", "--batch-size", "8", "--epochs", "3", "--lr", "0.003"]
_train = Trainer(main, runner.train, FEATURES)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_action_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def noisy(corpus: tuple[Path, Path]) -> tuple[Path, Path]:
    return make_noisy(corpus[0]), corpus[1]


def test_a_run_leaves_what_the_contract_says(
    noisy: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _train(noisy, tmp_path, "--method", "ce", *SMALL) == 0
    run = only(tmp_path)
    assert {p.name for p in run.iterdir()} == RUN_FILES
    results = json.loads((run / "results.json").read_text())
    assert set(results) == RESULTS | {"passes", "classes", "train_videos"}
    assert (results["task"], results["method"], results["schedule"]) == ("action", "ce", "paper")
    assert (results["passes"], results["updates"]) == (3, 3 * 5)
    assert (results["classes"], results["train_videos"]) == (5, 40)
    assert [n["kind"] for n in results["noise"]] == ["symmetric", "correspondence"]
    assert set(results["metrics"]["test"]) == {"last", "selected", "oracle"}
    for block in (results["metrics"]["val"], *results["metrics"]["test"].values()):
        assert set(block) == set(METRICS)
        assert all(0 <= value <= 100 for value in block.values())
        assert block["clip@5"] == 100.0, "there are five classes"
    train = results["metrics"]["train"]
    for judged in ("label", "pair"):
        assert {f"detect/{judged}/{m}" for m in ("auroc", "ap", "precision")} <= set(train)
    assert "detect/auroc" not in train, "ce has no criterion of its own"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(x["phase"], x["epoch"]) for x in lines] == [("train", e) for e in (1, 2, 3)]
    assert lines[-1]["train"] == train
    assert lines[-1]["test"] == results["metrics"]["test"]["last"]
    best = max(x["test"]["clip@1"] for x in lines)
    assert results["metrics"]["test"]["oracle"]["clip@1"] == best
    oracle = results["selection"]["oracle_epoch"]
    assert lines[oracle - 1]["test"] == results["metrics"]["test"]["oracle"]
    assert results["selection"]["value"] == max(x["val"]["clip@1"] for x in lines)
    with h5py.File(run / "predictions.h5") as file:
        assert set(file) == {"val", "test"}
        assert set(file["test"]) == {"last", "selected"}
        group = file["test/last"]
        assert group["logits"].shape == (20, 3, 5)
        assert group["valid"][:].all()
        assert group["id"].asstr()[0] == "test0"
    assert torch.load(run / "checkpoint.pt", weights_only=True)["method"] == "ce"
    out = capsys.readouterr().out
    assert "frozen features" in out
    assert "oracle epoch" in out
    assert str(run) in out


def test_a_method_that_judges_writes_labels_and_is_scored(
    noisy: tuple[Path, Path], tmp_path: Path
) -> None:
    small = [*SMALL, "--knn", "4", "--warmup", "1"]
    assert _train(noisy, tmp_path, "--method", "ntl", *small) == 0
    with h5py.File(only(tmp_path) / "labels.h5") as file:
        assert {"id", "keep", "weight_visual", "weight_audio", "corrected"} <= set(file)
        assert {file[key].shape for key in ("id", "keep", "weight_audio", "corrected")} == {(40,)}
        corrected = file["corrected"][:]
        ids = file["id"].asstr()[:]
    train = results_of(tmp_path)["metrics"]["train"]
    assert {"detect/auroc", "detect/pair/auroc", "corrected/overall", "corrected/flipped"} <= set(
        train
    )
    clean = [int(row_id.removeprefix("train")) % 5 for row_id in ids]
    assert train["corrected/overall"] == pytest.approx(100 * float(np.mean(corrected == clean)))


def test_finished_runs_are_found_and_seeds_are_separate(
    noisy: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    check_finished_runs(_train, noisy, tmp_path, ["--method", "ce", *SMALL], capsys)


def test_a_killed_run_resumes_and_ends_with_the_same_numbers(
    noisy: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ["--method", "ce", *SMALL]
    check_killed_run(_train, noisy, tmp_path, argv, monkeypatch, after=2)


def test_a_checkpoint_scores_as_its_run_did(
    noisy: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    manifest, store = noisy
    _train(noisy, tmp_path, "--method", "ce", *SMALL)
    results = results_of(tmp_path)
    common = ["--checkpoint", str(only(tmp_path) / "checkpoint.pt"), "--manifest", str(manifest),
              "--evaluate", "--store", str(store)]  # fmt: skip
    for which in ("last", "selected"):
        out = tmp_path / "scores.json"
        assert main([*common, "--which", which, "--out", str(out)]) == 0
        scores = json.loads(out.read_text())["metrics"]
        assert scores["test"] == results["metrics"]["test"][which]
    assert scores["val"] == results["metrics"]["val"]
    assert "clip@1" in capsys.readouterr().out
    with pytest.raises(UserError, match="holds weights of ce, not ntl"):
        main([*common, "--method", "ntl"])
    other = read_manifest(manifest)
    path = tmp_path / "other.jsonl"
    write_manifest(other.with_rows(other.rows, classes=(*other.classes, "more"), noise=()), path)
    with pytest.raises(UserError, match="those of"):
        main([*common[:3], str(path), *common[4:]])


def test_unlabelled_videos_get_their_likely_classes(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    _, store = corpus
    assert _train(corpus, tmp_path / "runs", "--method", "ce", *SMALL, "--epochs", "20") == 0
    rows = tuple(Row(id=f"new{n}", start=0, end=10, split="test", labels=()) for n in range(6))
    unlabelled = write_manifest(
        Manifest(Header("mine", "none", ()), rows), tmp_path / "unlabelled.jsonl"
    )
    inputs = make_inputs(np.arange(6) % 5, seed=12)
    for name, x in (("sound", inputs.audio), ("sight", inputs.visual)):
        commit(Store(store), name, unlabelled, x.numpy(), {"new5"} if name == "sight" else set())
    out = tmp_path / "classes.tsv"
    code = main(
        ["--predict", "--checkpoint", str(only(tmp_path / "runs") / "checkpoint.pt"),
         "--manifest", str(tmp_path / "unlabelled.jsonl"), "--store", str(store), "--out", str(out)]
    )  # fmt: skip
    assert code == 2, "one video has no features"
    assert "no features: new5" in capsys.readouterr().out
    lines = [line.split("\t") for line in out.read_text().splitlines()]
    assert lines[0] == ["id", "rank", "label", "probability"]
    assert len(lines) == 1 + 5 * 5
    first = {row_id: label for row_id, rank, label, _ in lines[1:] if rank == "1"}
    assert first == {f"new{n}": f"class {n}" for n in range(5)}
    for n in range(5):
        shares = [float(line[3]) for line in lines[1:] if line[0] == f"new{n}"]
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_videos_without_features_are_not_trained_on_and_count_as_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    corpus = write_action_corpus(
        tmp_path, failed=("train0", "test3"), deaf=("train1", "test4", "test5")
    )
    long = [*SMALL, "--epochs", "30"]
    assert _train(corpus, tmp_path / "runs", "--method", "ce", *long) == 0
    assert "2 train, 3 test" in capsys.readouterr().err
    results = results_of(tmp_path / "runs")
    assert results["train_videos"] == 38
    assert results["metrics"]["test"]["last"]["video@1"] == pytest.approx(100 * 17 / 20)
    assert results["metrics"]["test"]["last"]["clip@5"] == pytest.approx(100 * 17 / 20)
    with h5py.File(only(tmp_path / "runs") / "predictions.h5") as file:
        assert not file["test/last/valid"][3].any()
        assert file["test/last/valid"][2].all()
    with pytest.raises(UserError, match="'train0' first"):
        _train(corpus, tmp_path / "other", "--method", "ce", *SMALL, "--missing", "error")
    assert _train(corpus, tmp_path / "zero", "--method", "ce", *SMALL, "--missing", "zero") == 0
    assert results_of(tmp_path / "zero")["train_videos"] == 40


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_no_noise_and_nothing_but_noise_can_be_trained_on(
    corpus: tuple[Path, Path], tmp_path: Path, rate: float
) -> None:
    manifest = make_noisy(corpus[0], label=rate, audio=rate, name=f"rate{rate:g}")
    for method in ("ce", "ntl"):
        assert _train((manifest, corpus[1]), tmp_path / method, "--method", method, *SMALL) == 0
        results = results_of(tmp_path / method)
        assert [n["realised"]["overall"] for n in results["noise"]] == [rate, rate]
        assert "detect/label/auroc" not in results["metrics"].get("train", {})


def test_without_validation_no_epoch_is_selected(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    corpus = write_action_corpus(tmp_path, sizes=(24, 0, 10))
    assert _train(corpus, tmp_path / "runs", "--method", "ce", *SMALL) == 0
    out = capsys.readouterr().out
    assert "no validation videos" in out
    assert "selected epoch" not in out
    results = results_of(tmp_path / "runs")
    assert set(results["metrics"]["val"].values()) == {None}
    assert set(results["metrics"]["test"]["selected"].values()) == {None}
    assert results["selection"]["epoch"] is None
    assert results["metrics"]["test"]["last"]["clip@1"] > 0
    saved = torch.load(only(tmp_path / "runs") / "checkpoint.pt", weights_only=True)
    for name, value in saved["last"].items():
        assert torch.equal(saved["selected"][name], value), "either may be loaded"


def test_without_epochs_nothing_is_said_to_be_selected(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _train(corpus, tmp_path, "--method", "ce", *SMALL, "--epochs", "0") == 0
    out = capsys.readouterr().out
    assert "0 updates); nothing is trained" in out
    assert "no validation videos" not in out


def test_scores_tell_of_missing_and_of_other_features(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    corpus = write_action_corpus(tmp_path, failed=("train0", "test3"), deaf=("test4",))
    assert _train(corpus, tmp_path / "runs", "--method", "ce", *SMALL) == 0
    manifest = read_manifest(corpus[0])
    rows = make_inputs(np.zeros(len(manifest), dtype=int), seed=3, clips=3)
    commit(Store(corpus[1]), "hum", manifest, rows.audio.numpy(), set())
    checkpoint = str(only(tmp_path / "runs") / "checkpoint.pt")
    common = ["--evaluate", "--checkpoint", checkpoint, "--manifest", str(corpus[0]),
              "--store", str(corpus[1])]  # fmt: skip
    capsys.readouterr()
    counted = "clips without features: {} test (predicted as nothing)\n"
    for options in ([], FEATURES):
        assert main([*common, *options]) == 0
        assert capsys.readouterr().err == counted.format(2)
    assert main([*common, "--features", "audio=hum", "visual=sight"]) == 0
    said, count = capsys.readouterr().err.splitlines(keepends=True)
    assert count == counted.format(1)
    used = results_of(tmp_path / "runs")["features"]["audio"]
    hum = Store(corpus[1]).find("hum").label
    assert f"trained on audio={used} and are given audio={hum};" in said
    table = ["--predict", *common[1:], "--features", "audio=hum", "visual=sight"]
    assert main([*table, "--out", str(tmp_path / "table.tsv")]) == 2
    assert capsys.readouterr().err == said


def test_training_videos_without_any_feature_are_refused(tmp_path: Path) -> None:
    failed = [f"train{n}" for n in range(8)]
    corpus = write_action_corpus(tmp_path, sizes=(8, 4, 4), failed=failed)
    with pytest.raises(UserError, match=r"No training video has features .*features ls"):
        _train(corpus, tmp_path / "runs", "--method", "ce", *SMALL)


def test_a_manifest_of_test_rows_is_enough_to_score_weights(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    _train(corpus, tmp_path / "runs", "--method", "ce", *SMALL)
    whole = read_manifest(corpus[0])
    alone = corpus[0].with_name("alone.jsonl")
    write_manifest(whole.with_rows(whole.split("test")), alone)
    checkpoint, out = only(tmp_path / "runs") / "checkpoint.pt", tmp_path / "scores.json"
    assert main(["--evaluate", "--checkpoint", str(checkpoint), "--manifest", str(alone),
                 "--store", str(corpus[1]), "--out", str(out)]) == 0  # fmt: skip
    scores = json.loads(out.read_text())["metrics"]
    assert scores["test"] == results_of(tmp_path / "runs")["metrics"]["test"]["last"]
    assert set(scores["val"].values()) == {None}
    with pytest.raises(UserError, match="no training rows"):
        _train((alone, corpus[1]), tmp_path / "none", "--method", "ce", *SMALL)


@pytest.mark.parametrize(("dataset", "near"), [("mini-kinetics-10", 32), ("ucf101-51", 16)])
def test_kinetics_has_the_papers_number_of_neighbours(
    dataset: str, near: int, tmp_path: Path
) -> None:
    corpus = write_action_corpus(tmp_path / "corpus", dataset=dataset)
    for name, wanted, options in (("a", near, []), ("b", 5, ["--neighbor-count", "5"])):
        _train(corpus, tmp_path / name, "--method", "xdc_star", *SMALL, *options)
        config = json.loads((only(tmp_path / name) / "config.json").read_text())
        assert config["hyperparameters"]["neighbor_count"] == wanted


def test_a_seed_named_twice_is_one_run(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _train(corpus, tmp_path, "--method", "ce", *SMALL, "--seed", "1", "1") == 0
    assert capsys.readouterr().out.count("written:") == 1


def test_the_report_has_tables_of_every_format_and_a_comparison(
    corpus: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    runs = tmp_path / "runs"
    for seed in (0, 1):
        path = make_noisy(corpus[0], seed=seed, name=f"noisy{seed}")
        for method in ("ce", "mrl"):
            _train((path, corpus[1]), runs, "--method", method, *SMALL, "--seed", str(seed))
    capsys.readouterr()
    assert report([str(runs), "--paired-to", "ce"]) == 0
    text = capsys.readouterr().out
    assert "symmetric 40 %, correspondence 25 %" in text
    assert "40.0 + 25.0" in text
    assert "difference to ce, clip@1, test, last epoch" in text
    assert "frozen features" in text
    assert "noise found in the training data" in text
    out = tmp_path / "table.md"
    assert report([str(runs), "--format", "markdown", "--out", str(out)]) == 0
    rows = [line for line in out.read_text().splitlines() if line.startswith("| ce")]
    assert "±" in rows[0]
    assert rows[0].split("|")[5].strip() == "2", "two noise seeds are one row"
    assert report([str(runs), "--format", "csv"]) == 0
    assert "clip@1,clip@1 se,clip@1 sd" in capsys.readouterr().out
    with pytest.raises(UserError, match="'clip@1'"):
        report([str(runs), "--paired-to", "ce", "--metric", "clip@2"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--method", "c3"], "'ce'"),
        (["--method", "ce", "--learning-rate", "1"], "no option '--learning-rate'"),
        (["--method", "ce", "--features", "panns"], "ROLE=NAME"),
        (["--method", "ce", "--features", "=panns"], "ROLE=NAME"),
        (["--method", "ce", "--features", "audio=sound"], "visual=NAME"),
        (["--method", "ce", *FEATURES, "motion=sight"], "no role 'motion'"),
        (["--method", "ce", *FEATURES, "--batch-size", "41"], "do not fill one batch of 41"),
        (["--method", "ce", *FEATURES, "--proj", "deep"], "deep"),
        (["--method", "ce", *FEATURES, "--detect-every", "-1"], "--detect-every -1"),
        (["--method", "ce", "--device", "tpu9"], "no device"),
        (["--method", "ce", "--threads", "-4"], "--threads: '-4' is not a whole number from 1"),
        (["--method", "ce", "--threads", "0"], "--threads: '0' is not a whole number from 1"),
        (["--method", "ce", "--seed", "0", "-1"], "--seed: '-1' is not a whole number from 0"),
        (["--method", "ce", "--seed", str(2**63)], "from 0 to 9223372036854775807"),
        (["--method"], "--method: expected one argument"),
        (["--method", "ntl", *FEATURES, "--batch-size", "4"], "--queue"),
        (
            ["--method", "ntl", *FEATURES, "--batch-size", "8", "--epochs", "3", "--warmup", "3"],
            "warmup 3 leaves none",
        ),
        ([], "--list-methods"),
        (["--epochs", "2"], "no option '--epochs'; .* --method"),
        (["--evaluate"], "--checkpoint FILE"),
        (["--evaluate", "--checkpoint", "nowhere.pt"], "no checkpoint"),
    ],
)
def test_mistakes_end_with_one_sentence(
    corpus: tuple[Path, Path], tmp_path: Path, argv: list[str], message: str
) -> None:
    check_mistake(_train, corpus, tmp_path, argv, message)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": ["ce"]}, r'method to \["ce"\]; give text'),
        ({"method": "c3"}, "'ce'"),
        ({"method": "ce", "schedule": "fast"}, 'schedule to "fast"; give one of paper, demo'),
        ({"method": "ce", "missing": "ignore"}, "give one of drop, zero, error"),
        ({"method": "ce", "epochs": "three"}, 'epochs to "three"; give a whole number'),
        ({"method": "ce", "epochs": None}, "epochs to null; give a whole number"),
        ({"method": "ce", "lr": [0.1]}, r"lr to \[0.1\]; give a number"),
        ({"method": "ce", "seed": -1}, "seed to -1; give a whole number from 0"),
        ({"method": "ntl", "proj": "deep"}, 'proj to "deep"; give one of linear, mlp'),
    ],
)
def test_a_configuration_is_held_to_what_the_command_line_takes(
    corpus: tuple[Path, Path], tmp_path: Path, values: dict, message: str
) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(values))
    check_mistake(_train, corpus, tmp_path, ["--config", str(path)], message)


def test_a_configuration_trains_what_its_options_would(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    values = dict(zip((name[2:] for name in SMALL[::2]), map(float, SMALL[1::2]), strict=True))
    values = {name: int(value) if value.is_integer() else value for name, value in values.items()}
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"method": "ce", "seed": 1, "detect-every": 0, **values}))
    _train(corpus, tmp_path / "file", "--config", str(path))
    asked = ["--method", "ce", "--seed", "1", "--detect-every", "0", *SMALL]
    _train(corpus, tmp_path / "options", *asked)
    assert only(tmp_path / "file").name == only(tmp_path / "options").name


def test_a_missing_store_and_other_labels_are_refused(
    corpus: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest, store = corpus
    with pytest.raises(UserError, match=r"flows\.extract"):
        main(["--method", "ce", "--manifest", str(manifest), "--store", str(tmp_path / "no")])
    for kind, labels in (("none", ()), ("multilabel", ("a", "b"))):
        rows = (Row(id="a", start=0, end=10, split="train", labels=labels),)
        path = tmp_path / f"{kind}.jsonl"
        write_manifest(Manifest(Header("mine", kind, labels), rows), path)
        with pytest.raises(UserError, match="multiclass manifest"):
            main(["--method", "ce", "--manifest", str(path), "--store", str(store)])
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="no checkpoint of"):
        main(["--evaluate", "--checkpoint", str(broken), "--manifest", str(manifest),
              "--store", str(store)])  # fmt: skip


def test_all_methods_are_listed(capsys: pytest.CaptureFixture) -> None:
    assert main(["--list-methods"]) == 0
    out = capsys.readouterr().out
    names = ("ce", "ntl", "gblend", "mrl", "xdc_star", "avr", "adamml", "dividemix", "coteaching")
    for name in names:
        assert name in out
