"""Commands of ``python -m pipeline.manifest``, and what validate and stats say."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import run
from pipeline.decode import MediaInfo
from pipeline.errors import MediaError, UserError
from pipeline.manifest import Header, Manifest, Row, read_manifest, write_dense, write_manifest
from pipeline.manifest.__main__ import main
from pipeline.manifest.files import DenseEvent
from pipeline.manifest.report import check_media, manifest_stats, print_stats, validate

SAMPLE = Path(__file__).parents[1] / "data" / "llp_sample"


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two classes; a clip of each kind of presence; times beyond the first segment grid."""
    events = [
        DenseEvent("v1", "audio", 0, 4, "Dog"),
        DenseEvent("v1", "audio", 4, 5, "Dog"),
        DenseEvent("v1", "audio", 7, 8, "Dog"),
        DenseEvent("v1", "visual", 2, 6, "[b]"),
        DenseEvent("v1", "audio", 2, 3, "[b]"),
        DenseEvent("v2", "visual", 0, 12, "Dog"),
    ]
    header = Header(
        "toy", "multilabel", ("Dog", "[b]"), annotations=write_dense(events, tmp_path / "toy.tsv")
    )
    rows = (
        Row("t1", 0, 10, "train", ("Dog",), video="t.mp4"),
        Row("t2", 10, 20, "train", ("Dog", "[b]"), video="t.mp4"),
        Row("v1", 0, 12, "val", ("Dog", "[b]"), video="v1.mp4"),
        Row("v2", 0, 12, "val", ("[b]",), video="v2.mp4"),
        Row("p", 0, 1, "pool", (), video=None),
    )
    return write_manifest(Manifest(header, rows), tmp_path / "toy.jsonl")


def test_stats_by_hand(manifest: Manifest) -> None:
    stats = manifest_stats(manifest)
    assert list(stats) == ["train", "val", "pool"]
    train, val = stats["train"], stats["val"]
    assert (train.clips, train.sources, train.seconds) == (2, 1, 20)
    assert dict(train.labels) == {1: 1, 2: 1}
    assert train.classes.tolist() == [2, 1]
    assert train.dense is None
    assert stats["pool"].dense is None
    dense = val.dense
    assert dense.segments == (5 + 1 + 1, 4 + 12, 1)
    # Dog's first two annotations touch and are one run; [b] is heard and seen once.
    assert dense.events == (3, 2, 1)
    assert dense.silent == (1, 0, 1)
    # Labels: v1 Dog (audio), v1 [b] (both), v2 [b] (neither).
    assert dense.presence.tolist() == [[1, 0, 0, 0], [0, 0, 1, 1]]
    assert dense.unlabelled == (0, 1)
    assert dense.fill == pytest.approx((7 / 24, 16 / 24))


def test_stats_are_printed_whole(manifest: Manifest) -> None:
    stream = io.StringIO()
    print_stats(manifest, stream)
    text = stream.getvalue()
    lines = [line.split() for line in text.splitlines()]
    assert ["train", "2", "1", "0.01", "1:", "1,", "2:", "1"] in lines
    assert ["Dog", "2", "1", "0", "1.000", "0.000", "0.000", "0.000"] in lines
    # A class name in square brackets is no markup.
    assert ["[b]", "1", "2", "0", "0.000", "0.000", "0.500", "0.500"] in lines
    assert ["labels", "that", "hold", "both", "1"] in lines
    assert manifest.content_digest() in text


def test_stats_without_annotations_or_labels(tmp_path: Path) -> None:
    rows = (Row("a", 0, 10, "test", ()),)
    manifest = write_manifest(Manifest(Header("x", "none", ()), rows), tmp_path / "m.jsonl")
    stream = io.StringIO()
    print_stats(manifest, stream)
    assert "dense" not in stream.getvalue()
    assert ["test", "1", "1", "0.00", "0:", "1"] in [
        line.split() for line in stream.getvalue().splitlines()
    ]


def test_validate_summarises(manifest: Manifest) -> None:
    result = validate(manifest.path)
    assert result.events == 6
    assert result.summary() == (
        "toy.jsonl is valid: 5 clips (train 2, val 2, pool 1); 2 classes, multilabel; "
        "6 dense events"
    )


def test_validate_reads_the_annotations_too(manifest: Manifest) -> None:
    with (manifest.folder / "toy.tsv").open("a") as file:
        file.write("v1\taudio\t0\t1\tDog\n")
    with pytest.raises(UserError, match="were changed after the manifest was made"):
        validate(manifest.path)


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


