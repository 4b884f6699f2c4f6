"""Figures of finished runs.

python -m trainers.figures runs/action/ntl-1f0a --out weights.png
python -m trainers.figures runs --figure accuracy --against alpha --metric clip@1 --out alpha.pdf

``weights`` is figure 8 of NTL (Han et al., IEEE TMM 2024): how the estimated correspondence weights
of clean and altered pairs are spread. ``accuracy`` is its figure 6: accuracy against a
hyper-parameter, for each noise a line.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.cli import DONE, Parser, run
from pipeline.errors import UserError, unknown_name
from pipeline.noise import read_truth, truth_path
from trainers.runs import find_runs, read_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "WEIGHTS",
    "Line",
    "accuracy_figure",
    "accuracy_lines",
    "main",
    "noise_title",
    "weights_histogram",
]

WEIGHTS = {
    "mean": "mean of both sides",
    "visual": "visual side",
    "audio": "audio side",
}
"""Which weight of a pair is shown."""

# Okabe and Ito's colours, which readers with any colour vision tell apart; yellow is too pale.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SUFFIXES = (".png", ".svg", ".pdf")
BINS = (10, 40)
"""Fewest and most bars of a histogram."""


def weights_histogram(
    run: Path, out: Path, *, truth: Path | None = None, which: str = "mean"
) -> Path:
    """Draws how the correspondence weights of clean and altered pairs are spread (figure 8).

    Args:
        run: A finished run whose ``labels.h5`` holds ``weight_visual`` and ``weight_audio`` (N,).
        out: The picture; ``.png``, ``.svg`` or ``.pdf``.
        truth: The truth file of its manifest; None looks beside the manifest that the run was
            made with. Without any, all pairs are one histogram.
        which: One of `WEIGHTS`.

    Returns:
        ``out``.

    Raises:
        UserError: If the run has no weights, or the truth file cannot be read.
    """
    if which not in WEIGHTS:
        raise unknown_name("weight", which, WEIGHTS)
    _check_suffix(out)
    results = read_results(run)
    ids, weights = _weights(run, which)
    altered = _altered(run, ids, truth)
    bars = int(np.clip(round(math.sqrt(len(weights))), *BINS))
    edges = np.linspace(*_padded(weights), bars + 1)
    figure, axes = _axes()
    if altered is None:
        groups = [("pairs (truth unknown)", np.ones(len(weights), dtype=bool))]
    else:
        groups = [("clean pairs", ~altered), ("altered pairs", altered)]
    for number, (name, chosen) in enumerate(groups):
        if not chosen.any():
            continue
        count = int(chosen.sum())
        share = np.full(count, 100.0 / count)
        common = {"bins": edges, "weights": share, "color": COLOURS[number]}
        axes.hist(weights[chosen], histtype="stepfilled", alpha=0.3, **common)
        axes.hist(
            weights[chosen],
            histtype="step",
            linewidth=1.5,
            linestyle=("-", "--")[number],
            label=f"{name} (n = {count:,})",
            **common,
        )
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(f"correspondence weight ω, {WEIGHTS[which]}")
    axes.set_ylabel("share of the pairs (%)")
    axes.set_title(_weights_title(results, weights, altered), fontsize="medium", loc="left")
    axes.legend(frameon=False)
    return _save(figure, out)


def _weights(run: Path, which: str) -> tuple[list[str], np.ndarray]:
    """Ids and weights (N,) of a run."""
    import h5py

    path = run / "labels.h5"
    if path.is_file():
        with h5py.File(path) as file:
            if "weight_visual" in file and "weight_audio" in file:
                names = ("visual", "audio") if which == "mean" else (which,)
                sides = [np.asarray(file[f"weight_{name}"][:], dtype=float) for name in names]
                return list(file["id"].asstr()[:]), np.mean(sides, axis=0)
    raise UserError(
        f"The run {run} holds no correspondence weights; name a run of a method that weighs pairs, "
        "such as ntl."
    )


def _altered(run: Path, ids: Sequence[str], path: Path | None) -> np.ndarray | None:
    """Which pairs got another audio, (N,) bool; None where nobody knows."""
    if path is None:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        path = truth_path(config["paths"]["manifest"])
        if not path.is_file():
            return None
    truth = read_truth(path)
    return np.array(["audio_id" in truth.get(row_id, ()) for row_id in ids], dtype=bool)


def _weights_title(
    results: Mapping[str, Any], weights: np.ndarray, altered: np.ndarray | None
) -> str:
    text = f"{results['method']}, {results['dataset']}, {noise_title(results['noise'])}"
    if altered is None or altered.all() or not altered.any():
        return text
    from sklearn.metrics import roc_auc_score

    return f"{text}\nAUROC {roc_auc_score(altered, -weights):.3f}"


def noise_title(noise: Sequence[Mapping[str, Any]]) -> str:
    """A manifest's noise in words, such as ``symmetric 40 %, correspondence 20 %``."""
    words = [
        str(entry["kind"])
        + (f" {100 * entry['rate']:g} %" if entry.get("rate") is not None else "")
        for entry in noise
    ]
    return ", ".join(words) or "no added noise"


@dataclass(frozen=True)
class Line:
    """A line of `accuracy_figure`.

    Attributes:
        name: Method and data set.
        noise: Their noise, in words.
        points: Values by seed at each place on the horizontal axis.
        elsewhere: Values of settings that have no place on it, such as a schedule, by their name.
    """

    name: str
    noise: str
    points: Mapping[float, Sequence[float]]
    elsewhere: Mapping[str, Sequence[float]]


