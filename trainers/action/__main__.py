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
from pipeline.cli import DONE, PARTIAL, run
from pipeline.errors import UserError
from pipeline.files import runs_dir
from trainers.action.apply import evaluate_checkpoint, predict_classes
from trainers.action.experiment import Experiment
from trainers.action.interface import METHODS
from trainers.command import (
    common_options,
    find_data,
    list_methods,
    parse,
    parse_roles,
    trained_weights,
)
from trainers.launching import choose_device
from trainers.sheets import results_sheet
from trainers.tables import render

PROGRAM = "python -m trainers.action"


def _options(parser: argparse.ArgumentParser) -> None:
    common_options(
        parser,
        features="audio=panns_resnet22 visual=r2plus1d_18",
        predicts="a table of likely classes",
        which="last",
    )
    parser.add_argument(
        "--detect-every", type=int, default=1, metavar="EPOCHS",
        help="how often noise detection is scored where the truth is known; 0: at the end only",
    )  # fmt: skip


def _train(args: argparse.Namespace) -> int:
    manifest, store = find_data(args, ensure_demo_action)
    runs = Experiment(
        method=args.method,
        manifest=manifest,
        store=store,
        roles=parse_roles(args.features),
        values=args.values,
        schedule=args.schedule,
        missing=args.missing,
        detect_every=args.detect_every,
        device=choose_device(args.device),
        threads=args.threads,
        runs=args.runs or runs_dir(),
    ).run(args.seed)
    _print_results([r.results() for r in runs])
    for done in runs:
        print(f"written: {done.path}")
    return DONE


def _print_results(results: list[dict[str, Any]]) -> None:
    first = results[0]
    validated = first["selection"]["value"] is not None
    for epoch in ("last", "selected", "oracle") if validated else ("last", "oracle"):
        print(render(results_sheet(results, epoch=epoch)))
    how = f"selected by validation {first['selection']['metric']}"
    print(
        f"data {first['dataset']}, {first['train_videos']} training videos of {first['classes']} "
        f"classes, schedule {first['schedule']} ({first['passes']} passes, {first['updates']} "
        f"updates); {how if validated else 'no validation videos, so no epoch is selected'}"
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = parse(
        argv,
        METHODS,
        prog=PROGRAM,
        description=__doc__.splitlines()[0],
        add_common=_options,
    )
    if args.list_methods:
        list_methods(METHODS)
        return DONE
    if args.evaluate or args.predict:
        checkpoint = trained_weights(args)
        manifest, store = find_data(args, ensure_demo_action)
        shared = {
            "method": args.method,
            "roles": parse_roles(args.features),
            "missing": args.missing,
            "which": args.which,
            "device": choose_device(args.device),
        }
        if args.predict:
            if args.out is None:
                raise UserError("Name the table to write with --out FILE.")
            failed = predict_classes(checkpoint, manifest, store, out=args.out, **shared)
            return PARTIAL if failed else DONE
        return evaluate_checkpoint(checkpoint, manifest, store, out=args.out, **shared)
    if args.method is None:
        raise UserError("Choose an algorithm with --method NAME; --list-methods shows them.")
    return _train(args)


if __name__ == "__main__":
    sys.argv[0] = "trainers.action"
    run(main)
