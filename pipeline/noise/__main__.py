"""Makes the training rows of a manifest noisy and writes the result as another manifest.

python -m pipeline.noise clean.jsonl --out noisy.jsonl --kind symmetric --rate 0.4 --seed 0
python -m pipeline.noise noisy.jsonl --out both.jsonl --kind correspondence --rate 0.2 --seed 0
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pipeline.cli import DONE, Parser, run
from pipeline.errors import UserError
from pipeline.manifest import Manifest, read_manifest
from pipeline.noise.correspondence import DONORS
from pipeline.noise.injection import inject, write_noisy
from pipeline.noise.kinds import KINDS
from pipeline.noise.multiclass import FLIPS
from pipeline.noise.multilabel import CHANGES, MODALITIES
from pipeline.noise.report import print_injection
from pipeline.noise.tables import read_map, read_matrix, read_rates
from pipeline.noise.training import Kind
from pipeline.noise.truth import truth_path

__all__ = ["main"]

DESCRIPTION = (
    "Makes the training rows of a manifest noisy and writes the result as another manifest, with "
    "the originals of what changed in a truth file beside it. Validation, test and pool rows never "
    "change. Run it again on its output to add another noise. N is the number of training rows, K "
    "of classes."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    options = _parser().parse_args(argv)
    if options.out is None and not options.dry_run:
        raise UserError("Nothing says where to write; pass --out FILE, or --dry-run.")
    manifest = read_manifest(options.manifest)
    kind = _make(options, manifest)
    if options.pool is not None and kind.name != "correspondence":
        raise _misplaced("pool", "correspondence")
    injection = inject(
        manifest,
        kind,
        rate=options.rate,
        rates=options.rates and read_rates(options.rates, manifest.classes),
        seed=options.seed,
        pool=options.pool and read_manifest(options.pool),
    )
    if options.dry_run:
        print_injection(injection)
        print("nothing was written (--dry-run)")
        return DONE
    if options.pool is not None and options.pool.resolve() == options.out.resolve():
        raise UserError(f"Writing {options.out} would overwrite the pool; give another --out.")
    # Before the report: a reader that goes away while it is printed ends the process.
    out = write_noisy(injection, options.out)
    print_injection(injection)
    print(f"wrote {out} and {truth_path(out).name}")
    return DONE


def _parser() -> Parser:
    parser = Parser(prog="python -m pipeline.noise", description=DESCRIPTION)
    parser.add_argument("manifest", type=Path, metavar="IN", help="the manifest, clean or noisy")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the new manifest")
    parser.add_argument("--kind", choices=tuple(KINDS), required=True, help="see below")
    parser.add_argument("--rate", type=float, metavar="R", help="share of training rows, 0 to 1")
    parser.add_argument(
        "--rates",
        type=Path,
        metavar="FILE",
        help="rates by class, CSV (class,rate) or JSON, or mini-kinetics for those of its lists; "
        "--rate then serves the classes left out",
    )
    parser.add_argument("--seed", type=int, default=0, help="names the noise")
    parser.add_argument("--dry-run", action="store_true", help="print what would be written")
    groups = {
        name: parser.add_argument_group(f"--kind {name}", kind.definition)
        for name, kind in KINDS.items()
    }
    _add_label_options(groups)
    _add_audio_options(groups["correspondence"])
    _add_multilabel_options(groups)
    return parser


def _add_label_options(groups: dict[str, argparse._ArgumentGroup]) -> None:
    groups["symmetric"].add_argument(
        "--inclusive",
        action="store_true",
        help="draw from all K classes, the row's own too; realised is about rate x (1 - 1/K)",
    )
    asymmetric = groups["asymmetric"]
    asymmetric.add_argument("--flip", choices=FLIPS, help="(default: pairflip)")
    asymmetric.add_argument(
        "--half-exact",
        action="store_true",
        help="with half: draw from mapped classes only, so that the rate is exact",
    )
    asymmetric.add_argument(
        "--map", type=Path, metavar="FILE", help='with custom: JSON {"class": "other class"}'
    )
    groups["transition"].add_argument(
        "--matrix",
        type=Path,
        metavar="FILE",
        help="CSV with the noisy classes in its first line and the classes in its first column, or "
        'JSON {"classes": [...], "matrix": [[...]]}; every row sums to 1',
    )


def _add_audio_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--donors", choices=DONORS, help="(default: derangement)")
    group.add_argument(
        "--different-class", action="store_true", help="donor and row share no label"
    )
    group.add_argument(
        "--pool",
        type=Path,
        metavar="FILE",
        help="with external: a manifest whose rows are appended as split pool; none of its sources "
        "may stand in another split",
    )


def _add_multilabel_options(groups: dict[str, argparse._ArgumentGroup]) -> None:
    groups["modality"].add_argument("--change", choices=CHANGES, help="(default: flip)")
    groups["modality"].add_argument(
        "--modality", choices=MODALITIES, help="whose list changes (default: either)"
    )
    groups["drop"].add_argument(
        "--allow-empty", action="store_true", help="a row may lose its last label"
    )


def _make(options: argparse.Namespace, manifest: Manifest) -> Kind:
    """The kind with the options that were given.

    Raises:
        UserError: If one was given that belongs to another kind.
    """
    chosen = KINDS[options.kind]
    own = {field.name for field in fields(chosen)}
    for name, kind in KINDS.items():
        for field in fields(kind):
            if field.name not in own and getattr(options, field.name):
                raise _misplaced(field.name, name)
    values: dict[str, Any] = {n: getattr(options, n) for n in own if getattr(options, n)}
    if "map" in values:
        values["map"] = read_map(values["map"])
    if "matrix" in values:
        values["matrix"] = read_matrix(values["matrix"], manifest.classes)
    return chosen(**values)


def _misplaced(option: str, kind: str) -> UserError:
    return UserError(
        f"--{option.replace('_', '-')} belongs to --kind {kind}; leave it out or choose that kind."
    )


if __name__ == "__main__":
    run(main)
