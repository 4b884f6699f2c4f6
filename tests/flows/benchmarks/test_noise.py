"""Noisy manifests of a sweep: found when they are whole, made anew when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.benchmarks.conditions import Condition
from flows.benchmarks.noise import check_condition, noisy_manifest
from pipeline.errors import UserError
from pipeline.manifest import Manifest, read_manifest
from pipeline.noise import truth_path
from tests.action_corpora import write_action_corpus

BOTH = Condition.parse("symmetric:0.4+correspondence:0.25")


@pytest.fixture
def clean(tmp_path: Path) -> Manifest:
    """A small corpus without noise."""
    return read_manifest(write_action_corpus(tmp_path / "corpus")[0])


def _cut_rows(text: str) -> str:
    return "".join(text.splitlines(keepends=True)[:-5])


def _other_label(text: str) -> str:
    return text.replace('"labels": ["class 1"]', '"labels": ["class 2"]', 1)


@pytest.mark.parametrize("which", ["manifest", "truth"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        _cut_rows,
        _other_label,
        lambda text: "\x00" * 8 + text[8:],
    ],
    ids=["empty", "cut", "fewer rows", "another label", "overwritten"],
)
def test_what_is_not_whole_is_made_anew(
    clean: Manifest, tmp_path: Path, which: str, damage: object
) -> None:
    path = noisy_manifest(clean, BOTH, 0, tmp_path / "noise")
    files = {"manifest": path, "truth": truth_path(path)}
    written = {name: file.read_bytes() for name, file in files.items()}
    changed = damage(files[which].read_text())
    assert changed.encode() != written[which]
    files[which].write_text(changed)
    assert noisy_manifest(clean, BOTH, 0, tmp_path / "noise") == path
    assert {name: file.read_bytes() for name, file in files.items()} == written


def test_what_is_whole_is_left_alone(clean: Manifest, tmp_path: Path) -> None:
    path = noisy_manifest(clean, BOTH, 0, tmp_path / "noise")
    before = [file.stat().st_mtime_ns for file in (path, truth_path(path))]
    assert noisy_manifest(clean, BOTH, 0, tmp_path / "noise") == path
    assert [file.stat().st_mtime_ns for file in (path, truth_path(path))] == before
    truth_path(path).unlink()
    noisy_manifest(clean, BOTH, 0, tmp_path / "noise")
    assert truth_path(path).is_file()


def test_a_manifest_that_finds_other_media_is_made_anew(clean: Manifest, tmp_path: Path) -> None:
    path = noisy_manifest(clean, BOTH, 0, tmp_path / "noise")
    moved = tmp_path / "elsewhere" / clean.path.name
    moved.parent.mkdir()
    moved.write_bytes(clean.path.read_bytes())
    assert noisy_manifest(read_manifest(moved), BOTH, 0, tmp_path / "noise") == path
    assert read_manifest(path).media_root.resolve() == moved.parent.resolve()


def test_unknown_kinds_and_options_are_found_without_a_manifest() -> None:
    check_condition(Condition.parse("symmetric:0.2,inclusive+correspondence:0.1,donors=shuffle"))
    check_condition(Condition.parse("symmetric:rates=levels.csv"))
    with pytest.raises(UserError, match="did you mean 'symmetric'"):
        check_condition(Condition.parse("symetric:0.2"))
    with pytest.raises(UserError, match="no option of correspondence noise 'donor'"):
        check_condition(Condition.parse("none+correspondence:0.2,donor=shuffle"))


def test_only_options_of_that_kind_are_offered() -> None:
    check_condition(Condition.parse("correspondence:0.2,donors=external,pool=more.jsonl"))
    with pytest.raises(UserError) as raised:
        check_condition(Condition.parse("symmetric:0.4,foo=1"))
    assert "pool" not in str(raised.value)
    assert "inclusive" in str(raised.value)
    with pytest.raises(UserError, match="'pool'"):
        check_condition(Condition.parse("correspondence:0.4,pol=1"))
