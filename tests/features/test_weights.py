"""Where weights come from, and what is said when they are not right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from features.backbones import Clip, WeightChoice
from features.backbones.preprocessing import IMAGENET
from features.backbones.squeezenet import SqueezeNet10
from features.backbones.weights import looks_like
from features.extraction import plan, run_plan
from pipeline.decode import open_decoder
from pipeline.errors import UserError
from pipeline.files import file_digest
from pipeline.manifest import Manifest
from tests.features.builders import film_manifest


def save(path: Path, module: torch.nn.Module) -> Path:
    torch.save(module.state_dict(), path)
    return path


@pytest.fixture
def film(videos) -> Manifest:
    """One clip of two seconds."""
    return film_manifest(videos, "0", end=2.0)


def test_weights_of_another_network(film, tmp_path):
    squeezenet = save(tmp_path / "s.pt", torchvision.models.squeezenet1_0())
    with pytest.raises(UserError) as error:
        plan(film, tmp_path, ["resnet152"], weights={"resnet152": squeezenet})
    text = str(error.value)
    assert "looks like squeezenet1_0" in text
    assert "'bn1.bias'" in text
    assert "--weights resnet152=FILE" in text
    small = save(tmp_path / "r.pt", torchvision.models.resnet18())
    with pytest.raises(UserError, match="a ResNet of another depth"):
        plan(film, tmp_path, ["resnet152"], weights={"resnet152": small})


def test_own_weights_load_with_any_classifier(film, tmp_path):
    network = torchvision.models.squeezenet1_0(num_classes=7)
    file = save(tmp_path / "s.pt", network)
    backbone = SqueezeNet10(weights=WeightChoice(file=str(file)), frame_rate=1)
    backbone.to("cpu")
    assert backbone.spec()["weights"].startswith("sha256:")
    path = film.media_path(film.rows[0])
    ((_, frame),) = open_decoder().frames(path, np.array([1.0]))
    pictures = [backbone.prepare(frame)]
    with torch.inference_mode():
        maps = network.eval().features(IMAGENET.normalise(torch.from_numpy(pictures[0])[None]))
    x = backbone.compute(Clip(1, frames=pictures))
    np.testing.assert_allclose(x[0], maps.mean((2, 3))[0], rtol=1e-4, atol=1e-6)


def test_files_that_are_no_state_dict(film, tmp_path):
    junk = tmp_path / "junk.pt"
    junk.write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="cannot be read as a plain state dict"):
        plan(film, tmp_path, ["vggish"], weights={"vggish": junk})
    torch.save({"model": {"a": torch.zeros(1)}}, junk)
    with pytest.raises(UserError, match="no plain state dict"):
        plan(film, tmp_path, ["vggish"], weights={"vggish": junk})
    with pytest.raises(UserError, match="correct --weights"):
        plan(film, tmp_path, ["vggish"], weights={"vggish": tmp_path / "no"})


def test_missing_weights_name_the_file_and_the_place(film, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(UserError) as error:
        plan(film, tmp_path, ["r2plus1d_18"])
    text = str(error.value)
    assert "no route to host" in text
    assert str(tmp_path / "hub" / "hub" / "checkpoints" / "r2plus1d_18-91a641e6.pth") in text
    assert "--weights r2plus1d_18=FILE" in text
    with pytest.raises(UserError, match=r"vggish-10086976\.pth"):
        plan(film, tmp_path, ["vggish"])


def test_weights_in_torchs_cache_are_found(film, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    file = save(folder / "squeezenet1_0-b66bff10.pth", torchvision.models.squeezenet1_0())
    options = {"options": {"squeezenet1_0": {"frame_rate": 1}}}
    found = plan(film, tmp_path / "store", ["squeezenet1_0"], **options)
    assert found.features[0].values["feature"]["weights"] == f"sha256:{file_digest(file)}"
    given = plan(
        film, tmp_path / "store", ["squeezenet1_0"], weights={"squeezenet1_0": file}, **options
    )
    assert given.features == found.features
    assert run_plan(found, readers=0).failed == 0


def test_guess_from_parameters():
    state = {"features.0.weight": torch.zeros(64, 3, 3, 3)}
    assert looks_like(state) == "a VGG network"
    assert looks_like({"x": torch.zeros(1)}) is None
    assert looks_like(torchvision.models.video.r2plus1d_18().state_dict()) == "r2plus1d_18"
