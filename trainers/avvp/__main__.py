"""Trains, evaluates and applies methods for audio-visual video parsing.

python -m trainers.avvp --method han                        # on the embedded corpus
python -m trainers.avvp --method rlld --manifest M --store S --seed 0 1 2
python -m trainers.avvp --evaluate --checkpoint F           # ours, or released (with --method)
python -m trainers.avvp --predict --checkpoint F --manifest M --store S --out events.tsv
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from features.demo import ensure_demo
from features.store import Store
from pipeline.cli import DONE, PARTIAL, Parser, read_config, run
from pipeline.errors import UserError
from pipeline.files import runs_dir, store_dir
from pipeline.manifest import Manifest, read_manifest
from trainers.avvp.apply import evaluate_checkpoint, predict_events
from trainers.avvp.experiment import Experiment, choose_device
from trainers.avvp.interface import METHODS
from trainers.options import add_options
from trainers.results import group_seeds, print_table, results_table

PROGRAM = "python -m trainers.avvp"


def _common_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", help="which algorithm; see --list-methods")
    parser.add_argument("--list-methods", action="store_true", help="print all methods and papers")
    parser.add_argument("--manifest", type=Path, help="default: the embedded corpus")
    parser.add_argument("--store", type=Path, help="feature store (default: ./store)")
    parser.add_argument(
        "--features", nargs="+", metavar="ROLE=NAME", default=[],
        help="such as audio=vggish visual=resnet152 motion=r2plus1d_18",
    )  # fmt: skip
    parser.add_argument("--runs", type=Path, help="where runs are kept (default: ./runs)")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="one run a seed")
    parser.add_argument(
        "--schedule", choices=["paper", "demo"],
        help="default: demo on the embedded corpus, the paper's elsewhere",
    )  # fmt: skip
    parser.add_argument("--filter", help="prediction filter (default: the method's published one)")
    parser.add_argument(
        "--missing", choices=["drop", "zero", "error"], default="drop",
        help="clips without features: left out and predicted as nothing, zeros, or an error",
    )  # fmt: skip
    parser.add_argument("--never-visible", metavar="CLASS", help="default: the most frequent class")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--evaluate", action="store_true", help="score a checkpoint")
    parser.add_argument("--predict", action="store_true", help="write an event table")
    parser.add_argument("--checkpoint", type=Path, help="ours, or a released state dict")
    parser.add_argument("--which", choices=["selected", "last"], default="selected")
    parser.add_argument("--out", type=Path, help="event table or metrics to write")


def _parse(argv: list[str] | None) -> argparse.Namespace:
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--method")
    early.add_argument("--config", type=Path)
    known, _ = early.parse_known_args(argv)
    name = known.method
    if name is None and known.config is not None:
        name = read_config(known.config).get("method")
    parser = Parser(prog=PROGRAM, description=__doc__.splitlines()[0], config=True)
    _common_options(parser)
    common = {action.dest for action in parser._actions}
    if name is not None:
        add_options(parser, METHODS.get(name).hyperparameters, skip={"never_visible"})
    args = parser.parse_args(argv)
    # Hyper-parameters are what the method's own dataclass added and the user has given.
    args.values = {k: v for k, v in vars(args).items() if k not in common | {"values"}}
    return args


def _roles(pairs: list[str]) -> dict[str, str]:
    roles = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not equals or not name:
            raise UserError(f"--features takes ROLE=NAME such as audio=vggish, not {pair!r}.")
        roles[role] = name
    return roles


def _list_methods() -> None:
    for name in METHODS.names():
        method = METHODS.get(name)
        extras = [method.supervision, *sorted(method.needs)]
        print(f"{name:32} {method.paper}  [{'; '.join(extras)}]")


def _inputs(args: argparse.Namespace, *, reads_features: bool) -> tuple[Manifest, Store | None]:
    """The manifest and the store asked for, or the embedded corpus with its features."""
    if args.manifest is None:
        manifest_path, store_path = ensure_demo(store=args.store)
        return read_manifest(manifest_path), Store(store_path)
    manifest = read_manifest(args.manifest)
    if not reads_features:
        return manifest, None
    path = args.store or store_dir()
    if not path.is_dir():
        raise UserError(
            f"There is no feature store at {path}; extract features with python -m flows.extract "
            f"--manifest {args.manifest} --store {path} or name it with --store."
        )
    return manifest, Store(path)


def _train(args: argparse.Namespace) -> int:
    method = METHODS.get(args.method)
    manifest, store = _inputs(args, reads_features=bool(method.roles))
    runs = Experiment(
        method=args.method,
        manifest=manifest,
        store=store,
        roles=_roles(args.features),
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


def _require_checkpoint(args: argparse.Namespace) -> Path:
    if args.checkpoint is None:
        raise UserError("Name the weights with --checkpoint FILE.")
    if not args.checkpoint.is_file():
        raise UserError(f"There is no checkpoint {args.checkpoint}; check the path.")
    return args.checkpoint


def main(argv: list[str] | None = None) -> int:
    """Runs the command; see the module's docstring."""
    args = _parse(argv)
    if args.list_methods:
        _list_methods()
        return DONE
    if args.evaluate or args.predict:
        checkpoint = _require_checkpoint(args)
        manifest, store = _inputs(args, reads_features=True)
        shared = {
            "method": args.method,
            "values": args.values,
            "roles": _roles(args.features),
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
