"""What ``python -m flows.doctor`` says about a machine."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from features.backbones.published import WeightFile
from flows import doctor
from flows.checks import installation, media, services, storage, weights
from flows.checks.finding import Check, Finding, examine


def pyproject(tmp_path: Path, needed: str, pin: str) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        f'[project]\ndependencies = ["{needed}"]\n'
        f'[tool.uv]\nconstraint-dependencies = ["{pin}", "not-installed-at-all==1.0"]\n'
    )
    return path


def test_packages_as_pinned(tmp_path: Path) -> None:
    pins = pyproject(tmp_path, "numpy>=2", f"numpy=={version('numpy')}")
    assert installation.check_packages(pins) == Finding("ok", "1 needed, 1 as pinned")


def test_another_version_is_a_warning(tmp_path: Path) -> None:
    finding = installation.check_packages(pyproject(tmp_path, "numpy>=2", "numpy==2.0.0"))
    assert finding.status == "warn"
    assert f"numpy {version('numpy')} instead of ==2.0.0" in finding.text
    assert "uv sync" in finding.remedy


@pytest.mark.parametrize("needed", ["numpy<2", "not-installed-at-all>=1"])
def test_what_is_missing_or_too_old_is_a_failure(needed: str, tmp_path: Path) -> None:
    finding = installation.check_packages(pyproject(tmp_path, needed, "numpy==2.0.0"))
    assert finding.status == "fail"
    assert needed in finding.text


def test_a_dependency_of_another_platform_is_not_missed(tmp_path: Path) -> None:
    needed = "not-installed-at-all>=1; sys_platform == 'plan9'"
    pins = pyproject(tmp_path, needed, f"numpy=={version('numpy')}")
    assert installation.check_packages(pins).status == "ok"


@pytest.mark.parametrize(("needed", "status"), [(True, "fail"), (False, "warn")])
def test_what_raises_is_a_finding(needed: bool, status: str) -> None:
    def look() -> Finding:
        raise OSError("the disk\nis gone")

    finding = examine(Check("disk", look, "Buy one.", needed))
    assert finding == Finding(status, "OSError: the disk is gone", "Buy one.")


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_exit_code(
    status: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    look = lambda: Finding(status, "[here]", "[do] this")  # noqa: E731
    monkeypatch.setattr(doctor, "checks", lambda store: (Check("thing", look, "-"),))
    assert doctor.main([]) == code
    out = capsys.readouterr().out
    assert all(text in out for text in ("thing", status, "[here]", "[do] this"))


@pytest.mark.parametrize("look", [storage.check_commits, storage.check_claims])
def test_the_store_is_tried_and_left_clean(
    look: Callable[..., Finding], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AVNOISE_STORE", str(tmp_path / "not" / "yet"))
    assert look().status == "ok"
    assert look(tmp_path / "named").status == "ok"
    assert not list(tmp_path.rglob("*"))


def test_the_named_store_is_the_one_that_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looked: list[Path | None] = []

    def checks(store: Path | None) -> tuple[Check, ...]:
        looked.append(store)
        return ()

    monkeypatch.setattr(doctor, "checks", checks)
    assert doctor.main(["--store", str(tmp_path)]) == 0
    assert doctor.main([]) == 0
    assert looked == [tmp_path, None]


def test_checks_of_the_store_name_its_folder(tmp_path: Path) -> None:
    found = {c.name: examine(c) for c in doctor.checks(tmp_path)[:6]}
    assert {name for name, f in found.items() if str(tmp_path) in f.text} == {
        "disk",
        "folders",
        "store",
    }


def test_a_disk_that_does_not_keep_what_is_read_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwrite(old: Path, new: Path) -> None:
        Path(new).write_bytes(Path(old).read_bytes())

    monkeypatch.setattr(os, "replace", overwrite)
    finding = storage.check_commits(tmp_path)
    assert finding.status == "fail"
    assert "--store" in finding.remedy


def test_a_disk_without_exclusive_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def careless(path: Path, flags: int, mode: int = 0o777, **how: object) -> int:
        return real(path, flags & ~os.O_EXCL, mode, **how)

    monkeypatch.setattr(os, "open", careless)
    finding = storage.check_claims(tmp_path)
    assert finding.status == "fail"
    assert "O_EXCL" in finding.text


def test_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (check,) = (c for c in doctor.checks(tmp_path) if c.name == "claims")
    finding = examine(check)
    assert finding.status == "warn"
    assert "links" in finding.remedy


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_disk_whose_clock_is_off(
    hours: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = storage.time.time
    monkeypatch.setattr(storage.time, "time", lambda: real() + 3600 * hours)
    finding = storage.check_claims(tmp_path)
    assert finding.status == "warn"
    assert f"off ours by {3600 * hours} s" in finding.text


def test_a_disk_with_coarse_time_stamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.stat

    class Rounded:
        def __init__(self, path: Path) -> None:
            self.st_mtime = real(path).st_mtime
            self.st_mtime_ns = real(path).st_mtime_ns // 300_000_000 * 300_000_000

    monkeypatch.setattr(Path, "stat", lambda path, **how: Rounded(path))
    path = tmp_path / "x"
    path.touch()
    assert storage._tick(path) == pytest.approx(0.3)


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 0.2 * 2**30

    monkeypatch.setattr("shutil.disk_usage", lambda place: Full)
    assert storage.check_disk().status == "fail"


def test_folders_that_git_would_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in ("DATA", "STORE", "RUNS"):
        monkeypatch.setenv(f"AVNOISE_{name}", str(tmp_path / name.lower()))
    (tmp_path / ".gitignore").write_text("/data/\n/runs/\n")
    finding = storage.check_folders()
    assert finding.status == "warn"
    assert finding.text == f"git sees {tmp_path / 'store'}"
    (tmp_path / ".gitignore").write_text("/data/\n/runs/\n/store/\n")
    assert storage.check_folders().status == "ok"


def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digest: str | None) -> WeightFile:
    """A table of one file, in torch's cache below ``tmp_path``, where it is not yet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    entry = WeightFile("net", "A net", "https://nowhere.invalid/net-12.pth", "MIT", digest)
    monkeypatch.setattr(weights, "PUBLISHED", {"net": entry})
    entry.path.parent.mkdir(parents=True)
    return entry


