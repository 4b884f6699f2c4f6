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
from pipeline.cli import DONE, PARTIAL, run
from pipeline.errors import UserError
from pipeline.files import runs_dir
from trainers.avvp.apply import evaluate_checkpoint, predict_events
from trainers.avvp.experiment import Experiment
from trainers.avvp.interface import METHODS
from trainers.command import (
    common_options,
    find_data,
    list_methods,
    parse,
    parse_roles,
    trained_weights,
)
from trainers.launching import choose_device
from trainers.results import group_seeds, print_table, results_table

PROGRAM = "python -m trainers.avvp"


def _options(parser: argparse.ArgumentParser) -> None:
    common_options(
        parser,
        features="audio=vggish visual=resnet152 motion=r2plus1d_18",
        predicts="an event table",
        which="selected",
    )
    parser.add_argument("--filter", help="prediction filter (default: the method's published one)")
    parser.add_argument("--never-visible", metavar="CLASS", help="default: the most frequent class")


def _train(args: argparse.Namespace) -> int:
    method = METHODS.get(args.method)
    manifest, store = find_data(args, ensure_demo, reads_features=bool(method.roles))
    runs = Experiment(
        method=args.method,
        manifest=manifest,
        store=store,
        roles=parse_roles(args.features),
        values=args.values,
        schedule=args.schedule,
        filter=args.filter,
        missing=args.missing,
        never_visible=args.never_visible,
        device=choose_device(args.device),
        threads=args.threads,
        runs=args.runs or runs_dir(),
    ).run(args.seed)
    _print_results([r.results() for r in runs])
    for done in runs:
        print(f"written: {done.path}")
    return DONE


def _print_results(results: list[dict[str, Any]]) -> None:
    first = group_seeds(results)[0][0]
    trained = first["updates"] > 0
    shown = [("val", "selected"), ("test", "selected"), ("test", "last")]
    for split, epoch in shown if trained else shown[:2]:
        title = None if trained else f"{split}, F-scores in percent"
        print_table(results_table(results, split=split, epoch=epoch, title=title))
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


def main(argv: list[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = parse(
        argv,
        METHODS,
        prog=PROGRAM,
        description=__doc__.splitlines()[0],
        add_common=_options,
        skip={"never_visible"},
    )
    if args.list_methods:
        list_methods(METHODS)
        return DONE
    if args.evaluate or args.predict:
        checkpoint = trained_weights(args)
        manifest, store = find_data(args, ensure_demo)
        shared = {
            "method": args.method,
            "values": args.values,
            "roles": parse_roles(args.features),
            "filter_name": args.filter,
            "missing": args.missing,
            "which": args.which,
            "device": choose_device(args.device),
        }
        if args.predict:
            if args.out is None:
                raise UserError("Name the event table to write with --out FILE.")
            failed = predict_events(checkpoint, manifest, store, out=args.out, **shared)
            return PARTIAL if failed else DONE
        return evaluate_checkpoint(checkpoint, manifest, store, out=args.out, **shared)
    if args.method is None:
        raise UserError("Choose an algorithm with --method NAME; --list-methods shows them.")
    return _train(args)


if __name__ == "__main__":
    sys.argv[0] = "trainers.avvp"
    run(main)
