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
from tests.corpora import commit
from tests.recognition import make_inputs
from trainers import bookkeeping
from trainers.action import runner
from trainers.action.__main__ import main
from trainers.action.evaluation import METRICS
from trainers.report import main as report

SMALL = ["--width", "16", "--batch-size", "8", "--epochs", "3", "--lr", "0.003"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_action_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def noisy(corpus: tuple[Path, Path]) -> tuple[Path, Path]:
    return make_noisy(corpus[0]), corpus[1]


def _train(corpus: tuple[Path, Path], runs: Path, *more: str) -> int:
    manifest, store = corpus
    common = ["--manifest", str(manifest), "--store", str(store), "--runs", str(runs)]
    return main([*common, *FEATURES, "--threads", "1", *more])


def _only(runs: Path) -> Path:
    (run,) = [done.parent for done in runs.rglob("DONE")]
    return run


def _results(runs: Path) -> dict:
    return json.loads((_only(runs) / "results.json").read_text())


def test_a_run_leaves_what_the_contract_says(
    noisy: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _train(noisy, tmp_path, "--method", "ce", *SMALL) == 0
    run = _only(tmp_path)
    assert {p.name for p in run.iterdir()} == {
        "config.json", "environment.json", "metrics.jsonl", "results.json", "predictions.h5",
        "checkpoint.pt", "DONE",
    }  # fmt: skip
    results = json.loads((run / "results.json").read_text())
    assert set(results) == {
        "schema", "task", "method", "seed", "as_released", "supervision", "needs", "filter",
        "annotations", "schedule", "updates", "dataset", "features", "noise", "metrics",
        "selection", "seconds", "peak_memory_bytes", "threads", "passes", "classes",
        "train_videos",
    }  # fmt: skip
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
    with h5py.File(_only(tmp_path) / "labels.h5") as file:
        assert {"id", "keep", "weight_visual", "weight_audio", "corrected"} <= set(file)
        assert {file[key].shape for key in ("id", "keep", "weight_audio", "corrected")} == {(40,)}
        corrected = file["corrected"][:]
        ids = file["id"].asstr()[:]
    train = _results(tmp_path)["metrics"]["train"]
    assert {"detect/auroc", "detect/pair/auroc", "corrected/overall", "corrected/flipped"} <= set(
        train
    )
    clean = [int(row_id.removeprefix("train")) % 5 for row_id in ids]
    assert train["corrected/overall"] == pytest.approx(100 * float(np.mean(corrected == clean)))


def test_finished_runs_are_found_and_seeds_are_separate(
    noisy: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert _train(noisy, tmp_path, "--method", "ce", *SMALL) == 0
    stamp = (_only(tmp_path) / "DONE").stat().st_mtime_ns
    assert _train(noisy, tmp_path, "--method", "ce", *SMALL, "--seed", "0", "1") == 0
    printed = capsys.readouterr()
    assert "nothing to train" in printed.err
    assert "±" in printed.out
    runs = sorted(done.parent for done in tmp_path.rglob("DONE"))
    assert len(runs) == 2
    assert stamp in [(run / "DONE").stat().st_mtime_ns for run in runs]


def test_a_killed_run_resumes_and_ends_with_the_same_numbers(
    noisy: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _train(noisy, tmp_path / "whole", "--method", "ce", *SMALL) == 0
    monkeypatch.setattr(runner.train, "__kwdefaults__", {
        **runner.train.__kwdefaults__, "checkpoint_seconds": 0.0
    })  # fmt: skip
    original = bookkeeping.Bookkeeper.__call__
    calls = []

    def dying(self: object, *args: object, **log: float) -> bool:
        selected = original(self, *args, **log)
        calls.append(args[:2])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return selected

    monkeypatch.setattr(bookkeeping.Bookkeeper, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        _train(noisy, tmp_path / "cut", "--method", "ce", *SMALL)
    assert not list((tmp_path / "cut").rglob("DONE"))
    assert _train(noisy, tmp_path / "cut", "--method", "ce", *SMALL) == 0
    assert len(calls) == 3, "finished epochs were trained again"
    whole, cut = (_only(tmp_path / name) for name in ("whole", "cut"))
    assert whole.name == cut.name
    one, other = (json.loads((run / "results.json").read_text()) for run in (whole, cut))
    assert one["metrics"] == other["metrics"]
    assert one["selection"] == other["selection"]
    with h5py.File(whole / "predictions.h5") as a, h5py.File(cut / "predictions.h5") as b:
        np.testing.assert_array_equal(a["test/last/logits"], b["test/last/logits"])
    logs = [(run / "metrics.jsonl").read_text().splitlines() for run in (whole, cut)]
    assert len(logs[0]) == len(logs[1])


def test_a_checkpoint_scores_as_its_run_did(
    noisy: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    manifest, store = noisy
    _train(noisy, tmp_path, "--method", "ce", *SMALL)
    results = _results(tmp_path)
    common = ["--checkpoint", str(_only(tmp_path) / "checkpoint.pt"), "--manifest", str(manifest),
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
        ["--predict", "--checkpoint", str(_only(tmp_path / "runs") / "checkpoint.pt"),
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
    results = _results(tmp_path / "runs")
    assert results["train_videos"] == 38
    assert results["metrics"]["test"]["last"]["video@1"] == pytest.approx(100 * 17 / 20)
    assert results["metrics"]["test"]["last"]["clip@5"] == pytest.approx(100 * 17 / 20)
    with h5py.File(_only(tmp_path / "runs") / "predictions.h5") as file:
        assert not file["test/last/valid"][3].any()
        assert file["test/last/valid"][2].all()
    with pytest.raises(UserError, match="'train0' first"):
        _train(corpus, tmp_path / "other", "--method", "ce", *SMALL, "--missing", "error")
    assert _train(corpus, tmp_path / "zero", "--method", "ce", *SMALL, "--missing", "zero") == 0
    assert _results(tmp_path / "zero")["train_videos"] == 40


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_no_noise_and_nothing_but_noise_can_be_trained_on(
    corpus: tuple[Path, Path], tmp_path: Path, rate: float
) -> None:
    manifest = make_noisy(corpus[0], label=rate, audio=rate, name=f"rate{rate:g}")
    for method in ("ce", "ntl"):
        assert _train((manifest, corpus[1]), tmp_path / method, "--method", method, *SMALL) == 0
        results = _results(tmp_path / method)
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
    results = _results(tmp_path / "runs")
    assert set(results["metrics"]["val"].values()) == {None}
    assert set(results["metrics"]["test"]["selected"].values()) == {None}
    assert results["metrics"]["test"]["last"]["clip@1"] > 0
    saved = torch.load(_only(tmp_path / "runs") / "checkpoint.pt", weights_only=True)
    for name, value in saved["last"].items():
        assert torch.equal(saved["selected"][name], value), "either may be loaded"


@pytest.mark.parametrize(("dataset", "near"), [("mini-kinetics-10", 32), ("ucf101-51", 16)])
def test_kinetics_has_the_papers_number_of_neighbours(
    dataset: str, near: int, tmp_path: Path
) -> None:
    corpus = write_action_corpus(tmp_path / "corpus", dataset=dataset)
    for name, wanted, options in (("a", near, []), ("b", 5, ["--neighbor-count", "5"])):
        _train(corpus, tmp_path / name, "--method", "xdc_star", *SMALL, *options)
        config = json.loads((_only(tmp_path / name) / "config.json").read_text())
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
        (["--method", "ce", "--features", "audio=sound"], "visual=NAME"),
        (["--method", "ce", *FEATURES, "motion=sight"], "no role 'motion'"),
        (["--method", "ce", *FEATURES, "--batch-size", "41"], "do not fill one batch of 41"),
        (["--method", "ce", *FEATURES, "--proj", "deep"], "deep"),
        (["--method", "ce", *FEATURES, "--detect-every", "-1"], "--detect-every -1"),
        (["--method", "ce", "--device", "tpu9"], "no device"),
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
    manifest, store = corpus
    common = ["--manifest", str(manifest), "--store", str(store), "--runs", str(tmp_path)]
    with pytest.raises(UserError, match=message) as found:
        main([*common, *argv])
    assert "\n" not in str(found.value)
    assert not list(tmp_path.rglob("config.json")), "work had begun"


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
