"""Figures of correspondence weights: what is counted, what is drawn, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from pipeline.errors import UserError
from tests.trainers.figures.made_runs import NOISE, write_run
from trainers.figures import weights_histogram


def test_clean_and_altered_pairs_are_two_histograms(
    weighted: Path, tmp_path: Path, drawn: list[Figure]
) -> None:
    out = weights_histogram(weighted, tmp_path / "pictures/weights.png")
    picture = imread(out)
    assert picture.shape[1] > picture.shape[0] > 300
    (axes,) = drawn[0].axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["clean pairs (n = 300)", "altered pairs (n = 100)"]
    assert "symmetric 40 %, correspondence 25 %" in axes.get_title("left")
    auroc = float(axes.get_title("left").split("AUROC ")[1])
    assert auroc > 0.95
    assert "%" in axes.get_ylabel()
    assert "ω" in axes.get_xlabel()


def test_a_side_of_the_weights_alone(weighted: Path, tmp_path: Path, drawn: list[Figure]) -> None:
    for which in ("visual", "audio"):
        weights_histogram(weighted, tmp_path / f"{which}.svg", which=which)
        assert f"{which} side" in drawn[-1].axes[0].get_xlabel()
    first, second = (figure.axes[0].get_title("left").split("AUROC ")[1] for figure in drawn)
    assert first != second


def test_without_truth_all_pairs_are_one_histogram(
    weighted: Path, tmp_path: Path, drawn: list[Figure]
) -> None:
    (tmp_path / "made.truth.jsonl").unlink()
    weights_histogram(weighted, tmp_path / "weights.pdf")
    (axes,) = drawn[0].axes
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        "pairs (truth unknown) (n = 400)"
    ]
    assert "AUROC" not in axes.get_title("left")


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    with pytest.raises(UserError, match="no correspondence weights"):
        weights_histogram(run, tmp_path / "x.png")


def test_a_truth_file_that_is_none_is_refused(weighted: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text("[1, 2]\n")
    with pytest.raises(UserError, match="no truth entry"):
        weights_histogram(weighted, tmp_path / "x.png", truth=bad)


ALTERED = [
    {"id": "n1", "kind": "symmetric", "rate": 0.4},
    {"id": "n2", "kind": "correspondence", "rate": 0.25,
     "overlap": {"both": 40, "flipped": 120, "altered": 60, "neither": 180}},
]  # fmt: skip


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (NOISE, None),
        (ALTERED, None),
        ([{"kind": "correspondence", "rate": 0.25, "changed": 100}], None),
        ([{"kind": "correspondence", "rate": 0.3, "changed": 120}], "has 100 clips .* not 120"),
        (NOISE[:1], "has 100 clips with another sound, not 0"),
    ],
)
def test_a_truth_must_alter_as_many_clips_as_the_runs_noise(
    weighted: Path, tmp_path: Path, noise: list[dict[str, Any]], message: str | None
) -> None:
    results = json.loads((weighted / "results.json").read_text())
    (weighted / "results.json").write_text(json.dumps({**results, "noise": noise}))
    truth = tmp_path / "made.truth.jsonl"
    if message is None:
        weights_histogram(weighted, tmp_path / "x.png", truth=truth)
        return
    with pytest.raises(UserError, match=message):
        weights_histogram(weighted, tmp_path / "x.png", truth=truth)


def test_the_truth_of_another_manifest_is_refused(weighted: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.truth.jsonl"
    other.write_text('{"id": "elsewhere", "audio_id": "elsewhere"}\n')
    with pytest.raises(UserError, match="no clip in common"):
        weights_histogram(weighted, tmp_path / "x.png", truth=other)
    header = {"manifest": 1, "noise": [{"id": "n1"}, {"id": "n3"}]}
    (tmp_path / "made.jsonl").write_text(json.dumps(header) + "\n")
    results = json.loads((weighted / "results.json").read_text())
    (weighted / "results.json").write_text(json.dumps({**results, "noise": ALTERED}))
    with pytest.raises(UserError, match=r"of the noise n1\+n3, not n1\+n2"):
        weights_histogram(weighted, tmp_path / "x.png", truth=tmp_path / "made.truth.jsonl")


def test_damaged_labels_end_with_one_sentence(weighted: Path, tmp_path: Path) -> None:
    path = weighted / "labels.h5"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(UserError, match=r"labels\.h5 is damaged; delete"):
        weights_histogram(weighted, tmp_path / "x.png")
    path.unlink()
    with h5py.File(path, "w") as file:
        file.create_dataset("weight_visual", data=np.ones(3))
        file.create_dataset("weight_audio", data=np.ones(3))
    with pytest.raises(UserError, match=r"labels\.h5 is damaged; delete"):
        weights_histogram(weighted, tmp_path / "x.png")


def test_other_formats_are_refused(weighted: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.png, \.svg, \.pdf"):
        weights_histogram(weighted, tmp_path / "x.bmp")
