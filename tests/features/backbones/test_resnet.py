"""ResNet-152: features of frames, and their mean without decoding again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from features.backbones import Clip, WeightChoice
from features.backbones.preprocessing import IMAGENET
from features.backbones.resnet import ResNet152, ResNet152Frames
from features.extraction import plan, run_plan
from features.requests import make_requests
from features.store import Store
from tests.features.builders import film_manifest


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A checkpoint of torchvision's own network; one number repeated takes no room in a file."""
    with torch.device("meta"):
        shapes = torchvision.models.resnet152().state_dict()
    state = {
        key: torch.tensor(0.01 * (1 + n % 3)).expand(v.shape)
        for n, (key, v) in enumerate(shapes.items())
    }
    path = tmp_path_factory.mktemp("weights") / "resnet152.pth"
    torch.save(state, path)
    return path


def test_frames_are_the_input_of_torchvisions_classifier(frames, weights):
    with torch.device("meta"):
        network = torchvision.models.resnet152()
    network.load_state_dict(torch.load(weights, weights_only=True), assign=True)
    network.fc = torch.nn.Identity()
    backbone = ResNet152Frames(weights=WeightChoice(file=str(weights)), frame_rate=1)
    pictures = [backbone.prepare(frame) for frame in frames[:2]]
    x = backbone.compute(Clip(2, frames=pictures))
    with torch.inference_mode():
        expected = network.eval()(IMAGENET.normalise(torch.from_numpy(np.stack(pictures))))
    assert x.shape == (2, 2048)
    np.testing.assert_allclose(x, expected, rtol=1e-4)


@pytest.fixture
def small(monkeypatch) -> dict:
    """Puts a network of one layer in the place of ResNet-152; options for `plan` that use it."""
    monkeypatch.setattr(
        "features.backbones.resnet._make",
        lambda: torch.nn.Sequential(
            torch.nn.AdaptiveAvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(192, 2048)
        ),
    )
    # Backbones are kept for the process by what was asked for: nothing else asks for this seed.
    return {"random_weights": 20152, "options": {"resnet152": {"frame_rate": 2}}}


def test_frames_and_mean_in_one_pass_and_from_the_store(film, small, tmp_path, monkeypatch):
    manifest = film_manifest(film.parent, "film", end=2.0)
    runs = []
    compute = ResNet152Frames.compute
    monkeypatch.setattr(
        ResNet152Frames, "compute", lambda self, clip: runs.append(1) or compute(self, clip)
    )
    both, later, alone = (tmp_path / name for name in ("both", "later", "alone"))
    run_plan(plan(manifest, both, ["resnet152", "resnet152.frames"], **small), readers=0)
    assert len(runs) == 1
    store = Store(both)
    steps = store.read(store.find("resnet152.frames"), manifest, manifest.rows)
    mean = store.read(store.find("resnet152"), manifest, manifest.rows)
    assert steps.x.shape == (4, 2048)
    np.testing.assert_allclose(steps.t, [0.25, 0.75, 1.25, 1.75])
    np.testing.assert_allclose(mean.t, [0.5, 1.5])
    np.testing.assert_array_equal(
        mean.x, steps.x.reshape(2, 2, 2048).mean(1, dtype="f8").astype("f4")
    )

    run_plan(plan(manifest, later, ["resnet152.frames"], **small), readers=0)
    with monkeypatch.context() as patch:
        patch.setattr(
            "features.computing.open_readers",
            lambda *a, **k: pytest.fail("something was decoded"),
        )
        report = run_plan(plan(manifest, later, ["resnet152"], **small), readers=0)
    assert report.failed == 0
    run_plan(plan(manifest, alone, ["resnet152"], **small), readers=0)
    bytes_of = [
        next(folder.glob("resnet152-*/*.h5")).read_bytes() for folder in (both, later, alone)
    ]
    assert bytes_of[0] == bytes_of[1] == bytes_of[2]


def test_the_mean_comes_from_the_store_when_the_video_is_gone(film, small, tmp_path):
    copy = tmp_path / "film.mp4"
    copy.write_bytes(film.read_bytes())
    manifest = film_manifest(copy.parent, "film", end=2.0)
    run_plan(plan(manifest, tmp_path / "store", ["resnet152.frames"], **small), readers=0)
    copy.unlink()
    report = run_plan(plan(manifest, tmp_path / "store", ["resnet152"], **small), readers=0)
    assert report.statuses["resnet152"] == {("ok", ""): 1}
    store = Store(tmp_path / "store")
    assert store.read(store.find("resnet152"), manifest, manifest.rows).ok.all()


def test_options_and_weights_of_the_family(tmp_path):
    file = tmp_path / "w.pth"
    file.write_bytes(b"")
    requests = make_requests(
        ["resnet152", "resnet152.frames"],
        weights={"resnet152": file},
        options={"resnet152": {"frame-rate": "4"}},
    )
    assert {r.options for r in requests} == {(("frame_rate", 4),)}
    assert {r.weights for r in requests} == {str(file)}


def test_rates_below_one_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        ResNet152(frame_rate=0)
