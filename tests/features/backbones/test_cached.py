"""Cached inputs of small encoders: shapes, types, and windows that both sides share."""

from __future__ import annotations

import numpy as np
import pytest

from features.backbones import Clip
from features.backbones.cached import LogMelPatches, LowResolutionClips
from features.extraction import plan, run_plan
from features.presets import preset
from features.store import Store
from pipeline.grid import join_steps
from pipeline.mel import XID_LARGE, log_mel
from tests.features.builders import film_manifest
from tests.media import draw_index, read_index, render_clip, sine


@pytest.mark.parametrize(
    ("front_end", "shape"),
    [("xid_small", (80, 80)), ("xid_large", (128, 128)), ("panns", (201, 64))],
)
def test_patch_sizes(front_end, shape):
    backbone = LogMelPatches(front_end=front_end)
    samples = 2 * backbone.audio_rate
    sound = sine(440.0, 3.0, backbone.audio_rate)
    x = backbone.compute(Clip(2, waveform=sound, starts=np.array([0.0, 1.0])))
    assert backbone.shape == shape
    assert x.shape == (2, *shape)
    assert x.dtype == np.float16
    front_end = backbone.spec()["front_end"]
    assert front_end["rate"] * 2 == samples


def test_a_patch_is_the_spectrogram_of_its_own_window():
    rate = XID_LARGE.rate
    sound = sine(440.0, 3.0, rate) * np.linspace(0, 1, 3 * rate, dtype=np.float32)
    clip = Clip(2, waveform=sound, starts=np.array([0.0, 1.0]))
    exact = LogMelPatches(front_end="xid_large", dtype="float32").compute(clip)
    half = LogMelPatches(front_end="xid_large").compute(clip)
    np.testing.assert_array_equal(exact[1], log_mel(sound[rate:], XID_LARGE))
    assert exact.dtype == np.float32
    # Half precision is finest below: 1/32 dB is the worst of it between -128 and 128 dB.
    assert np.abs(exact).max() < 128
    assert 0 < np.abs(half - exact).max() <= 1 / 32


def test_segments_in_place_of_windows():
    backbone = LogMelPatches(windows=0)
    assert backbone.shape == (40, 80)
    np.testing.assert_allclose(backbone.times(2.0, 5.0), [0.5, 1.5, 2.5])


def test_a_small_film_is_the_middle_of_every_frame():
    backbone = LowResolutionClips(frames=3, size=48)
    pictures = [backbone.prepare(draw_index(n, size=(128, 96))) for n in range(6)]
    assert pictures[0].shape == (48, 48, 3)
    x = backbone.compute(Clip(2, frames=pictures))
    assert x.shape == (2, 3, 48, 48, 3) == (2, *backbone.shape)
    assert x.dtype == np.uint8
    np.testing.assert_array_equal(x[1, 2], pictures[5])
    # The left and right sixth are cut off, the red corner's inner half is not; the order is RGB.
    red, green, blue = x[0, 0, 36, 3].tolist()
    assert red > 150 > 100 > max(green, blue)


def test_frames_lie_around_the_middle_of_the_sounds_window():
    picture, sound = LowResolutionClips(), LogMelPatches()
    times = picture.grid.frame_times(5.0, 15.0)
    assert times.shape == (10, 8)
    np.testing.assert_allclose(np.diff(times), 1 / 16)
    np.testing.assert_allclose(times.mean(1) - 5.0, sound.times(5.0, 15.0))
    spread = LowResolutionClips(rate=0.0).grid.frame_times(0.0, 10.0)
    np.testing.assert_allclose(np.diff(spread), 0.25)


@pytest.mark.parametrize(
    "options", [{"frames": 0}, {"size": 0}, {"rate": -1.0}, {"windows": 0}, {"rate": 2.0}]
)
def test_films_that_make_no_sense(options):
    with pytest.raises(ValueError):
        LowResolutionClips(**options)


@pytest.mark.parametrize("options", [{"front_end": "mfcc"}, {"dtype": "uint8"}])
def test_patches_that_make_no_sense(options):
    with pytest.raises(ValueError, match="not"):
        LogMelPatches(**options)


def test_through_the_store(tmp_path):
    film = render_clip(
        tmp_path / "film.mp4", seconds=4.0, rate=16, size=(256, 192), audio=sine(300.0, 4.0, 22050)
    )
    manifest = film_manifest(film.parent, "film", end=4.0)
    names, options = preset("xid").asked(options={"lowres_clips": {"windows": 3, "size": 96}})
    options["logmel_patches"]["windows"] = 3
    report = run_plan(plan(manifest, tmp_path / "store", names, options=options), readers=0)
    assert report.failed == 0
    store = Store(tmp_path / "store")
    tables = [store.read(store.find(name), manifest, manifest.rows) for name in names]
    picture, sound = (table.stacked() for table in tables)
    assert picture.shape == (1, 3, 8, 96, 96, 3)
    assert picture.dtype == np.uint8
    assert sound.shape == (1, 3, 80, 80)
    assert sound.dtype == np.float16
    np.testing.assert_array_equal(join_steps(tables[0].t, tables[1].t, hop=0.1), np.arange(3))


def test_numbers_of_the_film_are_read_at_their_times(tmp_path):
    """Pictures as wide as high show whole numbers: those of the frames on screen."""
    film = render_clip(tmp_path / "square.mp4", seconds=4.0, rate=16, size=(128, 128))
    manifest = film_manifest(film.parent, "square", end=4.0)
    options = {"lowres_clips": {"windows": 3, "size": 96}}
    run_plan(plan(manifest, tmp_path / "store", ["lowres_clips"], options=options), readers=0)
    store = Store(tmp_path / "store")
    x = store.read(store.find("lowres_clips"), manifest, manifest.rows).stacked()
    grid = LowResolutionClips(windows=3).grid
    shown = [[read_index(frame) for frame in window] for window in x[0]]
    expected = np.floor(grid.frame_times(0.0, 4.0) * 16 + 1e-9).astype(int)
    assert shown == expected.tolist()
