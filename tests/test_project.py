"""The project's own promises: pins, import direction, names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipeline", "features", "trainers", "flows")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imports(path: Path) -> set[str]:
    """Top-level names that a module imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_every_installed_package_is_pinned_to_its_version() -> None:
    pins = {}
    for line in PYPROJECT["tool"]["uv"]["constraint-dependencies"]:
        name, version = line.split("==")
        pins[_normal(name)] = version
    installed = {
        _normal(d.metadata["Name"]): d.version.split("+")[0]
        for d in distributions()
        if _normal(d.metadata["Name"]) not in ("avnoise", "pip", "setuptools", "wheel", "uv")
    }
    wrong = {n: (v, pins.get(n)) for n, v in installed.items() if pins.get(n) != v}
    assert not wrong, f"installed and pinned versions differ: {wrong}"


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    later = set(PACKAGES[PACKAGES.index(package) + 1 :])
    if package != "flows":
        later |= {"prefect", "prefect_dask", "dask", "distributed"}
    wrong = {str(m.relative_to(ROOT)): i for m in _modules(package) if (i := _imports(m) & later)}
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_repeats_its_folders_name(package: str) -> None:
    assert not [str(m) for m in _modules(package) if m.stem == m.parent.name]


def test_manifest_tools_start_without_torch() -> None:
    code = "import sys, pipeline.manifest, pipeline.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_no_lock_files_media_or_weights_are_tracked() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    suffixes = (".lock", ".mp4", ".h5", ".npy", ".npz", ".pt", ".pth", ".wav", ".mkv")
    assert not [name for name in listed.stdout.split() if name.endswith(suffixes)]
