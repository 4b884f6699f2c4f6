"""Names that no tidy corpus has, and what stands where a video should be."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from features import sources as sources_module
from features.extraction import plan, run_plan
from features.sources import Sources
from features.store import Store
from pipeline.errors import MediaError
from pipeline.manifest import Header, Manifest, Row, read_manifest, write_manifest
from tests.media import needs_decord

NAMES = ("logmel_stats", "frame_stats")
ODD = [
    "ünïcødé ☃ 映像.mp4",
    "two\nlines.mp4",
    "-rf.mp4",
    " spaces  around .mp4",
    "'quotes\" and $(command).mp4",
    "100%d.mp4",
    "file:name?x=1#y.mp4",
    "\x1b[31mred.mp4",
]
if sys.platform == "linux":
    # Bytes that are no UTF-8: Latin-1, as old archives hold them.
    ODD.append(os.fsdecode(b"caf\xe9.mp4"))


def manifest_of(folder: Path, videos: list[str], path: Path) -> Manifest:
    rows = tuple(
        Row(f"row {n}", 0.0, 3.0, "train", (), video=video) for n, video in enumerate(videos)
    )
    header = Header("ödd\n\x1b[0m", "none", (), media_root=str(folder))
    write_manifest(Manifest(header, rows, path), path)
    return read_manifest(path)


def statuses(store: Path, manifest: Manifest, name: str) -> list[str]:
    opened = Store(store)
    return opened.read(opened.find(name), manifest, manifest.rows).status.tolist()


@pytest.fixture
def odd(videos, tmp_path) -> Manifest:
    folder = tmp_path / "vidéos odd"
    folder.mkdir()
    for n, name in enumerate(ODD):
        (folder / name).write_bytes((videos / f"{n % 4}.mp4").read_bytes())
    return manifest_of(folder, ODD, tmp_path / "mänifest.jsonl")


def test_odd_names_go_all_the_way(odd, tmp_path, monkeypatch, capsys):
    assert [row.video for row in odd.rows] == ODD
    store = tmp_path / "störe"
    work = plan(odd, store, NAMES, shard_rows=3)
    assert run_plan(work, workers=2).failed == 0
    for name in NAMES:
        assert statuses(store, odd, name) == ["ok"] * len(ODD)
    assert Store(store).verify() == []
    assert plan(odd, store, NAMES, shard_rows=3).todo == 0
    lines = (store / "sources.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["video"] for line in lines) == sorted(ODD)
    # What was hashed is known by its name again, also where the files are gone.
    monkeypatch.setattr(sources_module, "file_digest", None)
    there = Sources(store).resolve(odd, odd.rows)
    for video in odd.media_root.iterdir():
        video.unlink()
    gone = Sources(store).resolve(odd, odd.rows)
    assert [source.media[0] for source in gone] == [source.media[0] for source in there]
    assert all(source.path is None for source in gone)


def test_the_second_decoder_reads_odd_names_or_says_why_not(odd, tmp_path):
    needs_decord()
    run_plan(plan(odd, tmp_path / "store", ["frame_stats"], decoder="decord"))
    assert statuses(tmp_path / "store", odd, "frame_stats") == ["ok"] * len(ODD)


def test_missing_files_of_odd_names_are_one_line_each(odd, videos, tmp_path):
    for video in odd.media_root.iterdir():
        video.unlink()
    (odd.media_root / ODD[0]).write_bytes(b"no film at all")
    report = run_plan(plan(odd, tmp_path / "store", NAMES))
    assert report.failed == 2 * len(ODD)
    text = report.table()
    text.encode("utf-8")
    assert all(line.isprintable() for line in text.splitlines())
    assert statuses(tmp_path / "store", odd, "frame_stats")[1:] == ["missing"] * (len(ODD) - 1)


def test_reasons_can_be_printed():
    reason = MediaError("decode_error", "x\n\x1b[2J\udce9 ☃").reason
    assert reason == r"x \x1b[2J\udce9 ☃"


@pytest.mark.timeout(60)
def test_what_is_no_regular_file_is_missing_and_never_waited_for(videos, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "folder.mp4").mkdir()
    (folder / "dangling.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "device.mp4").symlink_to("/dev/zero")
    (folder / "good.mp4").symlink_to(videos / "0.mp4")
    bad = ["folder.mp4", "dangling.mp4", "loop.mp4", "pipe.mp4", "device.mp4", "a\0b.mp4"]
    bad += ["good.mp4/below.mp4", "long" * 100 + ".mp4", "half a pair \ud800.mp4"]
    manifest = manifest_of(folder, [*bad, "good.mp4"], tmp_path / "m.jsonl")
    report = run_plan(plan(manifest, tmp_path / "store", NAMES))
    for name in NAMES:
        assert statuses(tmp_path / "store", manifest, name) == ["missing"] * len(bad) + ["ok"]
    reasons = {reason for _, reason in report.statuses["frame_stats"]}
    assert "it is a folder, a pipe or a device and no regular file" in reasons
    assert "no file can have such a name" in reasons


@pytest.mark.timeout(60)
def test_a_video_that_becomes_a_pipe_between_plan_and_task(videos, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("0.mp4", "1.mp4"):
        (folder / name).write_bytes((videos / name).read_bytes())
    manifest = manifest_of(folder, ["0.mp4", "1.mp4"], tmp_path / "m.jsonl")
    work = plan(manifest, tmp_path / "store", ["frame_stats"])
    (folder / "1.mp4").unlink()
    os.mkfifo(folder / "1.mp4")
    report = run_plan(work)
    assert report.statuses["frame_stats"]["ok", ""] == 1
    assert report.failed == 1


def test_a_link_that_points_elsewhere_is_noticed(videos, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    link = folder / "0.mp4"
    link.symlink_to(videos / "0.mp4")
    manifest = manifest_of(folder, ["0.mp4"], tmp_path / "m.jsonl")
    store = tmp_path / "store"
    run_plan(plan(manifest, store, ["logmel_stats"]))
    before = Store(store)
    old = before.read(before.find("logmel_stats"), manifest, manifest.rows).x
    link.unlink()
    link.symlink_to(videos / "1.mp4")
    work = plan(manifest, store, ["logmel_stats"])
    assert work.todo == 1
    run_plan(work)
    new = before.read(before.find("logmel_stats"), manifest, manifest.rows).x
    assert (old != new).any()
    link.unlink()
    link.symlink_to(videos / "0.mp4")
    assert plan(manifest, store, ["logmel_stats"]).todo == 0
