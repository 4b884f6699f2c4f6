"""LLP's tables: every number that is known of them, and what is odd in them, tolerated by name."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.manifest import Manifest, dense_matrices, read_dense, read_manifest
from pipeline.manifest import llp as llp_module
from pipeline.manifest.classes import class_names
from pipeline.manifest.llp import LlpImport, import_llp
from pipeline.manifest.report import manifest_stats

SAMPLE = Path(__file__).parents[1] / "data" / "llp_sample"

# class: train, val, test; shares of audio-only, visual-only, both, neither over val and test.
CLASS_TABLE = """
Speech 4988 365 625 .760 .002 .219 .019
Car 624 43 91 .015 .201 .776 .007
Cheering 528 46 86 .561 .038 .371 .030
Dog 761 59 110 .077 .124 .793 .006
Cat 192 21 36 .035 .263 .684 .018
Frying_(food) 343 18 47 .062 .015 .908 .015
Basketball_bounce 455 35 46 .049 .173 .753 .025
Fire_alarm 218 12 24 .167 0 .833 0
Chainsaw 299 18 27 .022 0 .978 0
Cello 602 33 89 .189 .041 .762 .008
Banjo 186 14 31 .178 .044 .756 .022
Singing 1172 84 181 .306 .004 .679 .011
Chicken_rooster 437 34 64 .071 .051 .878 0
Violin_fiddle 1457 73 159 .168 .026 .802 .004
Vacuum_cleaner 495 41 58 .061 .010 .929 0
Baby_laughter 146 12 20 .219 0 .781 0
Accordion 445 29 52 .259 .012 .728 0
Lawn_mower 224 16 28 .068 .023 .909 0
Motorcycle 411 22 60 .049 .085 .866 0
Helicopter 587 35 68 .087 .019 .893 0
Acoustic_guitar 503 51 104 .084 .103 .813 0
Telephone_bell_ringing 99 8 11 .421 0 .579 0
Baby_cry_infant_cry 430 34 43 .169 .013 .805 .013
Blender 291 22 34 0 .018 .982 0
Clapping 164 45 84 .403 .047 .535 .016
"""


@pytest.fixture(scope="module")
def llp(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> LlpImport:
    return import_llp(shared / "llp", tmp_path_factory.mktemp("llp") / "llp.jsonl")


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A copy of the sample that a test may break."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "tables"))


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def _audio_dense(manifest: Manifest) -> set[tuple[str, float, float, str]]:
    return {
        (e.id, e.onset, e.offset, e.label) for e in read_dense(manifest) if e.modality == "audio"
    }


def test_classes_are_in_index_order(shared: Path) -> None:
    classes = class_names("llp")
    assert len(classes) == len(set(classes)) == 25
    assert classes[:2] == ("Speech", "Car")
    assert "\n".join(classes).split() == (shared / "llp" / "categories.txt").read_text().split()


def test_rows_of_llp(llp: LlpImport) -> None:
    manifest = llp.manifest
    assert {name: len(manifest.split(name)) for name in ("train", "val", "test", "pool")} == {
        "train": 10000,
        "val": 649,
        "test": 1200,
        "pool": 0,
    }
    assert manifest.classes == class_names("llp")
    assert manifest.header.label_type == "multilabel"
    assert len({row.video for row in manifest}) == len(manifest)
    row = manifest["4YdbENYcIyE_23_33"]
    assert (row.video, row.start, row.end) == ("videos/4YdbENYcIyE.mp4", 23.0, 33.0)
    assert (row.split, row.labels) == ("test", ("Baby_cry_infant_cry",))
    decimal = manifest["AP0061o0Nvk_101.8_111.8"]
    assert (decimal.video, decimal.start, decimal.end) == ("videos/AP0061o0Nvk.mp4", 101.8, 111.8)
    assert all(row.end - row.start == pytest.approx(10) for row in manifest)
    assert any(row.id.startswith("-") for row in manifest)
    assert read_manifest(manifest.path).rows == manifest.rows
    # Speech never stands alone in training.
    assert not any(row.labels == ("Speech",) for row in manifest.split("train"))


def test_odd_rows_of_llp_are_counted_by_kind(llp: LlpImport) -> None:
    assert llp.notes.counts == {
        "names with decimal times": 5,
        "weak rows that repeat a label, kept once": 1,
        "audio rows of clips in no split, left out": 14,
        "audio rows with offset <= onset, left out": 6,
        "visual rows of clips in no split, left out": 11,
        "val clips without audio events": 4,
        "val clips without visual events": 70,
        "test clips without audio events": 6,
        "test clips without visual events": 121,
    }
    assert any("such as LcFWKgFphXI_20_30" in line for line in llp.notes.lines())


def test_statistics_of_llp(llp: LlpImport) -> None:
    stats = manifest_stats(llp.manifest)
    labels = {name: dict(split.labels) for name, split in stats.items()}
    # One test row repeats its only label, which the published histogram counts twice.
    assert labels == {
        "train": {1: 4032, 2: 5879, 3: 89},
        "val": {1: 212, 2: 367, 3: 56, 4: 14},
        "test": {1: 403 + 1, 2: 650 - 1, 3: 118, 4: 25, 5: 3, 7: 1},
    }
    assert stats["train"].dense is None
    val, test = stats["val"].dense, stats["test"].dense
    assert val.presence.sum(0).tolist() == [420, 44, 693, 13]
    assert test.presence.sum(0).tolist() == [732, 96, 1325, 25]
    assert (val.unlabelled, test.unlabelled) == ((25, 17), (26, 23))
    assert (val.segments, test.segments) == ((8089, 6115, 5078), (14576, 11789, 9592))
    assert (val.events, test.events) == ((1440, 856, 872), (2638, 1625, 1617))
    assert (val.silent, test.silent) == ((4, 70, 93), (6, 121, 174))
    assert test.fill == pytest.approx((0.70, 0.82), abs=0.005)
    audio, visual = dense_matrices(llp.manifest, llp.manifest.split("val", "test"))
    assert (audio | visual).any((1, 2)).all()


def test_class_table_of_llp(llp: LlpImport) -> None:
    stats = manifest_stats(llp.manifest)
    presence = stats["val"].dense.presence + stats["test"].dense.presence
    shares = presence / presence.sum(1, keepdims=True)
    lines = [line.split() for line in CLASS_TABLE.strip().splitlines()]
    assert tuple(line[0] for line in lines) == llp.manifest.classes
    for c, (name, *numbers) in enumerate(lines):
        counts = [stats[split].classes[c] for split in ("train", "val", "test")]
        assert counts == [int(n) for n in numbers[:3]], name
        np.testing.assert_allclose(shares[c], np.array(numbers[3:], float), atol=5.01e-4)
    only_audio, only_visual, _, neither = presence.sum(0) / presence.sum()
    assert 100 * (only_visual + neither) == pytest.approx(5.3, abs=0.05)
    assert 100 * (only_audio + neither) == pytest.approx(35.5, abs=0.05)
    rest = presence[1:].sum(0) / presence[1:].sum()
    assert 100 * (rest[0] + rest[3]) == pytest.approx(17.8, abs=0.05)


def test_versions_of_llp_differ_in_three_rows(shared: Path, tmp_path: Path, llp: LlpImport) -> None:
    older = import_llp(shared / "llp", tmp_path / "old.jsonl", annotations="pre2024")
    assert older.audio_table.name == "AVVP_eval_audio.pre2024fix.csv"
    assert older.manifest.header.annotations["version"] == "pre2024"
    assert llp.manifest.header.annotations["version"] == "2024"
    assert older.notes.counts["audio rows of clips in no split, left out"] == 17
    assert _audio_dense(llp.manifest) - _audio_dense(older.manifest) == {
        ("JfZEqeLZqWk_30_40", 0, 4, "Speech"),
        ("JfZEqeLZqWk_30_40", 7, 10, "Speech"),
        ("KvIjsmANkxI_10_20", 0, 1, "Cat"),
    }
    assert not _audio_dense(older.manifest) - _audio_dense(llp.manifest)
    assert older.manifest.content_digest() == llp.manifest.content_digest()


def test_the_right_audio_table_of_llp_whatever_it_is_called(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in (*llp_module.WEAK_TABLES.values(), llp_module.VISUAL_TABLE):
        shutil.copy(shared / "llp" / name, folder / name)
    old = shared / "llp" / "AVVP_eval_audio.pre2024fix.csv"
    # What most repositories hold: the older table under the plain name.
    shutil.copy(old, folder / "AVVP_eval_audio.csv")
    with pytest.raises(UserError) as error:
        import_llp(folder, tmp_path / "m.jsonl")
    assert "holds the pre2024 audio table only (AVVP_eval_audio.csv)" in str(error.value)
    assert "pass --annotations pre2024" in str(error.value)
    assert not (tmp_path / "m.jsonl").exists()
    found = import_llp(folder, tmp_path / "m.jsonl", annotations="pre2024")
    assert found.manifest.header.annotations["version"] == "pre2024"
    shutil.copy(shared / "llp" / "AVVP_eval_audio.csv", folder / "audio fixed.csv")
    found = import_llp(folder, tmp_path / "m.jsonl")
    assert found.audio_table.name == "audio fixed.csv"


def test_sample(tmp_path: Path) -> None:
    found = import_llp(SAMPLE, tmp_path / "sample.jsonl")
    manifest = found.manifest
    assert Counter(row.split for row in manifest) == {"train": 8, "val": 5, "test": 7}
    assert (tmp_path / "sample.dense.tsv").is_file()
    assert manifest.header.annotations["file"] == "sample.dense.tsv"
    assert manifest.header.annotations["version"] == "unrecognised"
    assert found.notes.counts == {
        "audio tables that are neither of the released ones": 1,
        "names with decimal times": 1,
        "weak rows that repeat a label, kept once": 1,
        "audio rows of clips in no split, left out": 3,
        "audio rows with offset <= onset, left out": 2,
        "visual rows of clips in no split, left out": 1,
        "val clips without audio events": 1,
        "test clips without audio events": 1,
        "test clips without visual events": 1,
    }
    assert manifest["tEsteClip-2_30_40"].labels == ("Dog",)
    row = manifest["-R4inClip-5_8.5_18.5"]
    assert (row.video, row.start, row.end) == ("videos/-R4inClip-5.mp4", 8.5, 18.5)
    audio, visual = dense_matrices(manifest, [manifest["tEsteClip-1_0_10"]])
    car = manifest.classes.index("Car")
    # Two annotated events that overlap are one run on the grid.
    assert np.flatnonzero(audio[0, :, car]).tolist() == [2, 3, 4, 5, 6, 7]
    assert np.flatnonzero(visual[0, :, car]).tolist() == list(range(9))


def test_trimmed_files_begin_at_zero(tmp_path: Path) -> None:
    plain = import_llp(SAMPLE, tmp_path / "a.jsonl").manifest
    trimmed = import_llp(SAMPLE, tmp_path / "b.jsonl", trimmed=True).manifest
    assert {(row.start, row.end) for row in trimmed} == {(0.0, 10.0)}
    assert trimmed.content_digest() == plain.content_digest()


def test_media_root_is_relative_to_the_manifest(tmp_path: Path) -> None:
    manifest = import_llp(SAMPLE, tmp_path / "m" / "s.jsonl", media_root=tmp_path / "data").manifest
    assert manifest.header.media_root == "../data"
    row = manifest.rows[0]
    assert manifest.media_path(row).resolve() == (tmp_path / "data" / row.video).resolve()
    assert import_llp(SAMPLE, tmp_path / "m" / "s.jsonl").manifest.header.media_root == "."


def test_version_is_chosen_by_content_then_by_name(
    tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = tables / "AVVP_eval_audio.csv"
    other = tables / "AVVP_eval_audio.pre2024fix.csv"
    other.write_text(audio.read_text().replace("tEsteClip-1_0_10`", "tEsteClip-1_0_10"))
    out = tmp_path / "m.jsonl"
    # Neither is a released table: the names decide.
    assert import_llp(tables, out).audio_table == audio
    assert import_llp(tables, out, annotations="pre2024").audio_table == other
    digests = [hashlib.md5(path.read_bytes()).hexdigest() for path in (audio, other)]
    # Released tables under each other's names: the content decides.
    monkeypatch.setattr(
        llp_module, "AUDIO_MD5", dict(zip(digests, ("pre2024", "2024"), strict=True))
    )
    assert import_llp(tables, out).audio_table == other
    assert import_llp(tables, out, annotations="pre2024").audio_table == audio
    # Line ends of another system are the same table.
    audio.write_bytes(audio.read_bytes().replace(b"\n", b"\r\n"))
    again = import_llp(tables, out, annotations="pre2024")
    assert again.manifest.header.annotations["version"] == "pre2024"


def test_union_table_is_checked_where_it_is_there(tables: Path, tmp_path: Path) -> None:
    union = tables / "AVVP_dataset_full.csv"
    kind = "clips that differ between AVVP_dataset_full.csv and the splits"
    assert kind not in import_llp(tables, tmp_path / "m.jsonl").notes.counts
    _edit(union, "tR4inClip-3_110_120\tViolin_fiddle\n", "")
    _edit(union, "Speech,Car", "Car")
    assert import_llp(tables, tmp_path / "m.jsonl").notes.counts[kind] == 2
    union.unlink()
    assert kind not in import_llp(tables, tmp_path / "m.jsonl").notes.counts


BREAKS = {
    "unknown weak label": ("AVVP_train.csv", "Speech,Car", "Speech,Cars", 3, "'Cars' is not one"),
    "name without times": ("AVVP_val_pd.csv", "vAlidClip-2_0_10", "vAlidClip-2", 3, "is not <11"),
    "short id": ("AVVP_val_pd.csv", "vAlidClip-2_0_10", "vAlidClip2_0_10", 3, "is not <11"),
    "no columns": ("AVVP_train.csv", "tR4inClip-1_0_10\tSpeech,Dog", "x", 2, "1 columns instead"),
    "header": ("AVVP_train.csv", "filename\t", "file\t", 1, "columns must be filename, event_lab"),
    "dense header": ("AVVP_eval_visual.csv", "onset\t", "on\t", 1, "must be filename, onset"),
    "dense label": ("AVVP_eval_visual.csv", "10\tDog", "10\tDogs", 2, "'Dogs' is not one of LLP"),
    "dense time": ("AVVP_eval_audio.csv", "0\t4\tSpeech", "0\tx\tSpeech", 2, "must be seconds"),
    "twice": ("AVVP_test_pd.csv", "tEsteClip-1_0_10\tSpeech,Car", "tR4inClip-1_0_10\tDog", 2,
              "stands in AVVP_train.csv line 2 already; keep every clip in one row"),
}  # fmt: skip


@pytest.mark.parametrize("case", BREAKS)
def test_broken_tables_name_file_line_and_remedy(tables: Path, tmp_path: Path, case: str) -> None:
    name, old, new, line, message = BREAKS[case]
    (tables / "AVVP_dataset_full.csv").unlink()
    _edit(tables / name, old, new)
    with pytest.raises(UserError) as error:
        import_llp(tables, tmp_path / "m.jsonl")
    assert str(error.value).startswith(f"{name} line {line}: ")
    assert re.search(message, str(error.value))
    assert not (tmp_path / "m.jsonl").exists()


@pytest.mark.parametrize("name", ["AVVP_train.csv", "AVVP_eval_visual.csv"])
def test_missing_table(tables: Path, tmp_path: Path, name: str) -> None:
    (tables / name).unlink()
    with pytest.raises(UserError, match=rf"{name} cannot be read .*copy the five tables"):
        import_llp(tables, tmp_path / "m.jsonl")


def test_missing_audio_table_folder_or_version(tables: Path, tmp_path: Path) -> None:
    (tables / "AVVP_eval_audio.csv").unlink()
    with pytest.raises(UserError, match=r"has no AVVP_eval_audio\.csv; copy the five tables"):
        import_llp(tables, tmp_path / "m.jsonl")
    with pytest.raises(UserError, match="is no folder"):
        import_llp(tables / "none", tmp_path / "m.jsonl")
    with pytest.raises(UserError, match="use 2024 or pre2024"):
        import_llp(tables, tmp_path / "m.jsonl", annotations="2023")
    (tables / "AVVP_train.csv").write_bytes(b"\xff\xfe")
    shutil.copy(SAMPLE / "AVVP_eval_audio.csv", tables)
    with pytest.raises(UserError, match="it is not UTF-8 text"):
        import_llp(tables, tmp_path / "m.jsonl")