def test_weights_that_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(b"parameters").hexdigest()
    entry = published(tmp_path, monkeypatch, f"sha256:{digest[:8]}")
    finding = weights.check_weights()
    assert (finding.status, finding.text) == ("ok", "not here: net")
    assert "features weights" in finding.remedy
    entry.path.write_bytes(b"parameters")
    assert weights.check_weights() == Finding("ok", "here as published: net")


def test_weights_of_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = published(tmp_path, monkeypatch, "sha256:12345678")
    entry.path.write_bytes(b"a page that says 404")
    finding = weights.check_weights()
    assert finding.status == "warn"
    assert finding.text.startswith("net: ")
    assert str(entry.path) in finding.text
    assert "Delete" in finding.remedy


def test_weights_without_a_published_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = published(tmp_path, monkeypatch, None)
    entry.path.write_bytes(b"parameters")
    assert weights.check_weights().text == "here, with no published digest: net"


def test_a_decoder_that_counts_frames_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class ByNumber:
        def frames(self, path: Path, times: np.ndarray) -> object:
            rate = len(media.BEGINS) / media.SECONDS
            for k, moment in enumerate(times):
                level = media._brightness(int(moment * rate))
                yield slice(k, k + 1), np.full((96, 128, 3), level, np.uint8)

    monkeypatch.setattr("pipeline.decode.open_decoder", lambda name: ByNumber())
    for look, status in ((media.check_pyav, "fail"), (media.check_decord, "warn")):
        finding = look()
        assert finding.status == status
        assert "instead of" in finding.text


@pytest.mark.parametrize(("shift", "level", "found"), [(0.05, 1, "heard from"), (0, 0.1, "level")])
def test_sound_that_is_off_is_found_out(
    shift: float, level: float, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipeline.decode

    real = pipeline.decode.read_audio

    def off(path: Path, start: float, end: float, rate: int) -> np.ndarray:
        return level * np.roll(real(path, start, end, rate), round(shift * rate))

    monkeypatch.setattr("pipeline.decode.read_audio", off)
    finding = media.check_pyav()
    assert finding.status == "fail"
    assert found in finding.text


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_installed", lambda name: None)
    finding = installation.check_transformers()
    assert finding.status == "warn"
    assert "uv sync --extra clip" in finding.remedy


@pytest.mark.parametrize(
    "look",
    [media.check_pyav, media.check_decord, installation.check_machine, services.check_plugin],
)
def test_on_this_machine(look: Callable[[], Finding]) -> None:
    assert look().status == "ok"


@pytest.mark.slow
def test_everything_on_this_machine() -> None:
    findings = {check.name: examine(check) for check in doctor.checks()}
    assert not {name: f for name, f in findings.items() if f.status == "fail"}
    assert findings["Dask"].status == "ok"
