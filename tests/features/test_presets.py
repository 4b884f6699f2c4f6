"""Presets: what they ask for, and that it can be asked for."""

from __future__ import annotations

import pytest

from features.backbones import BACKBONES
from features.presets import PRESETS, preset
from features.requests import make_requests
from pipeline.errors import UserError
from pipeline.grid import UniformGrid, join_steps


def backbones(name: str, **options: dict) -> dict:
    names, merged = preset(name).asked(options=options)
    requests = make_requests(names, random_weights=0, options=merged)
    return {request.name: request.build() for request in requests}


def test_names():
    assert set(PRESETS) == {"llp", "llp-frames", "llp-clip", "action", "xid", "xid-large"}
    for name, entry in PRESETS.items():
        assert entry.name == name
        assert entry.what
        assert set(entry.features) <= set(BACKBONES.names())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_can_be_asked_for(name):
    assert set(backbones(name)) == set(PRESETS[name].features)


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match="no preset 'lllp'; did you mean 'llp'"):
        preset("lllp")


def test_parsing():
    made = backbones("llp")
    for backbone in made.values():
        assert backbone.grid.count(0.0, 10.0) == 10
    assert made["resnet152"].grid.frames == 8
    assert made["r2plus1d_18"].grid.frames == 8
    assert made["vggish"].spec()["postprocessing"] == "none"
    frames = backbones("llp-frames")["resnet152.frames"]
    assert frames.times(0.0, 10.0).shape == (80,)


@pytest.mark.parametrize("name", ["action", "xid", "xid-large"])
def test_windows_of_both_modalities_are_the_same(name):
    picture, sound = backbones(name).values()
    assert (picture.modality, sound.modality) == ("visual", "audio")
    for backbone in (picture, sound):
        assert isinstance(backbone.grid, UniformGrid)
    times = picture.times(0.0, 8.7)
    assert times.shape == (10,)
    assert join_steps(times, sound.times(0.0, 8.7), hop=0.01).tolist() == list(range(10))


def test_sizes():
    assert [b.shape for b in backbones("xid").values()] == [(8, 80, 80, 3), (80, 80)]
    assert [b.shape for b in backbones("xid-large").values()] == [(8, 112, 112, 3), (128, 128)]
    assert [b.shape for b in backbones("action").values()] == [(512,), (2048,)]


def test_own_options_win_and_features_are_added():
    names, options = preset("xid").asked(
        ["vggish", "lowres_clips"], {"lowres_clips": {"size": "96", "frames": "4"}, "vggish": {}}
    )
    assert names == ["lowres_clips", "logmel_patches", "vggish"]
    assert options["lowres_clips"] == {
        "size": "96",
        "frames": "4",
        "rate": 16.0,
        "windows": 10,
        "window": 2.0,
    }
    assert preset("xid").options["lowres_clips"]["size"] == 80
    own = {"resnet152": {"frame-rate": "4"}}
    assert preset("llp").asked(options=own)[1]["resnet152"] == {"frame_rate": "4"}
