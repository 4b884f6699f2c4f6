"""Why two features differ: their specs, and their values clip by clip."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features.__main__ import main
from features.diff import compare_features, compare_specs
from features.sources import row_media
from features.spec import FeatureSpec
from features.store import Row, RowKey, Shard, Store
from pipeline.errors import UserError
from pipeline.manifest import Manifest, write_manifest
from tests.features.builders import SPEC, STEPS, WIDTH, fill, text_manifest, values

OTHER = FeatureSpec("colour", {"feature": {"bins": 8}, "grid": {"hop": 1.0, "window": 2.0}})


def fill_other(
    store: Store,
    manifest: Manifest,
    change: Callable[[int, np.ndarray], np.ndarray | None],
    *,
    rows: slice = slice(None),
    spec: FeatureSpec = OTHER,
    shard_rows: int = 3,
) -> None:
    """Commits changed values of some rows; None is a failed row."""
    sources = store.sources.resolve(manifest, manifest.rows)
    packed = []
    for n in range(len(manifest.rows))[rows]:
        row = manifest.rows[n]
        key = RowKey(sources[n].media[0], row.start, row.end)
        if "imported" in spec.values:
            key = key._replace(media=row_media(manifest.header.dataset, row.id))
        x = change(n, values(n))
        if x is None:
            packed.append(Row(key, status="no_audio", reason="the file has no sound"))
        else:
            packed.append(Row(key, x.astype(np.float32), np.arange(len(x)) + 0.5))
    width = next(row.x.shape[1] for row in packed if row.x is not None)
    for low in range(0, len(packed), shard_rows):
        store.commit(spec, Shard.pack(packed[low : low + shard_rows], shape=(width,)))


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, Manifest]:
    manifest = text_manifest(tmp_path / "data", 10)
    write_manifest(manifest, manifest.path)
    store = Store(tmp_path / "store")
    fill(store, manifest, failed=[6])
    return store, manifest


def compare(store: Store, a: FeatureSpec = SPEC, b: FeatureSpec = OTHER, **options):
    return compare_features((store, store.find(a.folder)), (store, store.find(b.folder)), **options)


class TestSpecs:
    def test_dotted_keys_on_either_side_and_both(self):
        a = {"feature": {"bins": 4, "old": True}, "grid": {"hop": 1.0}}
        b = {"feature": {"bins": 8}, "grid": {"hop": 1.0, "window": 2.0}}
        found = {change.key: (change.side, change.a, change.b) for change in compare_specs(a, b)}
        assert found == {
            "feature.bins": ("both", 4, 8),
            "feature.old": ("a", True, None),
            "grid.window": ("b", None, 2.0),
        }
        assert compare_specs(a, a) == []


class TestValues:
    def test_every_number_against_its_definition(self, filled):
        store, manifest = filled
        noise = {n: np.random.default_rng(100 + n).normal(size=(STEPS, WIDTH)) for n in range(10)}
        fill_other(store, manifest, lambda n, x: x + 0.1 * n * noise[n], rows=slice(2, 10))
        diff = compare(store, worst=3)
        clips = [n for n in range(2, 10) if n != 6]
        x = {n: values(n).astype(np.float64).ravel() for n in clips}
        y = {n: (values(n) + 0.1 * n * noise[n]).astype(np.float32).ravel() for n in clips}
        cosine = {
            n: x[n] @ y[n] / np.linalg.norm(x[n]) / np.linalg.norm(y[n].astype(np.float64))
            for n in clips
        }
        assert (diff.rows_a, diff.rows_b, diff.shared, diff.compared) == (10, 8, 8, 7)
        assert dict(diff.statuses) == {"no_audio, ok": 1}
        assert diff.cosine_mean == pytest.approx(np.mean(list(cosine.values())), abs=1e-9)
        assert diff.cosine_min == pytest.approx(min(cosine.values()), abs=1e-9)
        assert diff.deviation == pytest.approx(max(abs(x[n] - y[n]).max() for n in clips))
        worst = sorted(clips, key=cosine.__getitem__)[:3]
        assert [c.clip for c in diff.worst] == [f"videos/{n:03d}.mp4 0-10 s" for n in worst]
        assert diff.worst[0].deviation == pytest.approx(abs(x[worst[0]] - y[worst[0]]).max())

    def test_equal_values_of_two_stores(self, filled, tmp_path):
        store, manifest = filled
        second = Store(tmp_path / "second")
        fill(second, manifest, shard_rows=7, failed=[6])
        diff = compare_features((store, store.find("colour")), (second, second.find("colour")))
        assert diff.spec == []
        assert (diff.shared, diff.compared, diff.cosine_min, diff.deviation) == (10, 9, 1.0, 0.0)
        assert not diff.statuses
        assert diff.a != diff.b

    def test_other_lengths_and_shapes_are_told(self, filled, tmp_path):
        store, manifest = filled
        fill_other(store, manifest, lambda n, x: x[: STEPS - n % 2])
        diff = compare(store)
        assert dict(diff.steps) == {"10, 9": 5}
        assert diff.compared == 4
        wide = FeatureSpec("colour", {"feature": {"bins": 9}})
        fill_other(store, manifest, lambda n, x: np.hstack([x, x]), spec=wide)
        diff = compare(store, b=wide)
        assert diff.shapes == ((4,), (8,))
        assert diff.compared == 0
        assert diff.cosine_mean is None

    def test_zero_vectors(self, filled):
        store, manifest = filled
        fill_other(store, manifest, lambda n, x: 0 * x)
        zeros = FeatureSpec("colour", {"feature": {"bins": 9}})
        fill_other(store, manifest, lambda n, x: 0 * x, spec=zeros)
        assert compare(store).cosine_mean == 0.0
        assert compare(store, a=OTHER, b=zeros).cosine_mean == 1.0

    def test_row_that_two_shards_hold_counts_once(self, filled):
        store, manifest = filled
        fill_other(store, manifest, lambda n, x: x)
        fill_other(store, manifest, lambda n, x: x, shard_rows=5)
        fill(store, manifest, shard_rows=5, failed=[6])
        assert compare(store).shared == compare(store, a=OTHER, b=SPEC).shared == 10

    def test_imported_feature_is_joined_by_the_manifest(self, filled):
        store, manifest = filled
        imported = FeatureSpec("colour", {"imported": {"format": "npy", "content": "0"}})
        fill_other(store, manifest, lambda n, x: -x, spec=imported)
        assert compare(store, b=imported).shared == 0
        diff = compare(store, b=imported, manifests=[manifest])
        assert (diff.shared, diff.compared) == (10, 9)
        assert diff.cosine_mean == pytest.approx(-1.0)
        assert diff.worst[0].clip.startswith("clip0")


class TestCommand:
    def test_print(self, filled, capsys):
        store, manifest = filled
        fill_other(store, manifest, lambda n, x: x + (n == 3))
        command = ["diff", f"{store.path}:{SPEC.folder}", f"{store.path}:{OTHER.folder}"]
        assert main([*command, "--worst", "1", "--manifest", str(manifest.path)]) == 0
        printed = capsys.readouterr().out
        assert "feature.bins: 4 -> 8" in printed
        assert "grid.window: only in b: 2.0" in printed
        assert "rows: 10 in a, 10 in b, 10 in both" in printed
        assert "status no_audio, ok: 1 rows" in printed
        assert "largest deviation: 1, " in printed
        assert printed.rstrip().endswith("clip003")

    def test_json(self, filled, capsys):
        store, manifest = filled
        fill_other(store, manifest, lambda n, x: None if n else x)
        assert main(["diff", "--store", str(store.path), SPEC.folder, OTHER.folder, "--json"]) == 0
        value = json.loads(capsys.readouterr().out)
        assert value["shared"] == 10
        assert value["statuses"] == {"ok, no_audio": 8}
        assert value["spec"][0] == {"key": "feature.bins", "side": "both", "a": 4, "b": 8}

    def test_other_media_share_nothing(self, filled, tmp_path, capsys):
        store, _ = filled
        second = Store(tmp_path / "second")
        fill(second, text_manifest(tmp_path / "others", 10, dataset="others"))
        main(["diff", f"{store.path}:colour", f"{second.path}:colour"])
        assert "their videos differ in content" in capsys.readouterr().out

    def test_mistakes(self, filled):
        store, _ = filled
        with pytest.raises(UserError, match="STORE:colour"):
            main(["diff", "colour", "colour"])
        with pytest.raises(UserError, match="no feature 'colours'"):
            main(["diff", "--store", str(store.path), "colours", "colour"])
        with pytest.raises(UserError, match="--worst"):
            main(["diff", "--store", str(store.path), "colour", "colour", "--worst", "-1"])


def test_manifest_of_some_rows_compares_those(filled):
    store, manifest = filled
    fill_other(store, manifest, lambda n, x: x)
    some = replace(manifest, rows=manifest.rows[:4])
    assert compare(store, manifests=[some, some]).shared == 4
