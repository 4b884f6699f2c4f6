"""Derived artefacts: found by hash, whole or not there, checked when read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.derived import (
    Derived,
    DerivedKey,
    find_derived,
    find_or_make,
    read_derived,
    write_derived,
)
from pipeline.errors import UserError

KEY = DerivedKey(
    "toy_logits", {"feature": "clap-0123456789ab", "rows": "ab"}, "cosine; 1", {"scale": 2.5}
)


def artefact(key: DerivedKey = KEY) -> Derived:
    rng = np.random.default_rng(0)
    arrays = {
        "logits": rng.normal(size=(3, 10, 4)).astype(np.float32),
        "keep": rng.random((3, 4)) < 0.5,
        "count": np.arange(3),
    }
    return Derived(key, ("clip0", "naïve/ クリップ", "c"), arrays)


def assert_same(one: Derived, other: Derived) -> None:
    assert one.key.to_json() == other.key.to_json()
    assert one.ids == other.ids
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
        assert array.dtype == other.arrays[name].dtype


class TestKey:
    def test_every_part_changes_the_hash(self):
        others = [
            replace(KEY, name="other"),
            replace(KEY, inputs={**KEY.inputs, "rows": "ac"}),
            replace(KEY, method="cosine; 2"),
            replace(KEY, options={"scale": 2.0}),
        ]
        assert len({KEY.id, *(key.id for key in others)}) == 5
        assert replace(KEY, options={"scale": 2.5}).id == KEY.id

    def test_path_stays_in_the_store(self, tmp_path):
        assert KEY.path(tmp_path) == tmp_path / "derived" / f"toy_logits-{KEY.id}.h5"
        for name in ("../evil", "a/b", "", "A", "a-b"):
            with pytest.raises(ValueError, match="no name"):
                DerivedKey(name, {}, "x")


class TestFiles:
    def test_round_trip(self, tmp_path):
        path = write_derived(KEY.path(tmp_path), artefact())
        assert_same(read_derived(path), artefact())
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_same_content_is_the_same_file(self, tmp_path):
        a, b = (write_derived(tmp_path / name, artefact()) for name in ("a.h5", "b.h5"))
        assert a.read_bytes() == b.read_bytes()

    def test_found_by_hash_or_made_once(self, tmp_path):
        made = []

        def make() -> Derived:
            made.append(1)
            return artefact()

        assert find_derived(tmp_path, KEY) is None
        assert_same(find_or_make(tmp_path, KEY, make), artefact())
        assert_same(find_or_make(tmp_path, KEY, make), artefact())
        other = replace(KEY, options={})
        find_or_make(tmp_path, other, lambda: artefact(other))
        assert len(made) == 1
        assert len(list((tmp_path / "derived").iterdir())) == 2

    def test_what_fails_leaves_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(UserError, match="cannot be written"):
            write_derived(KEY.path(tmp_path), artefact())
        assert list((tmp_path / "derived").iterdir()) == []

    def test_rows_by_id(self):
        np.testing.assert_array_equal(artefact().select(["c", "clip0", "c"]), [2, 0, 2])
        with pytest.raises(UserError, match=r"1 of 2 rows are not in toy_logits-.*'nobody'"):
            artefact().select(["c", "nobody"])

    @pytest.mark.parametrize(
        ("ids", "arrays"),
        [
            ((), {}),
            (("a", "a"), {"x": np.zeros(2)}),
            (("a",), {"x": np.zeros(2)}),
            (("a",), {"x": np.array(["text"])}),
            (("a",), {"x": np.array([{}], dtype=object)}),
            (("a",), {"id": np.zeros(1)}),
            (("a",), {"../x": np.zeros(1)}),
        ],
    )
    def test_refuses_what_it_cannot_hold(self, ids, arrays):
        with pytest.raises(ValueError, match=r"artefact|no name|must be numbers"):
            Derived(KEY, ids, arrays)


class TestDamage:
    def test_changed_bits_are_noticed(self, tmp_path):
        path = write_derived(tmp_path / "a.h5", artefact())
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        noticed = 0
        for at in rng.integers(0, len(whole), 150):
            data = bytearray(whole)
            data[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(data)
            try:
                read = read_derived(path)
            except UserError:
                noticed += 1
            else:
                assert_same(read, artefact())  # a byte that nothing lies in
        assert noticed > 50

    def test_truncated_or_none_at_all(self, tmp_path):
        path = write_derived(tmp_path / "a.h5", artefact())
        whole = path.read_bytes()
        for data in (whole[: len(whole) // 2], b"", b"not HDF5"):
            path.write_bytes(data)
            with pytest.raises(UserError, match="cannot be read"):
                read_derived(path)
        with pytest.raises(UserError, match="cannot be read"):
            read_derived(tmp_path / "absent.h5")

    def test_a_key_that_was_changed(self, tmp_path):
        path = write_derived(tmp_path / "a.h5", artefact())
        with h5py.File(path, "r+") as file:
            key = json.loads(file.attrs["key"]) | {"options": {"scale": 3.0}}
            file.attrs["key"] = json.dumps(key)
        with pytest.raises(UserError, match="its key is not the one that was written"):
            read_derived(path)

    def test_another_artefact_under_the_name(self, tmp_path):
        other = replace(KEY, options={})
        write_derived(KEY.path(tmp_path), artefact(other))
        with pytest.raises(UserError, match=f"holds {other.label} instead"):
            find_derived(tmp_path, KEY)

    def test_links_out_of_the_file(self, tmp_path):
        secret = write_derived(tmp_path / "secret.h5", artefact())
        raw = tmp_path / "raw.bin"
        raw.write_bytes(bytes(24))

        def external(file: h5py.File) -> None:
            file["x"] = h5py.ExternalLink(str(secret), "count")

        def soft(file: h5py.File) -> None:
            file["x"] = h5py.SoftLink("/count")

        def outside(file: h5py.File) -> None:
            file.create_dataset("x", (3,), "i8", external=[(str(raw), 0, 24)])

        def virtual(file: h5py.File) -> None:
            layout = h5py.VirtualLayout((3,), "i8")
            layout[:] = h5py.VirtualSource(str(secret), "count", (3,))
            file.create_virtual_dataset("x", layout)

        def texts(file: h5py.File) -> None:
            file.create_dataset("x", data=["a", "b", "c"])

        for n, damage in enumerate((external, soft, outside, virtual, texts)):
            path: Path = write_derived(tmp_path / f"{n}.h5", artefact())
            with h5py.File(path, "r+") as file:
                damage(file)
            with pytest.raises(UserError, match=r"x (is no plain array|holds)"):
                read_derived(path)
