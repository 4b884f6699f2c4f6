"""What holds for every backbone: names, specs, weights and grids."""

from __future__ import annotations

import inspect
import json
from importlib.util import find_spec

import pytest
import torch

from features.backbones import BACKBONES
from features.backbones.squeezenet import SqueezeNet10
from features.backbones.video import R2Plus1D18
from features.requests import feature_spec, make_requests
from pipeline.errors import UserError
from pipeline.grid import SegmentGrid, UniformGrid

OPTIONS = {
    "logmel_patches": {"front_end": "panns"},
    "panns_resnet22": {"hop": 0.5},
    "vggish": {"activation": "none"},
}
"""An option that changes values, for features whose first number alone does not."""

HOPS = {"null": 10.0, "clap.map": 10.0, "clap.map.pooled": 10.0}
"""Seconds a segment where it is not one."""

NETWORKS = [name for name in BACKBONES.names() if BACKBONES.get(name).weights_required]


def spec(name: str, *, seed: int = 0, decoder: str = "pyav", **options: object):
    (request,) = make_requests([name], random_weights=seed, options={name: options})
    return feature_spec(request.build(), decoder)


def test_names():
    assert set(BACKBONES.names()) >= {
        "frame_stats",
        "logmel_patches",
        "logmel_stats",
        "lowres_clips",
        "panns_resnet22",
        "r2plus1d_18",
        "resnet152",
        "resnet152.frames",
        "squeezenet1_0",
        "vggish",
    }


def changed_option(name: str) -> dict[str, object]:
    """One option of a feature with another value than its default."""
    if name in OPTIONS:
        return OPTIONS[name]
    parameters = inspect.signature(BACKBONES.get(name)).parameters
    numbers = {k: p.default for k, p in parameters.items() if isinstance(p.default, int | float)}
    return {k: 2 * v if isinstance(v, int) else v / 2 for k, v in list(numbers.items())[:1]}


@pytest.mark.parametrize("name", BACKBONES.names())
def test_spec_is_plain_json_and_states_the_grid(name):
    (request,) = make_requests([name], random_weights=3)
    backbone = request.build()
    found = feature_spec(backbone, "pyav")
    text = json.dumps(found.to_json())
    grid = found.values["grid"]
    if isinstance(backbone.grid, UniformGrid):
        assert grid["hop"] is None
        assert (grid["number"], grid["window"]) == (10, 2.0)
    else:
        assert isinstance(backbone.grid, SegmentGrid)
        assert grid["hop"] == HOPS.get(name, 1.0)
    assert grid["origin"] == 0.0
    assert ("random:3" in text) == BACKBONES.get(name).weights_required
    assert json.loads(text)["id"] == found.id


@pytest.mark.parametrize("name", BACKBONES.names())
def test_spec_id_follows_weights_options_and_decoder(name):
    kind = BACKBONES.get(name)
    assert spec(name).id == spec(name).id
    if kind.weights_required:
        assert spec(name, seed=1).id != spec(name).id
    if changed := changed_option(name):
        assert spec(name, **changed).id != spec(name).id
    if find_spec("decord") is not None:
        # Sound is PyAV's whatever decodes the pictures.
        differs = spec(name, decoder="decord").id != spec(name).id
        assert differs == (kind.modality == "visual")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_state_what_they_compute_in(name):
    half = spec(name, compute="float16")
    assert half.id != spec(name).id
    assert "float16" in json.dumps(half.to_json())
    with pytest.raises(UserError, match="compute is float32 or float16"):
        spec(name, compute="float64")


@pytest.mark.parametrize("name", ["r2plus1d_18", "panns_resnet22", "squeezenet1_0"])
def test_windows_in_place_of_segments(name):
    (request,) = make_requests([name], random_weights=0, options={name: {"windows": "10"}})
    backbone = request.build()
    assert backbone.grid.count(3.0, 13.0) == 10
    assert backbone.times(3.0, 13.0)[[0, -1]].tolist() == [1.0, 9.0]
    assert spec(name, windows=10).values["grid"]["window"] == 2.0
    with pytest.raises(UserError, match="window is for windows"):
        spec(name, window=3.0)


def test_hop_and_windows_exclude_each_other():
    with pytest.raises(UserError, match="hop is for segments"):
        spec("panns_resnet22", windows=10, hop=0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_agrees_with_cpu(frames):
    from features.backbones import Clip, WeightChoice

    for kind in (SqueezeNet10, R2Plus1D18):
        backbone = kind(weights=WeightChoice(seed=0))
        clip = Clip(2, frames=[backbone.prepare(frame) for frame in frames])
        x = backbone.compute(clip)
        backbone.to("cuda")
        torch.testing.assert_close(
            torch.from_numpy(backbone.compute(clip)), torch.from_numpy(x), rtol=1e-2, atol=1e-3
        )