def accuracy_lines(
    results: Iterable[Mapping[str, Any]], against: str, metric: str, *, epoch: str = "last"
) -> list[Line]:
    """Sorts finished runs into lines: one for each method, data set and noise.

    Args:
        results: What `trainers.runs.read_results` gives.
        against: The hyper-parameter on the horizontal axis; runs without it are left out.
        metric: Key such as ``"clip@1"``.
        epoch: ``"last"``, ``"selected"`` or ``"oracle"``.
    """
    found: dict[tuple[str, str], dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        settings = result["identity"]["hyperparameters"]
        value = result["metrics"]["test"][epoch].get(metric)
        if against not in settings or value is None:
            continue
        key = (f"{result['method']}, {result['dataset']}", noise_title(result["noise"]))
        found[key][settings[against]].append(value)
    lines = []
    for name, noise in sorted(found):
        points, elsewhere = {}, {}
        for setting, values in found[name, noise].items():
            try:
                points[float(setting)] = values
            except (TypeError, ValueError):
                elsewhere[str(setting)] = values
        lines.append(Line(name, noise, dict(sorted(points.items())), elsewhere))
    return lines


def accuracy_figure(lines: Sequence[Line], out: Path, *, against: str, metric: str) -> Path:
    """Draws accuracy against a hyper-parameter (figure 6), with standard errors over seeds.

    Settings that have no place on the axis, such as a schedule, are dashed lines.

    Args:
        lines: See `accuracy_lines`.
        out: The picture; ``.png``, ``.svg`` or ``.pdf``.
        against: What the horizontal axis is.
        metric: What the vertical axis is, in percent.

    Returns:
        ``out``.

    Raises:
        UserError: If no line has two points.
    """
    _check_suffix(out)
    if not any(len(line.points) > 1 for line in lines):
        raise UserError(
            f"A figure against {against} needs finished runs with at least two of its values; "
            "train them or name another with --against."
        )
    figure, axes = _axes()
    names = dict.fromkeys(line.name for line in lines)
    dashed: dict[str, None] = {}
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        shown = [_mean_error(values) for values in line.points.values()]
        axes.errorbar(
            list(line.points), [mean for mean, _ in shown], yerr=[error for _, error in shown],
            color=colour, marker=MARKERS[number % len(MARKERS)], markersize=5, capsize=3,
            linewidth=1.5, label=line.noise if len(names) == 1 else f"{line.name}, {line.noise}",
        )  # fmt: skip
        for setting, values in line.elsewhere.items():
            axes.axhline(_mean_error(values)[0], color=colour, linestyle="--", linewidth=1)
            dashed[setting] = None
    if dashed:
        settings = ", ".join(dashed)
        axes.plot([], [], color="0.4", linestyle="--", linewidth=1, label=f"{against}: {settings}")
    axes.set_xlabel(against)
    axes.set_ylabel(f"{metric} (%), mean ± standard error")
    axes.set_title(", ".join(names) if len(names) == 1 else "", fontsize="medium", loc="left")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize="small")
    return _save(figure, out)


def _mean_error(values: Sequence[float]) -> tuple[float, float]:
    n = len(values)
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(n) if n > 1 else 0.0


def _axes() -> tuple[Figure, Axes]:
    # Not through pyplot: that keeps figures and a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _padded(values: np.ndarray) -> tuple[float, float]:
    """The range of some values, never empty."""
    low, high = float(values.min()), float(values.max())
    pad = 0.02 * (high - low) or 0.5
    return low - pad, high + pad


def _check_suffix(out: Path) -> None:
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f"A figure is written as {', '.join(SUFFIXES)}; mend --out {out}.")


def _save(figure: Figure, out: Path) -> Path:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(out, dpi=150)
    except OSError as error:
        raise UserError(
            f"The figure {out} cannot be written ({error.strerror}); mend --out."
        ) from error
    return out


def main(argv: list[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    parser = Parser(prog="python -m trainers.figures", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("runs", type=Path, nargs="+", help="finished runs, or folders that hold some")
    add("--figure", choices=("weights", "accuracy"), default="weights", help="what to draw")
    add("--out", type=Path, required=True, metavar="FILE", help="a .png, .svg or .pdf file")
    add("--truth", type=Path, metavar="FILE", help="truth (default: beside the run's manifest)")
    add("--which", choices=tuple(WEIGHTS), default="mean", help="which weight of a pair")
    add("--against", default="alpha", metavar="NAME", help="hyper-parameter of the accuracy")
    add("--metric", default="clip@1", help="metric of the accuracy")
    add("--epoch", choices=("last", "selected", "oracle"), default="last", help="test epoch")
    args = parser.parse_args(argv)
    found = find_runs(args.runs)
    if args.figure == "weights":
        if len(found) > 1:
            raise UserError(
                f"{len(found)} finished runs are there; name the folder of one, such as {found[0]}."
            )
        path = weights_histogram(found[0], args.out, truth=args.truth, which=args.which)
    else:
        lines = accuracy_lines(
            map(read_results, found), args.against, args.metric, epoch=args.epoch
        )
        path = accuracy_figure(lines, args.out, against=args.against, metric=args.metric)
    print(f"written: {path}")
    return DONE


if __name__ == "__main__":
    run(main)
