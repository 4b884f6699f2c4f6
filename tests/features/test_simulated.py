"""Simulated instances: what they are made of, and that they lie in a store like anybody's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.simulated import (
    SIMULATED_FEATURES,
    SIMULATED_SIZES,
    Simulation,
    simulate_instances,
    simulated_corpus,
)
from features.store import Store
from pipeline.errors import UserError
from pipeline.manifest import read_manifest

SMALL = {"train": 30, "val": 6, "test": 10, "pool": 12}


def test_shapes_and_constants_are_those_of_the_benchmark() -> None:
    assert SIMULATED_SIZES == {"train": 2000, "val": 0, "test": 600, "pool": 2000}
    made = simulate_instances(50, seed=0)
    assert len(made) == 50
    assert made.visual.shape == made.audio.shape == (50, 4, 64)
    assert made.visual.dtype == made.audio.dtype == np.float32
    assert made.labels.dtype == np.int64
    assert ((made.labels >= 0) & (made.labels < 20)).all()
    assert (made.visual >= 0).all()
    assert (made.visual == 0).mean() > 0.3


def test_everything_depends_on_the_seed_and_the_split() -> None:
    one, same = (simulate_instances(20, seed=1) for _ in range(2))
    assert np.array_equal(one.visual, same.visual)
    assert np.array_equal(one.audio, same.audio)
    for other in (simulate_instances(20, seed=2), simulate_instances(20, seed=1, split="test")):
        assert not np.array_equal(one.visual, other.visual)
        assert not np.array_equal(one.labels, other.labels)


def test_more_instances_begin_with_the_same_ones() -> None:
    few, many = (simulate_instances(count, seed=1) for count in (5, 50))
    assert np.array_equal(few.visual, many.visual[:5])
    assert np.array_equal(few.audio, many.audio[:5])
    assert np.array_equal(few.labels, many.labels[:5])


def test_values_have_the_stated_deviations() -> None:
    # Without the nonlinearity's zeros: half the values are the linear part as it is.
    quiet = Simulation(noise=0.0, nuisance=0.0, spread=0.0)
    made = simulate_instances(200, seed=0, simulation=quiet)
    assert np.array_equal(made.visual[:, 0], made.visual[:, 3])
    for label in np.unique(made.labels):
        same = made.visual[made.labels == label]
        assert np.array_equal(same, np.broadcast_to(same[0], same.shape))
    centres = [made.visual[made.labels == k][0, 0] for k in np.unique(made.labels)]
    # A sum of 16 products of standard normals and normals of variance 1/16 has variance 1, and
    # the mean square of its positive part is half of that.
    assert np.square(centres).mean() == pytest.approx(0.5, abs=0.12)
    loud = simulate_instances(400, seed=0, simulation=Simulation(nuisance=0.0, spread=0.0))
    active = made.visual[:200].min(1) > 1.5
    noise = (loud.visual[:200] - made.visual[:200]).transpose(0, 2, 1)[active]
    assert noise.std() == pytest.approx(0.5, abs=0.02)


def test_picture_and_sound_share_the_instance_and_not_the_nuisance() -> None:
    def agreement(simulation: Simulation) -> float:
        """Share of instances whose sound is best predicted from their own picture."""
        made = simulate_instances(300, seed=3, simulation=simulation)
        x, y = made.visual.mean(1).astype(np.float64), made.audio.mean(1).astype(np.float64)
        x, y = (v - v.mean(0) for v in (x, y))
        half = len(x) // 2
        ridge = np.linalg.solve(x[:half].T @ x[:half] + 10 * np.eye(64), x[:half].T @ y[:half])
        guess = x[half:] @ ridge
        distance = ((guess[:, None] - y[None, half:]) ** 2).sum(-1)
        return float((distance.argmin(1) == np.arange(half)).mean())

    assert agreement(Simulation(nuisance=0.0)) > 0.5
    assert agreement(Simulation(nuisance=30.0)) < 0.05


def test_a_corpus_is_read_like_any_other(tmp_path: Path) -> None:
    path, folder = simulated_corpus(tmp_path, 4, sizes=SMALL)
    manifest, store = read_manifest(path), Store(folder)
    assert {split: len(manifest.split(split)) for split in SMALL} == SMALL
    assert manifest.header.label_type == "multiclass"
    assert all(row.video is None for row in manifest.rows)
    assert store.verify() == []
    for role, name in SIMULATED_FEATURES.items():
        info = store.find(name)
        assert info.imported
        assert (info.rows, info.failed, info.hop, info.width) == (58, 0, 2.0, 64)
        for split in SMALL:
            rows = manifest.split(split)
            made = simulate_instances(len(rows), seed=4, split=split)
            table = store.read(info, manifest, rows)
            assert np.array_equal(table.stacked(), getattr(made, role))
            assert np.array_equal(table.t[:4], [1.0, 3.0, 5.0, 7.0])
            names = [manifest.classes[k] for k in made.labels]
            assert [row.labels[0] for row in rows] == names


def test_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    simulated_corpus(tmp_path, 4, sizes=SMALL)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    simulated_corpus(tmp_path, 4, sizes=SMALL)
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    assert after == before


def test_another_corpus_needs_another_folder(tmp_path: Path) -> None:
    simulated_corpus(tmp_path, 4, sizes=SMALL)
    with pytest.raises(UserError, match="another folder"):
        simulated_corpus(tmp_path, 5, sizes=SMALL)
    with pytest.raises(UserError, match="make no sense"):
        simulated_corpus(tmp_path / "b", sizes={"train": -1})
    with pytest.raises(UserError, match="make no sense"):
        simulated_corpus(tmp_path / "b", sizes={"training": 3})


def test_senseless_constants_are_refused() -> None:
    with pytest.raises(ValueError, match="classes"):
        Simulation(classes=0)
    with pytest.raises(ValueError, match="-1 instances"):
        simulate_instances(-1, seed=0)


def test_rows_that_were_never_made_name_the_remedy(tmp_path: Path) -> None:
    path, folder = simulated_corpus(tmp_path, 4, sizes=SMALL)
    manifest, store = read_manifest(path), Store(folder)
    stranger = manifest.with_rows([*manifest.rows], dataset="another")
    with pytest.raises(UserError, match="simulated_corpus"):
        store.read(store.find("simulated_audio"), stranger, stranger.rows)
