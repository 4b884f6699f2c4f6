"""Trains, evaluates and applies methods for audio-visual video parsing.

python -m trainers.avvp --method han                        # on the embedded corpus
python -m trainers.avvp --method rlld --manifest M --store S --seed 0 1 2
python -m trainers.avvp --evaluate --checkpoint F           # ours, or released (with --method)
python -m trainers.avvp --predict --checkpoint F --manifest M --store S --out events.tsv
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from features.demo import ensure_demo
from pipeline.cli import run
from trainers.avvp.apply import evaluate_checkpoint, predict_events
from trainers.avvp.experiment import Experiment
from trainers.avvp.interface import METHODS
from trainers.command import Command, task_main
from trainers.results import group_seeds
from trainers.sheets import results_sheet
from trainers.tables import render


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filter", help="prediction filter (default: the method's published one)")
    parser.add_argument("--never-visible", metavar="CLASS", help="default: the most frequent class")


def _print_results(results: list[dict[str, Any]]) -> None:
    first = group_seeds(results)[0][0]
    trained = first["updates"] > 0
    shown = [("val", "selected"), ("test", "selected"), ("test", "last")]
    for split, epoch in shown if trained else shown[:2]:
        title = None if trained else f"{split}, F-scores in percent"
        print(render(results_sheet(results, split=split, epoch=epoch, title=title, narrow=True)))
    how = (
        f"schedule {first['schedule']} ({first['updates']} updates), "
        f"selected by {first['selection']['metric']}"
        if trained
        else "nothing is trained"
    )
    print(
        f"data {first['dataset']}, annotations {str(first['annotations'])[:12]}, filter "
        f"{first['filter']}, {how}"
    )


COMMAND = Command(
    task="avvp",
    description=__doc__.splitlines()[0],
    methods=METHODS,
    ensure_demo=ensure_demo,
    features="audio=vggish visual=resnet152 motion=r2plus1d_18",
    predicts="an event table",
    which="selected",
    add_options=_options,
    skip={"never_visible"},
    experiment=Experiment,
    asked=("filter", "never_visible"),
    applied={"values": "values", "filter_name": "filter"},
    evaluate=evaluate_checkpoint,
    predict=predict_events,
    show=_print_results,
)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    return task_main(argv, COMMAND)


if __name__ == "__main__":
    sys.argv[0] = "trainers.avvp"
    run(main)
