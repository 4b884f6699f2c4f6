"""From manifest and store to tensors: whose audio, which clips, which videos, what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from features.spec import FeatureSpec
from features.store import Row as StoredRow
from features.store import RowKey, Shard, Store
from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row, read_manifest, write_manifest
from tests.action_corpora import make_noisy, write_action_corpus
from trainers.action.data import known_noise, load_data, load_inputs
from trainers.action.interface import METHODS

ROLES = {"audio": "sound", "visual": "sight"}
CPU = torch.device("cpu")


def _rows(manifest: Manifest, n: int) -> tuple[Row, ...]:
    return manifest.split("train")[:n]


def _corpus(
    folder: Path, features: dict[str, dict[str, tuple[np.ndarray, np.ndarray] | None]]
) -> tuple[Manifest, Store]:
    """A manifest of the rows named, and features given as (x, t) or, for a failed row, None."""
    names = list(next(iter(features.values())))
    rows = tuple(Row(id=n, start=0, end=10, split="train", labels=("a",)) for n in names)
    path = folder / "m.jsonl"
    write_manifest(Manifest(Header("d", "multiclass", ("a", "b")), rows), path)
    manifest, store = read_manifest(path), Store(folder / "store")
    media = store.sources.resolve(manifest, manifest.rows)
    for feature, by_row in features.items():
        stored = []
        for row, source in zip(rows, media, strict=True):
            key = RowKey(source.media[0], row.start, row.end)
            found = by_row[row.id]
            if found is None:
                stored.append(StoredRow(key, status="no_audio", reason="made to fail"))
            else:
                stored.append(StoredRow(key, *found))
        width = next(found[0].shape[1:] for found in by_row.values() if found is not None)
        store.commit(FeatureSpec(feature, {"made": feature}), Shard.pack(stored, shape=width))
    return manifest, store


def _steps(t: list[float], width: int = 2, first: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Features whose value is their time, plus a number that names the feature."""
    times = np.array(t)
    return np.repeat(times[:, None] + first, width, 1).astype(np.float32), times


def test_audio_is_that_of_the_row_named_and_pool_rows_lend_it(tmp_path: Path) -> None:
    path, store = write_action_corpus(tmp_path)
    clean = read_manifest(path)
    one, two, *rest = clean.rows
    lender = clean["test0"]
    rows = [
        Row(one.id, 0, 10, "train", one.labels, audio_id=two.id, group=one.group),
        Row(two.id, 0, 10, "train", two.labels, audio_id=lender.id, group=two.group),
        *(row for row in rest if row.split != "test"),
        Row(lender.id, 0, 10, "pool", (), group="elsewhere"),
    ]
    swapped = clean.with_rows(rows)
    before, _, _ = load_inputs(clean, _rows(clean, 3), Store(store), ROLES)
    lent, _, _ = load_inputs(clean, [lender], Store(store), ROLES)
    after, present, used = load_inputs(swapped, _rows(swapped, 3), Store(store), ROLES)
    assert present.all()
    assert torch.equal(after.audio[0], before.audio[1])
    assert torch.equal(after.audio[1], lent.audio[0])
    assert torch.equal(after.audio[2], before.audio[2])
    assert torch.equal(after.visual, before.visual)
    assert set(used) == {"audio", "visual"}
    assert used["audio"].startswith("sound-")


def test_clips_are_steps_that_both_modalities_have(tmp_path: Path) -> None:
    full, short = [0.5, 1.5, 2.5], [0.5, 1.5]
    manifest, store = _corpus(
        tmp_path,
        {
            "sight": {"a": _steps(full), "b": _steps(full), "c": _steps(short), "d": _steps(full)},
            "sound": {
                "a": _steps(full, 3, 100),
                "b": _steps(short, 3, 100),
                "c": _steps(full, 3, 100),
                "d": None,
            },
        },
    )
    inputs, present, _ = load_inputs(manifest, manifest.rows, store, ROLES)
    np.testing.assert_array_equal(present, [True, True, True, False])
    assert inputs.visual.shape == (3, 3, 2)
    assert inputs.audio.shape == (3, 3, 3)
    expected = [[True] * 3, [True, True, False], [True, True, False]]
    np.testing.assert_array_equal(inputs.valid, expected)
    assert not inputs.visual[~inputs.valid].any()
    assert not inputs.audio[~inputs.valid].any()
    joined = inputs.audio[inputs.valid][:, 0] - inputs.visual[inputs.valid][:, 0]
    assert (joined == 100).all(), "clips of the same time stand together"


