"""The whole path in one command, on a corpus small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from features.store import Store
from flows.demo import BASELINES, TRAINED, main


@pytest.mark.slow
def test_the_demo_from_nothing_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [f"--{name}={tmp_path / name}" for name in ("data", "store", "runs")]
    small = ["--train=12", "--val=4", "--test=4", "--updates=2", "--workers=1"]
    assert main([*folders, *small]) == 0
    first = capsys.readouterr().out
    results = [json.loads(p.read_text()) for p in (tmp_path / "runs").rglob("results.json")]
    assert {r["method"] for r in results} == {*BASELINES, *TRAINED}
    assert all(r["metrics"]["test"]["selected"]["segment/type"] is not None for r in results)
    assert {info.rows for info in Store(tmp_path / "store").features()} == {20}
    for method in (*BASELINES, *TRAINED):
        assert method in first
    for name in ("data", "store", "runs"):
        assert str(tmp_path / name) in first

    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.*") if p.is_file()}
    assert main([*folders, *small]) == 0
    again = capsys.readouterr().out
    assert again.splitlines()[:12] == first.splitlines()[:12]
    assert {p: p.stat().st_mtime_ns for p in written} == written
