"""The whole path on real talking faces: which colour is said, clean and under noise.

40 clips of GRID (Cooke et al. 2006), natural synchronous media with word alignments. Names of clips
spell the sentence and nothing else, and all 40 are of one speaker, so every clip is a group of its
own; five folds are dealt class by class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from features.extraction import Report, plan, run_plan
from features.importing import import_npy
from features.store import Store
from pipeline.grid import SegmentGrid
from pipeline.manifest import Header, Manifest, Row, write_manifest
from pipeline.noise import Correspondence, Kind, Symmetric, inject, write_noisy
from trainers.action.experiment import Experiment

TICKS = 25_000
"""Alignment times a second."""
COLOURS = ("blue", "green", "red", "white")
FOLDS = 5
EXTRACTED = {
    "audio": ("logmel_patches", {"windows": 0, "hop": 1.0}),
    "visual": ("frame_stats", {"hop": 0.2, "frames": 5}),
}
"""A spectrogram of the window, and statistics of each fifth of it."""
FEATURES = {"audio": "window_sound", "visual": "window_picture"}
"""The same with a window as one step: where in it something happens is what tells words apart, and
methods take the steps of a video for clips that each show its class."""
# Half a class are neighbours; two batches make a pass over the 32 training clips of a fold.
COMMON = {"width": 64, "batch_size": 16, "epochs": 60}
SETTINGS = {"ce": COMMON, "ntl": COMMON | {"neighbor_count": 4}}
CONDITIONS: Mapping[str, Kind | None] = {
    "clean": None,
    "labels 40 %": Symmetric(),
    "sound 40 %": Correspondence(),
}
RATE = 0.4


@dataclass(frozen=True)
class Cell:
    """One method under one condition, over the 40 test clips of all folds.

    Attributes:
        right: Clips whose colour was recognised.
        clips: All clips.
    """

    right: int
    clips: int

    @property
    def accuracy(self) -> float:
        """Share of the clips."""
        return self.right / self.clips

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        z, n = 1.959964, self.clips
        centre = (self.accuracy + z**2 / (2 * n)) / (1 + z**2 / n)
        half = (
            z
            / (1 + z**2 / n)
            * np.sqrt(self.accuracy * (1 - self.accuracy) / n + z**2 / (4 * n**2))
        )
        return float(centre - half), float(centre + half)


def colour_windows(folder: Path) -> list[tuple[str, str, float]]:
    """(clip, colour, middle of the word in seconds), sorted by colour and clip."""
    found = []
    for path in sorted(folder.glob("*.align")):
        words = [line.split() for line in path.read_text().splitlines() if line.strip()]
        said = [(w, (int(a) + int(b)) / 2 / TICKS) for a, b, w in words if w in COLOURS]
        assert len(said) == 1, f"{path.name} has {len(said)} colours"
        found.append((path.stem, *said[0]))
    return sorted(found, key=lambda entry: (entry[1], entry[0]))


def make_fold(media: Path, fold: int, folder: Path) -> Manifest:
    """The manifest of one fold: dealt clips are tested, the others trained on."""
    rows = tuple(
        Row(
            id=clip,
            video=f"{clip}.mpg",
            start=middle - 0.5,
            end=middle + 0.5,
            split="test" if n % FOLDS == fold else "train",
            labels=(colour,),
        )
        for n, (clip, colour, middle) in enumerate(colour_windows(media))
    )
    header = Header("grid-colours", "multiclass", COLOURS, media_root=str(media))
    path = folder / f"fold{fold}.jsonl"
    return write_manifest(Manifest(header, rows, None), path)


@dataclass(frozen=True)
class Grid:
    """What was measured once for all tests of this file."""

    manifests: list[Manifest]
    report: Report
    store: Store
    cells: Mapping[tuple[str, str], Cell]


@pytest.fixture(scope="module")
def grid(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """Extracts once, trains every method under every condition on every fold."""
    folder = tmp_path_factory.mktemp("grid")
    manifests = [make_fold(shared / "media" / "grid", fold, folder) for fold in range(FOLDS)]
    store = folder / "store"
    options = dict(EXTRACTED.values())
    report = run_plan(plan(manifests[0], store, list(options), options=options))
    for role, (name, _) in EXTRACTED.items():
        _import_windows(manifests[0], Store(store), name, FEATURES[role], folder / role)
    cells = {}
    for condition, kind in CONDITIONS.items():
        noisy = [_with_noise(manifest, kind, condition, folder) for manifest in manifests]
        for method in SETTINGS:
            right = [_recognised(method, m, Store(store), folder) for m in noisy]
            cells[method, condition] = Cell(sum(right), len(manifests[0]))
    return Grid(manifests, report, Store(store), cells)


def _import_windows(manifest: Manifest, store: Store, source: str, name: str, folder: Path) -> None:
    """Brings a feature back into the store with all values of a window in one step."""
    folder.mkdir()
    table = store.read(store.find(source), manifest, manifest.rows)
    for row, values in zip(manifest.rows, table.stacked(), strict=True):
        np.save(folder / f"{row.id}.npy", values.astype(np.float32).reshape(1, -1))
    import_npy(folder, manifest, store, name=name, grid=SegmentGrid(hop=1.0))


def _with_noise(manifest: Manifest, kind: Kind | None, name: str, folder: Path) -> Manifest:
    if kind is None:
        return manifest
    noisy = inject(manifest, kind, rate=RATE, seed=0)
    write_noisy(noisy, folder / f"{manifest.path.stem} {name}.jsonl")
    return noisy.manifest


def _recognised(method: str, manifest: Manifest, store: Store, folder: Path) -> int:
    """Test clips whose colour the last epoch recognises."""
    (run,) = Experiment(
        method=method,
        manifest=manifest,
        store=store,
        roles=FEATURES,
        values=SETTINGS[method],
        detect_every=0,
        threads=1,
        runs=folder / "runs",
        quiet=True,
    ).run([0])
    rows = manifest.split("test")
    share = run.results()["metrics"]["test"]["last"]["video@1"] / 100
    with h5py.File(run.path / "predictions.h5") as file:
        assert len(file["test/last/logits"]) == len(rows)
    return round(share * len(rows))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_window_has_features(grid: Grid) -> None:
    assert grid.report.failed == 0
    widths = {
        "logmel_patches": 80,
        "frame_stats": 404,
        "window_sound": 3200,
        "window_picture": 2020,
    }
    for name, width in widths.items():
        info = grid.store.find(name)
        assert (info.rows, info.failed, info.width) == (40, 0, width)
        for manifest in grid.manifests:
            table = grid.store.read(info, manifest, manifest.rows)
            assert table.ok.all()
            assert (table.lengths == (5 if name == "frame_stats" else 1)).all()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_folds_are_balanced_and_cover_all_clips(grid: Grid) -> None:
    tested = [row.id for manifest in grid.manifests for row in manifest.split("test")]
    assert len(tested) == len(set(tested)) == 40
    for manifest in grid.manifests:
        counts = manifest.label_matrix(manifest.split("test")).sum(0)
        assert counts.sum() == 8
        assert counts.min() >= 1
        assert counts.max() <= 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_accuracy_has_an_interval_beside_chance(grid: Grid) -> None:
    labels = grid.manifests[0].label_matrix(grid.manifests[0].rows)
    chance = labels.mean(0).max()
    assert chance == pytest.approx(0.3)
    print(f"\nchance (the most frequent colour) {chance:.1%}")
    for (method, condition), cell in grid.cells.items():
        low, high = cell.interval
        print(f"{method:4} {condition:12} {cell.accuracy:.1%} [{low:.1%}, {high:.1%}]")
        assert 0 <= low <= cell.accuracy <= high <= 1
        assert 0.2 < high - low < 0.32
    assert set(grid.cells) == {(m, c) for m in SETTINGS for c in CONDITIONS}
    # Clean training learns something of the words: its whole interval is above chance.
    assert grid.cells["ce", "clean"].interval[0] > chance
