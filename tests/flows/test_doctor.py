"""What ``python -m flows.doctor`` says about a machine."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from flows import doctor
from flows.doctor import Check, Finding, examine


def pyproject(tmp_path: Path, needed: str, pin: str) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(
        f'[project]\ndependencies = ["{needed}"]\n'
        f'[tool.uv]\nconstraint-dependencies = ["{pin}", "not-installed-at-all==1.0"]\n'
    )
    return path


def test_packages_as_pinned(tmp_path: Path) -> None:
    pins = pyproject(tmp_path, "numpy>=2", f"numpy=={version('numpy')}")
    assert doctor.check_packages(pins) == Finding("ok", "1 needed, 1 as pinned")


def test_another_version_is_a_warning(tmp_path: Path) -> None:
    finding = doctor.check_packages(pyproject(tmp_path, "numpy>=2", "numpy==2.0.0"))
    assert finding.status == "warn"
    assert f"numpy {version('numpy')} instead of ==2.0.0" in finding.text
    assert "uv sync" in finding.remedy


@pytest.mark.parametrize("needed", ["numpy<2", "not-installed-at-all>=1"])
def test_what_is_missing_or_too_old_is_a_failure(needed: str, tmp_path: Path) -> None:
    finding = doctor.check_packages(pyproject(tmp_path, needed, "numpy==2.0.0"))
    assert finding.status == "fail"
    assert needed in finding.text


def test_a_dependency_of_another_platform_is_not_missed(tmp_path: Path) -> None:
    needed = "not-installed-at-all>=1; sys_platform == 'plan9'"
    pins = pyproject(tmp_path, needed, f"numpy=={version('numpy')}")
    assert doctor.check_packages(pins).status == "ok"


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
    monkeypatch.setattr(doctor, "CHECKS", (Check("thing", look, "-"),))
    assert doctor.main([]) == code
    out = capsys.readouterr().out
    assert all(text in out for text in ("thing", status, "[here]", "[do] this"))


def test_the_store_is_tried_and_left_clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVNOISE_STORE", str(tmp_path / "not" / "yet"))
    finding = doctor.check_store()
    assert finding.status == "ok"
    assert str(tmp_path) in finding.text
    assert not list(tmp_path.rglob(".doctor-*"))


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        free = 0.2 * 2**30

    monkeypatch.setattr("shutil.disk_usage", lambda place: Full)
    assert doctor.check_disk().status == "fail"


def test_folders_that_git_would_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in ("DATA", "STORE", "RUNS"):
        monkeypatch.setenv(f"AVNOISE_{name}", str(tmp_path / name.lower()))
    (tmp_path / ".gitignore").write_text("/data/\n/runs/\n")
    finding = doctor.check_folders()
    assert finding.status == "warn"
    assert finding.text == f"git sees {tmp_path / 'store'}"
    (tmp_path / ".gitignore").write_text("/data/\n/runs/\n/store/\n")
    assert doctor.check_folders().status == "ok"


@pytest.mark.parametrize(
    "look", [doctor.check_pyav, doctor.check_decord, doctor.check_machine, doctor.check_plugin]
)
def test_on_this_machine(look: object) -> None:
    assert look().status == "ok"


@pytest.mark.slow
def test_everything_on_this_machine() -> None:
    findings = {check.name: examine(check) for check in doctor.CHECKS}
    assert not {name: f for name, f in findings.items() if f.status == "fail"}
