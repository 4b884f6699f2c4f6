"""The command ``python -m flows.extract``, in this process and on Dask."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from features.store import Store
from flows.extract import check_counts, extract_here, main, prepare
from pipeline.errors import UserError
from pipeline.files import store_dir

FEATURES = ["logmel_stats", "frame_stats"]


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def command(manifest: Path, store: Path, *more: str) -> int:
    return main(
        ["--manifest", str(manifest), "--store", str(store), "--features", *FEATURES, *more]
    )


def test_it_extracts_once(
    tiny_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tiny_manifest, tmp_path / "store", "--shard-rows", "2") == 0
    first = capsys.readouterr().out
    assert "3 of 3 rows to extract in 2 shards" in first
    assert re.search(r"logmel_stats +ok +3", first)
    assert [info.rows for info in Store(tmp_path / "store").features()] == [3, 3]
    shards = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*.h5")}
    assert len(shards) == 4

    assert command(tiny_manifest, tmp_path / "store") == 0
    assert "nothing to do: 3 rows" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "store").rglob("*.h5")} == shards


def test_failed_rows_are_counted_and_stay_failed(
    broken_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert command(broken_manifest, tmp_path / "store") == 2
        out = capsys.readouterr().out
        for status in ("ok", "missing", "decode_error"):
            assert re.search(rf"frame_stats +{status} +1", out)


def test_media_root_replaces_the_manifests(tiny_manifest: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere.jsonl"
    moved.write_text(tiny_manifest.read_text())
    store = tmp_path / "store"
    assert command(moved, store, "--media-root", str(tiny_manifest.parent)) == 0


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--features", "logmel_stat"], "did you mean 'logmel_stats'"),
        (["--features"], "expected at least one argument"),
        (["--workers", "0"], "--workers"),
        (["--weights", "squeezenet1_0"], "NAME=FILE"),
        (["--weights", "logmel_stats=w.pt"], "takes no weights"),
        (["--option", "x=1"], "NAME.OPTION=VALUE"),
        (["--media-root", "nowhere"], "--media-root"),
        (["--manifest", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--decoder", "avpy"], "invalid choice"),
        (["--shard-rows", "0"], "--shard-rows"),
        (["--dask", "tcp://127.0.0.1:9"], "No Dask scheduler answers"),
        (["--manifests", "x"], "--manifest"),
    ],
)
def test_mistakes_are_one_sentence(
    more: list[str],
    sentence: str,
    tiny_manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flows.cluster.CONNECT_SECONDS", 1)
    with pytest.raises(UserError) as caught:
        command(tiny_manifest, tmp_path / "store", *more)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_features_must_be_named_with_a_manifest(tiny_manifest: Path) -> None:
    with pytest.raises(UserError, match="--features"):
        prepare(manifest=tiny_manifest)


def test_the_default_is_the_demo_corpus(
    tiny_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.demo.build_corpus", lambda folder: tiny_manifest)
    work = prepare()
    assert sorted(spec.name for spec in work.features) == sorted(FEATURES)
    assert work.tasks[0].store == str(store_dir())


def test_features_as_one_text(tiny_manifest: Path, tmp_path: Path) -> None:
    work = prepare(
        manifest=tiny_manifest, store=tmp_path / "store", features="logmel_stats, frame_stats"
    )
    assert [spec.name for spec in work.features] == FEATURES


@pytest.mark.parametrize(
    ("counts", "remedy"), [((0, None), "mend --workers"), ((1, -1), "mend --readers")]
)
def test_counts_that_make_no_sense_are_refused(
    counts: tuple[int | None, int | None], remedy: str
) -> None:
    check_counts(None, None)
    check_counts(1, 0)
    with pytest.raises(UserError, match=remedy):
        check_counts(*counts)


def test_a_dry_run_tells_and_extracts_nothing(
    tiny_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert command(tiny_manifest, store, "--dry-run") == 0
    told = capsys.readouterr().out
    for text in ("clips: 0 are there", "logmel_stats", "in all", "after trying"):
        assert text in told
    assert list(store.rglob("*.h5")) == []


def test_a_clip_has_the_time_it_is_given(tiny_manifest: Path, tmp_path: Path) -> None:
    def limit(**how: float) -> float | None:
        work = prepare(manifest=tiny_manifest, store=tmp_path, features=FEATURES, **how)
        return work.tasks[0].timeout

    assert limit() == 300.0
    assert limit(clip_timeout=7.5) == 7.5
    assert limit(clip_timeout=0) is None
    with pytest.raises(UserError, match="mend --clip-timeout"):
        limit(clip_timeout=-1)


def test_a_quick_start_imports_no_framework() -> None:
    heavy = ("torch", "prefect", "distributed", "dask", "librosa")
    code = f"import sys, flows.extract; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_dask_on_this_machine(
    tiny_manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    more = ("--dask", "local", "--workers", "1", "--shard-rows", "2")
    assert command(tiny_manifest, store, *more) == 0
    assert "3 clips extracted" in capsys.readouterr().out
    assert [info.rows for info in Store(store).features()] == [3, 3]
    again = prepare(manifest=tiny_manifest, store=store, features=FEATURES)
    assert extract_here(again, dask="local", show=False).extracted == 0


@pytest.mark.slow
def test_a_dask_cluster_at_an_address(broken_manifest: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    from flows.cluster import local_options

    work = prepare(manifest=broken_manifest, store=tmp_path / "store", features=FEATURES)
    with LocalCluster(**local_options(1)) as cluster:
        report = extract_here(work, dask=cluster.scheduler_address, show=False)
    assert report.extracted == 3
    assert report.failed == 4
