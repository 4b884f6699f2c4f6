"""Building the corpus: what it writes, that it resumes, and what it refuses."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.demo import CORPUS_VERSION, build_corpus, default_corpus_folder
from pipeline.demo.__main__ import main
from pipeline.demo.timelines import SECONDS, draw_timeline
from pipeline.errors import UserError
from pipeline.files import data_dir
from pipeline.manifest import dense_matrices, read_dense, read_manifest

SIZES = {"train": 3, "val": 2, "test": 2}


class Tally:
    """Counts what the work reports."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def advance(self, status: str = "ok", n: int = 1) -> None:
        self.counts[status] += n


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    return build_corpus(folder, **SIZES, workers=2)


def _build(manifest: Path, **options: int) -> Counter[str]:
    tally = Tally()
    build_corpus(manifest.parent, **(SIZES | options), workers=1, progress=tally)
    return tally.counts


def test_manifest_and_files(corpus: Path) -> None:
    manifest = read_manifest(corpus)
    assert manifest.header.dataset == "demo-avvp"
    assert manifest.header.label_type == "multilabel"
    identity = {"name": "demo-avvp", "version": CORPUS_VERSION, "seed": 0}
    assert manifest.header.corpus == identity | SIZES
    for split, size in SIZES.items():
        rows = manifest.split(split)
        assert len(rows) == size
        for index, row in enumerate(rows):
            assert row.labels == draw_timeline(0, split, index).labels()
            assert row.labels_audio is None
            assert row.labels_visual is None
            assert (row.start, row.end) == (0, SECONDS)
            assert manifest.media_path(row).stat().st_size > 10_000
    assert not list(corpus.parent.rglob("*.tmp"))


def test_dense_annotations_hold_val_and_test_only(corpus: Path) -> None:
    manifest = read_manifest(corpus)
    splits = {manifest[event.id].split for event in read_dense(manifest)}
    assert splits == {"val", "test"}
    rows = manifest.split("val", "test")
    audio, visual = dense_matrices(manifest, rows)
    labels = manifest.label_matrix(rows)
    assert ((audio | visual).any(axis=1) == labels).all()
    assert audio[0].sum() == draw_timeline(0, "val", 0).audio.sum()
    assert visual[0].sum() == draw_timeline(0, "val", 0).visual.sum()


def test_truth_holds_training_clips_only(corpus: Path) -> None:
    lines = (corpus.parent / "manifest.truth.jsonl").read_text().splitlines()
    truth = [json.loads(line) for line in lines]
    rows = read_manifest(corpus).split("train")
    assert [line["id"] for line in truth] == [row.id for row in rows]
    for line, row in zip(truth, rows, strict=True):
        assert set(line["labels_audio"]) | set(line["labels_visual"]) == set(row.labels)
        for modality, onset, offset, label in line["events"]:
            assert 0 <= onset < offset <= SECONDS
            assert label in line[f"labels_{modality}"]


def test_finished_corpus_is_found(corpus: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in corpus.parent.rglob("*")}
    assert _build(corpus) == {"skipped": 7}
    assert before == {p: p.stat().st_mtime_ns for p in corpus.parent.rglob("*")}


@pytest.mark.parametrize("damage", ["deleted", "cut short"])
def test_only_what_is_missing_is_rendered_again(corpus: Path, damage: str) -> None:
    video = corpus.parent / "videos" / "val-00001.mp4"
    others = {p: p.stat().st_mtime_ns for p in video.parent.iterdir() if p != video}
    size = video.stat().st_size
    if damage == "deleted":
        video.unlink()
    else:
        video.write_bytes(video.read_bytes()[:1000])
    assert _build(corpus) == {"skipped": 6, "ok": 1}
    assert video.stat().st_size == size
    assert others == {p: p.stat().st_mtime_ns for p in others}


def test_interrupted_build_goes_on(tmp_path: Path) -> None:
    class Stop(Tally):
        def advance(self, status: str = "ok", n: int = 1) -> None:
            super().advance(status, n)
            if self.counts["ok"] == 2:
                raise KeyboardInterrupt

    sizes = {"train": 3, "val": 0, "test": 0}
    with pytest.raises(KeyboardInterrupt):
        build_corpus(tmp_path, **sizes, workers=1, progress=Stop())
    assert not (tmp_path / "manifest.jsonl").exists()
    tally = Tally()
    build_corpus(tmp_path, **sizes, workers=1, progress=tally)
    assert tally.counts == {"skipped": 2, "ok": 1}


def test_corpus_grows_and_shrinks_without_rendering_twice(tmp_path: Path, corpus: Path) -> None:
    small = build_corpus(tmp_path, train=1, val=0, test=0, workers=1)
    assert len(read_manifest(small)) == 1
    first = (tmp_path / "videos" / "train-00000.mp4").read_bytes()
    # The same clip in a corpus of another size, rendered in another process.
    assert first == (corpus.parent / "videos" / "train-00000.mp4").read_bytes()
    tally = Tally()
    build_corpus(tmp_path, train=2, val=0, test=0, workers=1, progress=tally)
    assert tally.counts == {"skipped": 1, "ok": 1}
    build_corpus(tmp_path, train=1, val=0, test=0, workers=1)
    assert len(read_manifest(small)) == 1
    tally = Tally()
    build_corpus(tmp_path, train=2, val=0, test=0, workers=1, progress=tally)
    assert tally.counts == {"skipped": 2}
    assert len(read_manifest(small)) == 2


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"seed": 1}, "--out"),
        ({"seed": -1}, "--seed"),
        ({"val": -1}, "--val"),
    ],
)
def test_mistakes_are_refused(corpus: Path, options: dict[str, int], remedy: str) -> None:
    with pytest.raises(UserError, match=remedy):
        build_corpus(corpus.parent, **(SIZES | options), workers=1)


def test_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    for content in ("no json", "[]", '{"name": "demo-avvp", "version": 2, "seed": 0, "files": 3}'):
        (tmp_path / "corpus.json").write_text(content)
        with pytest.raises(UserError, match="delete the folder"):
            build_corpus(tmp_path, **SIZES, workers=1)


def test_corpus_of_another_version_is_refused(tmp_path: Path) -> None:
    record = {"name": "demo-avvp", "version": CORPUS_VERSION - 1, "seed": 0, "files": {}}
    (tmp_path / "corpus.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"holds version {CORPUS_VERSION - 1}.*delete the folder"):
        build_corpus(tmp_path, **SIZES, workers=1)


def test_command(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = [part for name, size in SIZES.items() for part in (f"--{name}", str(size))]
    assert main(["--out", str(corpus.parent), *sizes]) == 0
    assert capsys.readouterr().out.strip() == str(corpus)
    assert default_corpus_folder() == data_dir() / "demo-avvp"
