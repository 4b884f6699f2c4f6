"""Renders a corpus, and checks that it is neither trivial nor hopeless.

python -m pipeline.demo
python -m pipeline.demo --out DIR --train 300 --val 75 --test 150 --seed 0 --check
python -m pipeline.demo --kind action
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli import DONE, Parser, run
from pipeline.demo.corpus import build_corpus, cores, corpus_sizes, default_corpus_folder
from pipeline.demo.kinds import KINDS
from pipeline.demo.timelines import SPLIT_NAMES
from pipeline.progress import Progress

if TYPE_CHECKING:
    from pipeline.demo.check import Figure

FAILED_CHECK = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = Parser(prog="python -m pipeline.demo", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--kind", choices=tuple(KINDS), default="parsing", help="what its labels are for"
    )
    parser.add_argument("--out", type=Path, help="the folder (default: in the data folder)")
    for split in SPLIT_NAMES:
        usual = ", ".join(f"{kind.sizes.get(split, 'none')} {name}" for name, kind in KINDS.items())
        parser.add_argument(f"--{split}", type=int, help=f"{split} clips (default: {usual})")
    parser.add_argument("--seed", type=int, default=0, help="names the corpus")
    parser.add_argument("--workers", type=int, default=cores(), help="processes that render")
    parser.add_argument(
        "--check", action="store_true", help="measure its difficulty; exit 1 if out of range"
    )
    options = parser.parse_args(argv)
    kind = options.kind
    sizes = corpus_sizes(kind, **{name: getattr(options, name) for name in SPLIT_NAMES})
    out = default_corpus_folder(kind) if options.out is None else options.out
    with Progress(sum(sizes.values()), "render") as progress:
        manifest = build_corpus(
            out, kind=kind, **sizes, seed=options.seed, workers=options.workers, progress=progress
        )
    print(manifest)
    if not options.check:
        return DONE
    figures = _measure(kind, manifest, sizes, options.workers)
    for figure in figures:
        print(figure)
    return DONE if all(figure.passed for figure in figures) else FAILED_CHECK


def _measure(kind: str, manifest: Path, sizes: Mapping[str, int], workers: int) -> list[Figure]:
    """The figures of a kind's check, which describes clips of two splits."""
    # scikit-learn takes a second to load, which only the check should cost.
    if kind == "action":
        from pipeline.demo.action_check import check_actions as check

        described = sizes["train"] + sizes["test"]
    else:
        from pipeline.demo.check import check_corpus as check

        described = sizes["train"] + sizes["val"]
    with Progress(described, "describe") as progress:
        return check(manifest, workers=workers, progress=progress)


if __name__ == "__main__":
    run(main)
