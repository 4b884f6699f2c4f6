"""Figures of runs: what is counted, what is drawn, what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from pipeline.errors import UserError
from trainers.figures import Line, accuracy_figure, accuracy_lines, main, weights_histogram

NOISE = [{"kind": "symmetric", "rate": 0.4}, {"kind": "correspondence", "rate": 0.25}]


def write_run(
    folder: Path,
    *,
    seed: int = 0,
    noise: Sequence[Mapping[str, Any]] = NOISE,
    alpha: str = "linear",
    accuracy: float = 50.0,
    manifest: Path | None = None,
) -> Path:
    """A finished run with as much in it as figures read."""
    run = folder / f"action/ntl-{seed}-{alpha}"
    run.mkdir(parents=True)
    test = {"last": {"clip@1": accuracy}, "selected": {"clip@1": None}, "oracle": {"clip@1": 99.0}}
    results = {
        "method": "ntl",
        "seed": seed,
        "dataset": "made",
        "noise": list(noise),
        "metrics": {"test": test},
    }
    config = {
        "seed": seed,
        "hyperparameters": {"alpha": alpha},
        "paths": {"manifest": str(manifest)},
    }
    (run / "results.json").write_text(json.dumps(results))
    (run / "config.json").write_text(json.dumps(config))
    (run / "DONE").touch()
    return run


@pytest.fixture
def weighted(tmp_path: Path) -> Path:
    """A run with 400 weighed pairs, every fourth of which was altered, and the truth of it."""
    rng = np.random.default_rng(0)
    altered = np.arange(400) % 4 == 0
    weights = np.clip(np.where(altered, 0.3, 0.6) + 0.15 * rng.standard_normal((2, 400)), 0, 1)
    manifest = tmp_path / "made.jsonl"
    run = write_run(tmp_path / "runs", manifest=manifest)
    with h5py.File(run / "labels.h5", "w") as file:
        ids = [f"clip{n}" for n in range(400)]
        file.create_dataset("id", data=ids, dtype=h5py.string_dtype())
        file.create_dataset("weight_visual", data=weights[0].astype(np.float32))
        file.create_dataset("weight_audio", data=weights[1].astype(np.float32))
    lines = [{"id": f"clip{n}", "audio_id": f"clip{n}"} for n in np.flatnonzero(altered)]
    # A wrong label alone alters no pair.
    lines += [{"id": "clip1", "labels": ["a"]}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "made.truth.jsonl").write_text(text)
    return run


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved while a test runs."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


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


def _results(*settings: tuple[str, str, int, float]) -> list[dict[str, Any]]:
    return [
        {
            "method": "ntl",
            "seed": seed,
            "dataset": "made",
            "noise": [{"kind": kind, "rate": 0.4}],
            "metrics": {"test": {"last": {"clip@1": value}}},
            "identity": {"manifest": "m", "hyperparameters": {"alpha": alpha}},
        }
        for kind, alpha, seed, value in settings
    ]


def test_lines_sort_runs_by_noise_and_setting() -> None:
    results = _results(
        ("symmetric", "0.8", 0, 60.0),
        ("symmetric", "0.2", 0, 40.0),
        ("symmetric", "0.2", 1, 50.0),
        ("symmetric", "linear", 0, 65.0),
        ("asymmetric", "0.2", 0, 30.0),
    )
    asymmetric, symmetric = accuracy_lines(results, "alpha", "clip@1")
    assert asymmetric.points == {0.2: [30.0]}
    assert list(symmetric.points.items()) == [(0.2, [40.0, 50.0]), (0.8, [60.0])]
    assert symmetric.elsewhere == {"linear": [65.0]}
    assert (symmetric.name, symmetric.noise) == ("ntl, made", "symmetric 40 %")
    assert accuracy_lines(results, "warmup", "clip@1") == []


def test_other_settings_and_options_of_noise_are_lines_of_their_own() -> None:
    results = _results(*(("asymmetric", "0.2", n, 40.0 + n) for n in range(5)))
    results[1]["identity"]["hyperparameters"]["contrast"] = "ins"
    results[2]["identity"]["hyperparameters"]["contrast"] = "none"
    results[3]["noise"] = [{"kind": "asymmetric", "rate": 0.4, "options": {"flip": "half"}}]
    results[4]["identity"]["manifest"] = "another"
    lines = accuracy_lines(results, "alpha", "clip@1")
    assert {(line.name, line.noise): line.points[0.2] for line in lines} == {
        ("ntl, made (m)", "asymmetric 40 %"): [40.0],
        ("ntl (contrast=ins), made (m)", "asymmetric 40 %"): [41.0],
        ("ntl (contrast=none), made (m)", "asymmetric 40 %"): [42.0],
        ("ntl, made (m)", "asymmetric 40 % (half)"): [43.0],
        ("ntl, made (another)", "asymmetric 40 %"): [44.0],
    }
    (line,) = accuracy_lines([results[0], dict(results[0])], "alpha", "clip@1")
    assert line.points == {0.2: [40.0]}, "a run that is there twice is one seed"


def test_an_unknown_metric_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"no metric 'nope'; known: clip@1"):
        accuracy_lines(_results(("symmetric", "0.2", 0, 40.0)), "alpha", "nope")


def test_lines_of_one_setting_are_left_out_and_a_long_legend_has_room(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    lines = [Line(f"method {n}", "x" * 40, {0.2: [40.0 + n], 0.8: [50.0]}, {}) for n in range(9)]
    fixed = Line("ce", "y", {0.2: [40.0]}, {})
    accuracy_figure([*lines, fixed], tmp_path / "x.png", against="alpha", metric="clip@1")
    (axes,) = drawn[0].axes
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert names == [f"{line.name}, {line.noise}" for line in lines]
    looks = {(bar.lines[0].get_color(), bar.lines[0].get_marker()) for bar in axes.containers}
    assert len(looks) == len(lines), "no two lines look alike"
    assert drawn[0].get_figheight() > 4.5


def test_the_accuracy_figure_shows_means_and_standard_errors(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    line = Line("ntl", "symmetric 40 %", {0.2: [40.0, 50.0], 0.8: [60.0]}, {"linear": [65.0, 67.0]})
    accuracy_figure([line], tmp_path / "alpha.png", against="alpha", metric="clip@1")
    (axes,) = drawn[0].axes
    (bars,) = axes.containers
    assert bars.lines[0].get_xydata().tolist() == [[0.2, 45.0], [0.8, 60.0]]
    low, high = bars.lines[2][0].get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((40.0, 50.0))
    dashed = [x for x in axes.lines if x.get_linestyle() == "--" and len(x.get_ydata())]
    assert [x.get_ydata()[0] for x in dashed] == [66.0]
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert set(names) == {"symmetric 40 %", "alpha: linear"}
    assert axes.get_xlabel() == "alpha"
    assert "clip@1 (%)" in axes.get_ylabel()


def test_one_point_is_no_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least two"):
        accuracy_figure(
            [Line("ntl", "none", {0.2: [40.0]}, {})],
            tmp_path / "x.png",
            against="alpha",
            metric="clip@1",
        )


def test_the_command(weighted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "weights.png"
    assert main([str(weighted), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert out.stat().st_size > 5000
    runs = tmp_path / "runs"
    for alpha, value in (("0", 20.0), ("0.5", 60.0)):
        write_run(runs, alpha=alpha, accuracy=value)
    with pytest.raises(UserError, match="name the folder of one"):
        main([str(runs), "--out", str(out)])
    figure = tmp_path / "alpha.svg"
    assert main([str(runs), "--figure", "accuracy", "--out", str(figure)]) == 0
    assert figure.read_text().startswith("<?xml")
