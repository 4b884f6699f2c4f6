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
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.cli import DONE, Parser, run
from pipeline.errors import UserError, unknown_name
from pipeline.files import canonical_json
from pipeline.noise import read_truth, truth_path
from trainers.results import (
    by_data,
    cell_identity,
    group_seeds,
    noise_ids,
    noise_title,
    variant_names,
)
from trainers.runs import find_runs, read_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "SUFFIXES",
    "WEIGHTS",
    "Line",
    "accuracy_figure",
    "accuracy_lines",
    "main",
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
HALF = 48
"""Letters of a legend's entry that fit beside another one."""


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
        UserError: If the run has no weights, or the truth file cannot be read or is of another
            manifest.
    """
    if which not in WEIGHTS:
        raise unknown_name("weight", which, WEIGHTS)
    _check_suffix(out)
    results = read_results(run)
    ids, weights = _weights(run, which)
    altered = _altered(run, results, ids, truth)
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
        try:
            with h5py.File(path) as file:
                if "weight_visual" in file and "weight_audio" in file:
                    names = ("visual", "audio") if which == "mean" else (which,)
                    sides = [np.asarray(file[f"weight_{name}"][:], dtype=float) for name in names]
                    return list(file["id"].asstr()[:]), np.mean(sides, axis=0)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is damaged; delete the run's folder and train the run again."
            ) from error
    raise UserError(
        f"The run {run} holds no correspondence weights; name a run of a method that weighs pairs, "
        "such as ntl."
    )


def _altered(
    run: Path, results: Mapping[str, Any], ids: Sequence[str], path: Path | None
) -> np.ndarray | None:
    """Which pairs got another audio, (N,) bool; None where nobody knows."""
    if path is None:
        config = json.loads((run / "config.json").read_text(encoding="utf-8"))
        path = truth_path(config["paths"]["manifest"])
        if not path.is_file():
            return None
    truth = read_truth(path)
    changed = {row_id for row_id, entry in truth.items() if "audio_id" in entry}
    _check_truth(path, truth.keys(), len(changed), results, ids)
    return np.array([row_id in changed for row_id in ids], dtype=bool)


def _check_truth(
    path: Path,
    known: Collection[str],
    changed: int,
    results: Mapping[str, Any],
    ids: Sequence[str],
) -> None:
    """Refuses the truth of another manifest than the run's.

    Args:
        path: The truth.
        known: Ids of its lines. Some may have had no features or stand in another split.
        changed: How many of them got another audio.
        results: Of the run.
        ids: What it was trained on.
    """
    expected = _altered_count(results["noise"])
    beside, own = _noise_beside(path), noise_ids(results)
    if beside is not None and beside != own:
        why = f"is of the noise {'+'.join(beside) or 'none'}, not {'+'.join(own) or 'none'}"
    elif known and known.isdisjoint(ids):
        why = "has no clip in common with the run"
    elif expected is not None and expected != changed:
        why = f"has {changed} clips with another sound, not {expected}"
    else:
        return
    raise UserError(
        f"The truth {path} {why}; pass the one of the manifest that the run was trained on with "
        "--truth."
    )


def _noise_beside(truth: Path) -> tuple[str, ...] | None:
    """Ids of the noise of the manifest beside a truth; None where there is none to read."""
    manifest = truth.with_name(truth.name.removesuffix(".truth.jsonl") + ".jsonl")
    try:
        with open(manifest, encoding="utf-8") as file:
            header = json.loads(file.readline())
        return noise_ids(header) if "manifest" in header else None
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def _altered_count(noise: Sequence[Mapping[str, Any]]) -> int | None:
    """How many clips carry another sound after some noise; None where that is not recorded."""
    kinds = [entry["kind"] for entry in noise]
    if not noise or any("audio_id" in entry.get("corpus_truth", ()) for entry in noise):
        return None
    if "correspondence" not in kinds:
        return 0
    if "overlap" in noise[-1]:
        return noise[-1]["overlap"]["both"] + noise[-1]["overlap"]["altered"]
    return noise[-1].get("changed") if kinds == ["correspondence"] else None


def _weights_title(
    results: Mapping[str, Any], weights: np.ndarray, altered: np.ndarray | None
) -> str:
    text = f"{results['method']}, {results['dataset']}, {noise_title(results['noise'])}"
    if altered is None or altered.all() or not altered.any():
        return text
    from sklearn.metrics import roc_auc_score

    return f"{text}\nAUROC {roc_auc_score(altered, -weights):.3f}"


@dataclass(frozen=True)
class Line:
    """A line of `accuracy_figure`.

    Attributes:
        name: Method, the settings by which its lines differ, and data set.
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
    """Sorts finished runs into lines, on each of which one hyper-parameter and seeds vary.

    Args:
        results: What `trainers.runs.read_results` gives.
        against: The hyper-parameter on the horizontal axis; runs without it are left out.
        metric: Key such as ``"clip@1"``.
        epoch: ``"last"``, ``"selected"`` or ``"oracle"``.

    Raises:
        UserError: If no run knows the metric.
    """
    results = list(results)
    known = {key for r in results for key in r["metrics"]["test"].get(epoch, {})}
    if known and metric not in known:
        raise unknown_name("metric", metric, known)
    placed = [
        r
        for r in results
        if against in r["identity"].get("hyperparameters", {})
        and r["metrics"]["test"][epoch].get(metric) is not None
    ]
    lines: dict[str, list[list[Mapping[str, Any]]]] = {}
    for group in group_seeds(placed):
        lines.setdefault(_line_key(group[0], against), []).append(group)
    names = variant_names([groups[0] for groups in lines.values()], without={against})
    data = by_data(placed)
    datasets = [dataset for _, dataset, _ in data]
    made = []
    for name, groups in zip(names, lines.values(), strict=True):
        first = groups[0][0]
        points: dict[float, list[float]] = {}
        elsewhere: dict[str, list[float]] = {}
        for group in groups:
            setting = group[0]["identity"]["hyperparameters"][against]
            values = [r["metrics"]["test"][epoch][metric] for r in group]
            try:
                points[float(setting)] = values
            except (TypeError, ValueError):
                elsewhere[str(setting)] = values
        dataset, noise = first["dataset"], noise_title(first["noise"])
        if datasets.count(dataset) > 1:
            dataset += f" ({next(key[2] for key, mine in data.items() if first in mine)})"
        made.append(Line(f"{name}, {dataset}", noise, dict(sorted(points.items())), elsewhere))
    return sorted(made, key=lambda line: (line.name, line.noise))


