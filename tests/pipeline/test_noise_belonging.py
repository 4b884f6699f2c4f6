"""A truth is that of its own manifest, or it is refused: when it is written and when it is read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.manifest import Manifest, read_manifest, write_manifest
from pipeline.noise import (
    Asymmetric,
    Correspondence,
    Drop,
    Modality,
    Symmetric,
    inject,
    read_truth,
    truth_of,
    truth_path,
    write_noisy,
)
from pipeline.noise.belonging import check_belongs
from tests.noisy import make_manifest
from trainers.action.detection import read_true_noise
from trainers.detection import detection_metrics

REFUSED = r"The truth {}\.truth\.jsonl does not fit {}.*write the noise again"


@pytest.fixture
def clean(tmp_path: Path) -> Manifest:
    return write_manifest(make_manifest(50), tmp_path / "clean.jsonl")


@pytest.mark.parametrize(
    ("first", "second", "offered"),
    [
        ("sym.0", "sym.1", "sym.1.jsonl"),
        ("noisy0.2", "noisy0.6", "noisy0.6.jsonl"),
        ("a.jsonl", "a", "a-noisy.jsonl"),
        ("a.json", "a.jsonl", "a-noisy.jsonl"),
    ],
)
def test_two_outputs_never_share_a_truth(
    first: str, second: str, offered: str, clean: Manifest
) -> None:
    path = write_noisy(inject(clean, Symmetric(), rate=0.4, seed=0), clean.folder / first)
    before = truth_path(path).read_bytes()
    other = inject(clean, Symmetric(), rate=0.4, seed=1)
    with pytest.raises(UserError, match=rf"^{second} would share the truth .* as {offered}\.$"):
        write_noisy(other, clean.folder / second)
    assert not (clean.folder / second).exists()
    assert truth_path(path).read_bytes() == before
    # The name that the error offers, and the file's own name again, are free.
    for out in (clean.folder / offered, path):
        assert truth_of(read_manifest(write_noisy(other, out))) == other.truth


def test_other_files_of_the_same_stem_take_no_truth(clean: Manifest) -> None:
    (clean.folder / "noisy.log").write_text("{}\n")
    (clean.folder / "noisy.png").write_bytes(b"\x89PNG\xff")
    (clean.folder / "noisy.d").mkdir()
    write_noisy(inject(clean, Symmetric(), rate=0.4), clean.folder / "noisy.jsonl")


def test_an_output_is_not_named_as_a_truth(clean: Manifest) -> None:
    noisy = inject(clean, Symmetric(), rate=0.4)
    path = truth_path(write_noisy(noisy, clean.folder / "noisy.jsonl"))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"is named as the truth of a manifest; give --out a name"):
        write_noisy(noisy, path)
    assert path.read_bytes() == before


SWAPS: dict[str, tuple[str, Any, Any]] = {
    "another seed": ("multiclass", (Symmetric(), 0.4, 0), (Symmetric(), 0.4, 1)),
    "a higher rate": ("multiclass", (Symmetric(), 0.2, 0), (Symmetric(), 0.6, 0)),
    "a lower rate": ("multiclass", (Symmetric(), 0.6, 0), (Symmetric(), 0.2, 0)),
    "another kind": ("multiclass", (Symmetric(), 0.4, 0), (Correspondence(), 0.4, 0)),
    "fewer sounds": ("multiclass", (Correspondence(), 0.6, 0), (Correspondence(), 0.1, 0)),
    "fewer lost labels": ("multilabel", (Drop(), 0.6, 0), (Drop(), 0.2, 0)),
    "fewer changed lists": ("multilabel", (Modality(), 0.6, 0), (Modality(), 0.2, 0)),
    "no noise": ("multiclass", (Symmetric(), 0.6, 0), (Symmetric(), 0, 0)),
}


@pytest.mark.parametrize("case", SWAPS)
def test_the_truth_of_another_manifest_is_refused(case: str, tmp_path: Path) -> None:
    label_type, *noises = SWAPS[case]
    clean = make_manifest(50, label_type=label_type)
    paths = [
        write_noisy(inject(clean, kind, rate=rate, seed=seed), tmp_path / f"{n}.jsonl")
        for n, (kind, rate, seed) in enumerate(noises)
    ]
    mine = read_manifest(paths[0])
    ids = [row.id for row in mine.split("train")]
    assert truth_of(mine)
    shutil.copy(truth_path(paths[1]), truth_path(paths[0]))
    refused = REFUSED.format("0", r"0\.jsonl")
    with pytest.raises(UserError, match=refused):
        inject(mine, Correspondence(), rate=0.2)
    with pytest.raises(UserError, match=refused):
        detection_metrics(mine, ids, {})
    if label_type == "multiclass":
        with pytest.raises(UserError, match=refused):
            read_true_noise(mine, ids)


def test_the_truth_of_other_cells_of_two_noises_is_refused() -> None:
    clean = make_manifest(50)
    flipped = inject(clean, Symmetric(), rate=0.4)
    both = inject(flipped.manifest, Correspondence(), rate=0.4, truth=flipped.truth)
    check_belongs(both.truth, both.manifest)
    sounds = {i: {k: v for k, v in e.items() if k != "labels"} for i, e in both.truth.items()}
    with pytest.raises(UserError, match="by it 0 training rows are both, by the header"):
        check_belongs(sounds, both.manifest)
    with pytest.raises(UserError, match="does not fit the manifest"):
        inject(both.manifest, Symmetric(), rate=0.1, truth=flipped.truth)


def test_labels_that_are_no_classes_are_refused(tmp_path: Path) -> None:
    out = write_noisy(inject(make_manifest(), Symmetric(), rate=0.5), tmp_path / "noisy.jsonl")
    lines = [json.loads(line) for line in truth_path(out).read_text().splitlines()]
    lines[3]["labels"] = ["elsewhere"]
    truth_path(out).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"the label 'elsewhere', which is no class"):
        truth_of(read_manifest(out))


def test_noise_that_returns_rows_keeps_its_truth(tmp_path: Path) -> None:
    there = inject(make_manifest(40, 2), Asymmetric(), rate=1)
    back = inject(there.manifest, Asymmetric(), rate=0.5, truth=there.truth)
    out = write_noisy(back, tmp_path / "back.jsonl")
    assert len(truth_of(read_manifest(out)) or {}) == 20
    assert truth_of(make_manifest()) is None
    # A noise whose header counts nothing, as other programs write it, is checked by its rows.
    plain = read_manifest(out)
    bare = plain.with_rows(plain.rows, noise=({"kind": "symmetric", "rate": 0.5},))
    check_belongs(read_truth(truth_path(out)), bare)
    check_belongs({}, bare)
