"""Digests of videos and how they are remembered."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from features import sources as module
from features.sources import Sources
from tests.features.builders import text_manifest


@pytest.fixture
def hashed(monkeypatch) -> list[str]:
    """Paths that were hashed."""
    paths: list[str] = []
    digest = module.file_digest

    def count(path: str) -> str:
        paths.append(str(path))
        return digest(path)

    monkeypatch.setattr(module, "file_digest", count)
    return paths


def test_files_are_hashed_once(tmp_path, hashed):
    manifest = text_manifest(tmp_path, 5)
    first = Sources(tmp_path / "store").resolve(manifest, manifest.rows)
    assert len(hashed) == 5
    assert Sources(tmp_path / "store").resolve(manifest, manifest.rows) == first
    assert len(hashed) == 5


def test_only_a_changed_file_is_hashed_again(tmp_path, hashed):
    manifest = text_manifest(tmp_path, 3)
    sources = Sources(tmp_path / "store")
    before = sources.resolve(manifest, manifest.rows)
    path = tmp_path / "videos" / "001.mp4"
    path.write_text("other bytes, other size")
    after = sources.resolve(manifest, manifest.rows)
    assert len(hashed) == 4
    assert [a.media == b.media for a, b in zip(before, after, strict=True)] == [True, False, True]
    os.utime(path, (1, 1))
    assert sources.resolve(manifest, manifest.rows)[1].media == after[1].media
    assert len(hashed) == 5


def test_equal_files_share_a_digest(tmp_path):
    manifest = text_manifest(tmp_path, 2)
    (tmp_path / "videos" / "001.mp4").write_bytes((tmp_path / "videos" / "000.mp4").read_bytes())
    first, second = Sources(tmp_path / "store").resolve(manifest, manifest.rows)
    assert first.media == second.media


def test_missing_file_and_row_without_video(tmp_path):
    from dataclasses import replace

    manifest = text_manifest(tmp_path, 2)
    (tmp_path / "videos" / "000.mp4").unlink()
    rows = (manifest.rows[0], replace(manifest.rows[1], video=None))
    missing, without = Sources(tmp_path / "store").resolve(manifest, rows)
    assert missing.path is None
    assert missing.media[-1].startswith("missing:")
    assert "No such file" in missing.problem
    assert without.media[0].startswith("row:")
    assert "no video" in without.problem


def test_file_that_went_keeps_its_digest_as_first_choice(tmp_path):
    manifest = text_manifest(tmp_path, 1)
    sources = Sources(tmp_path / "store")
    (there,) = sources.resolve(manifest, manifest.rows)
    (tmp_path / "videos" / "000.mp4").unlink()
    (gone,) = sources.resolve(manifest, manifest.rows)
    assert gone.media[0] == there.media[0]
    assert gone.media[1].startswith("missing:")


def test_one_name_for_two_files_is_no_evidence(tmp_path):
    store = tmp_path / "store"
    for place in ("a", "b"):
        manifest = text_manifest(tmp_path / place, 1)
        (tmp_path / place / "videos" / "000.mp4").write_text(place)
        Sources(store).resolve(manifest, manifest.rows)
    elsewhere = text_manifest(tmp_path / "c", 1)
    (tmp_path / "c" / "videos" / "000.mp4").unlink()
    (source,) = Sources(store).resolve(elsewhere, elsewhere.rows)
    assert [media.split(":")[0] for media in source.media] == ["missing"]


def test_folder_in_place_of_a_video(tmp_path):
    manifest = text_manifest(tmp_path, 1)
    (tmp_path / "videos" / "000.mp4").unlink()
    (tmp_path / "videos" / "000.mp4").mkdir()
    (source,) = Sources(tmp_path / "store").resolve(manifest, manifest.rows)
    assert source.path is None
    assert "no regular file" in source.problem


def test_torn_line_costs_one_digest(tmp_path, hashed):
    manifest = text_manifest(tmp_path, 3)
    Sources(tmp_path / "store").resolve(manifest, manifest.rows)
    cache = tmp_path / "store" / "sources.jsonl"
    cache.write_bytes(cache.read_bytes()[:-20])
    Sources(tmp_path / "store").resolve(manifest, manifest.rows)
    assert len(hashed) == 4
    Sources(tmp_path / "store").resolve(manifest, manifest.rows)
    assert len(hashed) == 4


def test_concurrent_writers_lose_nothing(tmp_path, hashed):
    manifests = [text_manifest(tmp_path / str(n), 20, dataset=f"d{n}") for n in range(6)]
    store = tmp_path / "store"
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda m: Sources(store).resolve(m, m.rows), manifests))
    count = len(hashed)
    for manifest in manifests:
        Sources(store).resolve(manifest, manifest.rows)
    assert len(hashed) == count == 120
