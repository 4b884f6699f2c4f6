"""A backbone of somebody else's package: one file and an entry point, extracted by the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from features.store import Store
from pipeline.manifest import write_manifest
from tests.features.builders import film_manifest

ROOT = Path(__file__).parents[3]

MODULE = '''
"""The mean colour of every second, through a network of one layer."""

import numpy as np

from features.backbones import Clip, Network, NetworkFeature, WeightChoice
from features.backbones import make_grid, mean_of_frames


def make():
    import torch

    return torch.nn.Linear(3, 5)


class Colour(NetworkFeature):
    name = "lab_colour"
    modality = "visual"
    shape = (5,)

    def __init__(self, *, weights: WeightChoice | None = None, frames: int = 2):
        self.grid = make_grid(frames=frames)
        self.network = Network(self.name, weights or WeightChoice(), make)

    def spec(self):
        return self.describe(backbone="mean colour, linear", pooling="mean of frames", version=1)

    def prepare(self, frame: np.ndarray) -> np.ndarray:
        return frame.mean(axis=(0, 1), dtype=np.float32)

    def compute(self, clip: Clip) -> np.ndarray:
        steps = self.network(lambda batch: batch / 255, np.asarray(clip.frames), batch=8)
        return mean_of_frames(steps, clip.segments)
'''


@pytest.fixture
def package(tmp_path) -> Path:
    """A folder as pip leaves it: a module, and the metadata that names its entry point."""
    site = tmp_path / "site"
    metadata = site / "lab-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "lab_backbones.py").write_text(MODULE)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[avnoise.backbones]\nlab_colour = lab_backbones:Colour\n"
    )
    return site


def extract(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    environment.pop("PREFECT_API_URL", None)
    return subprocess.run(
        [sys.executable, "-m", "flows.extract", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=site,
        env=environment,
    )


def test_extracted_by_the_command_and_read_from_the_store(package, film, tmp_path):
    import torch

    manifest = film_manifest(film.parent, "film", end=2.0)
    path = tmp_path / "m.jsonl"
    write_manifest(manifest, path)
    weights = tmp_path / "colour.pt"
    state = {"weight": torch.eye(5)[:, :3].contiguous(), "bias": torch.arange(5.0)}
    torch.save(state, weights)
    arguments = ["--manifest", path, "--store", tmp_path / "store", "--features", "lab_colour"]
    arguments += ["--weights", f"lab_colour={weights}", "--option", "lab_colour.frames=4"]

    done = extract(package, *arguments)

    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "store")
    info = store.find("lab_colour")
    assert info.values["feature"]["weights"].startswith("sha256:")
    table = store.read(info, manifest, manifest.rows)
    x = table.stacked()
    assert x.shape == (1, 2, 5)
    np.testing.assert_allclose(table.t, [0.5, 1.5])
    np.testing.assert_array_equal(x[0, :, 3:], [[3.0, 4.0]] * 2)
    colours = x[0, :, :3] - np.arange(3)
    assert colours.min() > 0
    assert colours.max() < 1


def test_what_its_file_lacks_is_said(package, tmp_path, film):
    path = tmp_path / "m.jsonl"
    write_manifest(film_manifest(film.parent, "film", end=2.0), path)
    (package / "lab_backbones.py").write_text("import a_module_that_is_not_there\n")
    failed = extract(package, "--manifest", path, "--features", "lab_colour")
    assert failed.returncode != 0
    assert "a_module_that_is_not_there" in failed.stderr