def test_steps_are_joined_by_time_and_never_stretched(tmp_path: Path) -> None:
    manifest, store = _corpus(
        tmp_path,
        {
            "sight": {"a": _steps([0.5, 1.0, 1.5, 2.0, 2.5])},
            "sound": {"a": _steps([0.48, 1.48, 2.48], 2, 100)},
        },
    )
    inputs, _, _ = load_inputs(manifest, manifest.rows, store, ROLES)
    np.testing.assert_allclose(inputs.visual[0, :, 0], [0.5, 1.5, 2.5])
    manifest, store = _corpus(
        tmp_path / "other",
        {
            "sight": {"a": _steps([0.5, 1.5, 2.5])},
            "sound": {"a": _steps([4.5, 5.5, 6.5], 2, 100)},
        },
    )
    with pytest.raises(UserError, match="of 'a' do not share a time grid"):
        load_inputs(manifest, manifest.rows, store, ROLES)


def test_videos_without_features_can_be_zeros_or_an_error(tmp_path: Path) -> None:
    fine, empty = _steps([0.5, 1.5]), (np.zeros((0, 2), dtype=np.float32), np.zeros(0))
    manifest, store = _corpus(
        tmp_path,
        {"sight": {"a": fine, "b": None, "c": fine}, "sound": {"a": fine, "b": fine, "c": empty}},
    )
    inputs, present, _ = load_inputs(manifest, manifest.rows, store, ROLES)
    np.testing.assert_array_equal(present, [True, False, False])
    assert len(inputs) == 1
    with pytest.raises(UserError, match="2 clips have no features, 'b' first"):
        load_inputs(manifest, manifest.rows, store, ROLES, missing="error")
    inputs, present, _ = load_inputs(manifest, manifest.rows, store, ROLES, missing="zero")
    assert present.all()
    assert inputs.valid.all(), "a video without any clip could be neither visited nor scored"
    assert not inputs.visual[1:].any()
    assert inputs.visual[0].any()


def test_features_that_are_no_vectors_are_refused(tmp_path: Path) -> None:
    picture = (np.zeros((2, 4, 4), dtype=np.float32), np.array([0.5, 1.5]))
    manifest, store = _corpus(
        tmp_path, {"sight": {"a": picture}, "sound": {"a": _steps([0.5, 1.5])}}
    )
    with pytest.raises(UserError, match="steps of 4 x 4 values"):
        load_inputs(manifest, manifest.rows, store, ROLES)


def test_failed_rows_are_counted_and_groups_are_numbers(tmp_path: Path) -> None:
    path, store = write_action_corpus(tmp_path, failed=("train1", "val0"), deaf=("test2", "test3"))
    data = load_data(read_manifest(path), Store(store), ROLES, METHODS.get("ce"), device=CPU)
    assert data.failed == {"train": 1, "val": 1, "test": 2}
    assert len(data.view) == len(data.train_ids) == 39
    assert "train1" not in data.train_ids
    assert data.view.groups.tolist()[:4] == [0, 1, 1, 2]
    assert data.view.labels.tolist()[:4] == [0, 2, 3, 4]
    test = data.splits["test"]
    assert len(test.ids) == len(test.labels) == 20
    assert len(test.inputs) == 18
    assert data.view.noise is None


def test_only_methods_that_declare_it_are_told_the_noise(tmp_path: Path) -> None:
    path, store = write_action_corpus(tmp_path)
    noisy = read_manifest(make_noisy(path))
    told = {
        name: load_data(noisy, Store(store), ROLES, METHODS.get(name), device=CPU).view.noise
        for name in METHODS.names()
    }
    assert {name for name, noise in told.items() if noise} == {
        name for name in METHODS.names() if "noise_level" in METHODS.get(name).needs
    }
    assert {n.kind for n in told.values() if n} == {"symmetric"}
    assert {round(n.rate, 6) for n in told.values() if n} == {0.4}


def test_the_noise_level_is_that_of_the_header() -> None:
    def noise(*entries: dict) -> Manifest:
        return Manifest(Header("d", "multiclass", ("a",), noise=entries), ())

    flips = {"kind": "symmetric", "rate": 0.5, "realised": {"overall": 0.48}}
    moved = {"kind": "correspondence", "rate": 0.9, "realised": {"overall": 0.9}}
    table = {"kind": "transition", "rate": 0.25}
    assert known_noise(noise()).kind is None
    assert known_noise(noise(moved)).rate == 0.0
    assert known_noise(noise(flips, moved)) == known_noise(noise(moved, flips))
    assert known_noise(noise(flips)).rate == pytest.approx(0.48)
    both = known_noise(noise(flips, table))
    assert (both.kind, both.rate) == ("asymmetric", pytest.approx(1 - 0.52 * 0.75))
