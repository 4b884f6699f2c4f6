"""JSON that carries its own digest: every changed byte is met."""

from __future__ import annotations

import json

import pytest

from pipeline.files import read_sealed, sealed_json

VALUE = {"a": 1, "b": {"digest": "", "text": 'x "digest": "" y', "é": [1.5, None]}, "c": "\udc80"}


@pytest.mark.parametrize("indent", [None, 2])
class TestSealed:
    def test_value_comes_back_and_is_plain_json(self, indent):
        data = sealed_json(VALUE, indent=indent)
        assert read_sealed(data) == VALUE
        assert list(json.loads(data)) == ["a", "b", "c", "digest"]
        assert data.endswith(b"}\n")

    def test_every_flipped_bit_and_every_cut_is_met(self, indent):
        data = sealed_json(VALUE, indent=indent)
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            try:
                # A damaged name of the digest leaves an object without one and a key too many.
                assert read_sealed(bytes(flipped)).keys() - VALUE.keys()
            except ValueError:
                continue
        for size in range(len(data)):
            with pytest.raises(ValueError, match=r".+"):
                read_sealed(data[:size])


def test_object_without_digest_is_read_as_it_is():
    assert read_sealed(b'{"a": 1}') == {"a": 1}
    with pytest.raises(ValueError, match="no JSON object"):
        read_sealed(b"[1]")