@pytest.fixture
def media(monkeypatch: pytest.MonkeyPatch) -> dict[str, MediaInfo | MediaError]:
    """What files seem to hold, by name; 20 s of both where nothing is given."""
    known: dict[str, MediaInfo | MediaError] = {}

    def probe(path: Path) -> MediaInfo:
        found = known.get(Path(path).name, _info(20.0))
        if isinstance(found, MediaError):
            raise found
        return found

    monkeypatch.setattr("pipeline.decode.probe", probe)
    return known


def _info(
    duration: float | None, video: str | None = "h264", audio: str | None = "aac"
) -> MediaInfo:
    return MediaInfo(duration, 64, 48, 0, 25.0, 16000, video, audio)


def test_missing_media_are_one_sentence(manifest: Manifest, media: dict) -> None:
    _touch(manifest.folder, "t.mp4")
    with pytest.raises(UserError) as error:
        check_media(manifest)
    text = str(error.value)
    assert text.startswith("2 of 3 videos are not there, first 'v1.mp4' (line 4); put them under ")
    assert text.endswith("or correct media_root in the header.")


def test_media_that_cannot_serve_are_found(manifest: Manifest, media: dict) -> None:
    _touch(manifest.folder, "t.mp4", "v1.mp4", "v2.mp4")
    assert check_media(manifest) == ()
    media |= {
        "t.mp4": _info(19.4),
        "v1.mp4": MediaError("decode_error", "broken"),
        "v2.mp4": _info(None, audio=None),
    }
    found = {(f.row, f.status) for f in check_media(manifest)}
    # The first row of t.mp4 ends at 10 s and is well.
    assert found == {("t2", "too_short"), ("v1", "decode_error"), ("v2", "no_audio")}
    media |= {"t.mp4": _info(19.6), "v1.mp4": _info(20.0, video=None), "v2.mp4": _info(None)}
    assert {(f.row, f.status) for f in check_media(manifest)} == {("v1", "no_video")}


def test_command_validate(
    manifest: Manifest, media: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(manifest.path)
    assert main(["validate", path]) == 0
    assert capsys.readouterr().out.startswith("toy.jsonl is valid")
    _touch(manifest.folder, "t.mp4", "v1.mp4", "v2.mp4")
    assert main(["validate", path, "--media"]) == 0
    assert "3 videos probed; 0 rows will not give all features" in capsys.readouterr().out
    media["v2.mp4"] = MediaError("decode_error", "no moov atom")
    assert main(["validate", path, "--media"]) == 2
    out = capsys.readouterr().out
    assert "1 rows with status decode_error:\n  v2: no moov atom" in out


def test_command_import_llp_then_stats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "llp.jsonl"
    assert main(["import-llp", str(SAMPLE), "--out", str(out), "--trimmed"]) == 0
    text = capsys.readouterr().out
    assert "audio annotations: AVVP_eval_audio.csv, version unrecognised" in text
    assert "note: audio rows with offset <= onset, left out: 2, such as vAlidClip-3_300_310" in text
    assert text.endswith("llp.jsonl (20 clips) and llp.dense.tsv\n")
    assert read_manifest(out).rows[1].end == 10.0
    assert main(["stats", str(out)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Car", "1", "1", "1", "0.000", "0.000", "1.000", "0.000"] in lines


def test_command_from_folder(
    tmp_path: Path, media: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, table = tmp_path / "v", tmp_path / "labels.tsv"
    folder.mkdir()
    _touch(folder, *(f"{n}.mp4" for n in range(8)), "readme.md")
    media |= {f"{n}.mp4": _info(None) for n in range(1, 8)}
    table.write_text("file\tlabels\n0\tDog\ngone\tCat\n")
    out = tmp_path / "m.jsonl"
    arguments = ["from-folder", str(folder), "--out", str(out), "--labels", str(table)]
    arguments += ["--absent", "skip", "--unlabelled", "pool", "--window", "6", "--tail", "drop"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "1 files that are no media by their name, left out:\n  readme.md\n" in text
    assert "7 files of unknown length, taken as 10 s:\n  1.mp4: the container states" in text
    assert "  and 2 more\n" in text
    assert "7 files without a label, kept in split pool:" in text
    assert "1 names in the label table without a file, skipped:\n  gone\n" in text
    assert "8 ends of videos that fill no window, left out:\n  0.mp4: 2.0 s\n" in text
    assert text.endswith("m.jsonl: 10 rows of 8 files, multiclass\n")
    assert len(read_manifest(out)) == 3 + 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validate", "none.jsonl"], "cannot be read"),
        (["stat", "x"], "choose from 'import-llp', 'import-ucf101', 'import-kinetics'"),
        (["validate", "x", "--medai"], "did you mean '--media'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_mistakes_are_one_sentence_and_exit_code_1(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        run(lambda: main(arguments))
    out, err = capsys.readouterr()
    assert end.value.code == 1
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_importing_manifests_loads_no_decoder() -> None:
    code = "import sys, pipeline.manifest.__main__; print({'av', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