def _line_key(result: Mapping[str, Any], against: str) -> str:
    """What the runs of a line have in common: all but the axis and seeds."""
    identity = cell_identity(result)
    settings = {k: v for k, v in identity["hyperparameters"].items() if k != against}
    return canonical_json(
        [{**identity, "hyperparameters": settings}, result["method"], result["dataset"]]
    )


def accuracy_figure(lines: Sequence[Line], out: Path, *, against: str, metric: str) -> Path:
    """Draws accuracy against a hyper-parameter (figure 6), with standard errors over seeds.

    Settings that have no place on the axis, such as a schedule, are dashed lines. Lines of one
    setting are left out.

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
    # What never varied on this axis would only hide what did.
    lines = [line for line in lines if len(line.points) + len(line.elsewhere) > 1]
    names = dict.fromkeys(line.name for line in lines)
    labels = [x.noise if len(names) == 1 else f"{x.name}, {x.noise}" for x in lines]
    columns = 2 if max(map(len, labels)) <= HALF else 1
    figure, axes = _axes(entries=len(lines) // columns)
    dashed: dict[str, None] = {}
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        shown = [_mean_error(values) for values in line.points.values()]
        axes.errorbar(
            list(line.points), [mean for mean, _ in shown], yerr=[error for _, error in shown],
            color=colour, marker=MARKERS[(number + number // len(COLOURS)) % len(MARKERS)],
            markersize=5, capsize=3, linewidth=1.5, label=labels[number],
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
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize="small")
    return _save(figure, out)


def _mean_error(values: Sequence[float]) -> tuple[float, float]:
    n = len(values)
    return statistics.fmean(values), statistics.stdev(values) / math.sqrt(n) if n > 1 else 0.0


def _axes(*, entries: int = 0) -> tuple[Figure, Axes]:
    """Axes with room for some lines of legend below."""
    # Not through pyplot: that keeps figures and a backend for the whole process.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0 + 0.18 * max(0, entries - 4)), layout="constrained")
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
