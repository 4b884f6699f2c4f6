"""Features and the roles they play: which fit, and how many rows lack them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from features.spec import FeatureSpec
from features.store import Row as StoredRow
from features.store import RowKey, Shard, Store
from pipeline.errors import UserError
from pipeline.manifest import Header, Manifest, Row
from trainers.roles import RoleTables, describe_failed, read_roles, say_failed

ROWS = (Row(id="a", start=0, end=2, split="test", labels=()),)
MANIFEST = Manifest(Header("made", "none", ()), ROWS)
EXTRACTED: dict[str, Any] = {"feature": {"made": True}}


def _read(folder: Path, specs: Mapping[str, dict[str, Any]], **roles: str) -> RoleTables:
    store = Store(folder)
    (source,) = store.sources.resolve(MANIFEST, ROWS)
    stored = StoredRow(RowKey(source.media[0], 0, 2), np.ones((2, 3), np.float32), np.arange(2.0))
    for name, values in specs.items():
        store.commit(FeatureSpec(name, values), Shard.pack([stored], shape=(3,)))
    return read_roles(MANIFEST, ROWS, store, roles, known=("audio", "visual", "motion"))


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (
            {"audio": "frame_stats", "visual": "logmel_stats"},
            "frame_stats is a visual feature and cannot be given as audio; give --features "
            "visual=frame_stats and name another for audio.",
        ),
        (
            {"audio": "logmel_stats", "visual": "frame_stats", "motion": "logmel_stats"},
            "logmel_stats is an audio feature and cannot be given as motion; give --features "
            "audio=logmel_stats and name another for motion.",
        ),
    ],
)
def test_a_role_of_the_other_modality_is_refused(
    tmp_path: Path, roles: dict[str, str], message: str
) -> None:
    specs = {"frame_stats": EXTRACTED, "logmel_stats": EXTRACTED}
    with pytest.raises(UserError) as told:
        _read(tmp_path, specs, **roles)
    assert str(told.value) == message
    fitting = _read(tmp_path, specs, audio="logmel_stats", visual="frame_stats")
    assert fitting.present.all()
    assert set(fitting.used) == {"audio", "visual"}


@pytest.mark.parametrize(
    ("name", "values", "refused"),
    [
        ("resnet152", {"imported": {"format": "llp"}}, True),
        ("sight", {"imported": {"format": "simulated", "modality": "visual"}}, True),
        ("resnet152", {"imported": {"format": "npy"}}, False),
        ("resnet152", {"imported": {"format": "hdf5"}}, False),
        ("sight", {"imported": {"format": "npy"}}, False),
        ("elsewhere", EXTRACTED, False),
    ],
)
def test_only_what_is_known_of_an_imported_feature_counts(
    tmp_path: Path, name: str, values: dict[str, Any], refused: bool
) -> None:
    specs = {name: values, "frame_stats": EXTRACTED}
    if not refused:
        assert _read(tmp_path, specs, audio=name, visual="frame_stats").present.all()
        return
    with pytest.raises(UserError, match=f"{name} is a visual feature and cannot be given as audio"):
        _read(tmp_path, specs, audio=name, visual="frame_stats")


def test_rows_without_features_are_counted_by_split(capsys: pytest.CaptureFixture) -> None:
    failed = {"train": 2, "val": 0, "test": 1}
    trained = "clips without features: 2 train, 1 test (not trained on; predicted as nothing)"
    assert describe_failed(failed, "drop") == trained
    assert describe_failed(failed, "zero") is None
    assert describe_failed({"val": 0, "test": 0}, "drop") is None
    split = SimpleNamespace(present=np.array([True, False, False]), inputs=None)
    say_failed({"val": split, "test": split}, "drop")
    said = capsys.readouterr()
    assert said.err == "clips without features: 2 val, 2 test (predicted as nothing)\n"
    assert said.out == ""
