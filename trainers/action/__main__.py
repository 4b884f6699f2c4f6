"""Trains, evaluates and applies methods for action recognition with noisy labels and sound.

python -m trainers.action --method ntl                      # on the embedded corpus
python -m trainers.action --method ce --manifest M --store S --seed 0 1 2
python -m trainers.action --evaluate --checkpoint F
python -m trainers.action --predict --checkpoint F --manifest M --store S --out classes.tsv
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from features.demo import ensure_demo_action
from pipeline.cli import run
from trainers.action.apply import evaluate_checkpoint, predict_classes
from trainers.action.experiment import Experiment
from trainers.action.interface import METHODS
from trainers.command import Command, task_main
from trainers.sheets import results_sheet
from trainers.tables import render


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--detect-every", type=int, default=1, metavar="EPOCHS",
        help="how often noise detection is scored where the truth is known; 0: at the end only",
    )  # fmt: skip


def _print_results(results: list[dict[str, Any]]) -> None:
    first = results[0]
    validated = first["selection"]["value"] is not None
    for epoch in ("last", "selected", "oracle") if validated else ("last", "oracle"):
        print(render(results_sheet(results, epoch=epoch)))
    if first["updates"] == 0:
        how = "nothing is trained"
    elif validated:
        how = f"selected by validation {first['selection']['metric']}"
    else:
        how = "no validation videos, so no epoch is selected"
    print(
        f"data {first['dataset']}, {first['train_videos']} training videos of {first['classes']} "
        f"classes, schedule {first['schedule']} ({first['passes']} passes, {first['updates']} "
        f"updates); {how}"
    )


COMMAND = Command(
    task="action",
    description=__doc__.splitlines()[0],
    methods=METHODS,
    ensure_demo=ensure_demo_action,
    features="audio=panns_resnet22 visual=r2plus1d_18",
    predicts="a table of likely classes",
    which="last",
    add_options=_options,
    experiment=Experiment,
    asked=("detect_every",),
    applied={},
    evaluate=evaluate_checkpoint,
    predict=predict_classes,
    show=_print_results,
)


def main(argv: list[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    return task_main(argv, COMMAND)


if __name__ == "__main__":
    sys.argv[0] = "trainers.action"
    run(main)
