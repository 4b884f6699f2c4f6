"""Noise that a header records is whole, so nothing that counts on it meets a gap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.manifest import read_manifest
from pipeline.noise import KINDS, Transition, inject, write_noisy
from tests.noisy import make_manifest

ENTRY = {"kind": "symmetric", "rate": 0.4}
LEFT_OUT = object()

BAD: dict[str, tuple[str, Any, str]] = {
    "no rate": ("rate", LEFT_OUT, "it lacks 'rate'"),
    "no kind": ("kind", LEFT_OUT, "it lacks 'kind'"),
    "kind that is a number": ("kind", 3, "kind must be a text that is not empty, this is 3"),
    "rate that is a text": ("rate", "0.4", "rate must be a share from 0 to 1, this is '0.4'"),
    "rate that is a truth value": ("rate", True, "rate must be a share"),
    "rate in percent": ("rate", 40, "rate must be a share from 0 to 1, this is 40"),
    "rate that is null": ("rate", None, "rate must be a share from 0 to 1, this is None"),
    "rate that is no number": ("rate", float("nan"), "rate must be a share"),
    "rates of texts": ("rates", {"a": "0.1"}, "rates must hold a share from 0 to 1 for each"),
    "rates as a list": ("rates", [0.1], "rates must hold a share"),
    "realised as a number": ("realised", 0.4, "realised must hold the share overall"),
    "realised that is null": ("realised", {"overall": None}, "realised must hold the share"),
    "nominal of texts": ("nominal", {"overall": 0, "per_class": {"a": "x"}}, "nominal must hold"),
    "changed as a share": ("changed", 0.5, "changed must be a number of rows, this is 0.5"),
    "overlap of texts": ("overlap", {"both": "1"}, "overlap must hold numbers of rows"),
    "options as a list": ("options", [1], "options must be an object"),
    "corpus keys of numbers": ("corpus_truth", [1], "corpus_truth must be a list of keys"),
}


def _write(path: Path, *noise: Any) -> Path:
    header = {"manifest": 1, "dataset": "d", "label_type": "multiclass", "classes": ["a"]}
    path.write_text(json.dumps(header | {"noise": noise}) + "\n")
    return path


@pytest.mark.parametrize("case", BAD)
def test_an_entry_that_is_not_whole_is_refused(case: str, tmp_path: Path) -> None:
    key, value, message = BAD[case]
    entry = {k: v for k, v in (ENTRY | {key: value}).items() if v is not LEFT_OUT}
    with pytest.raises(UserError) as error:
        read_manifest(_write(tmp_path / "m.jsonl", ENTRY, entry))
    assert str(error.value).startswith(f"m.jsonl line 1: entry 2 of noise: {message}")
    assert str(error.value).endswith(
        "; make the noise again with python -m pipeline.noise, or mend the header."
    )


def test_an_entry_may_hold_less_and_more_than_is_written(tmp_path: Path) -> None:
    noise = (ENTRY, ENTRY | {"rate": 1, "by": "elsewhere"}, {"kind": "theirs", "rate": 0.0})
    assert read_manifest(_write(tmp_path / "m.jsonl", *noise)).header.noise == noise


@pytest.mark.parametrize("name", KINDS)
def test_what_every_kind_writes_is_read(name: str, tmp_path: Path) -> None:
    label_type = "multiclass" if "multiclass" in KINDS[name].label_types else "multilabel"
    manifest = make_manifest(40, label_type=label_type)
    kind = Transition(matrix=np.full((5, 5), 0.2)) if name == "transition" else KINDS[name]()
    rates = dict.fromkeys(manifest.classes, 0.25) | {manifest.classes[0]: 0.5}
    for n, given in enumerate(({"rate": 0.5}, {"rates": rates})):
        noisy = inject(manifest, kind, **given)
        out = write_noisy(noisy, tmp_path / f"{n}.jsonl")
        assert read_manifest(out).header == noisy.manifest.header
