"""Renders the corpus, and checks that it is neither trivial nor hopeless.

python -m pipeline.demo
python -m pipeline.demo --out DIR --train 300 --val 75 --test 150 --seed 0 --check
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.cli import DONE, Parser, run
from pipeline.demo.corpus import build_corpus, cores, default_corpus_folder
from pipeline.progress import Progress

FAILED_CHECK = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = Parser(prog="python -m pipeline.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=default_corpus_folder(), help="the folder")
    parser.add_argument("--train", type=int, default=300, help="training clips")
    parser.add_argument("--val", type=int, default=75, help="validation clips")
    parser.add_argument("--test", type=int, default=150, help="test clips")
    parser.add_argument("--seed", type=int, default=0, help="names the corpus")
    parser.add_argument("--workers", type=int, default=cores(), help="processes that render")
    parser.add_argument(
        "--check", action="store_true", help="measure its difficulty; exit 1 if out of range"
    )
    options = parser.parse_args(argv)
    sizes = {name: getattr(options, name) for name in ("train", "val", "test")}
    with Progress(sum(sizes.values()), "render") as progress:
        manifest = build_corpus(
            options.out, **sizes, seed=options.seed, workers=options.workers, progress=progress
        )
    print(manifest)
    if not options.check:
        return DONE
    # scikit-learn takes a second to load, which only the check should cost.
    from pipeline.demo.check import check_corpus

    with Progress(sizes["train"] + sizes["val"], "describe") as progress:
        figures = check_corpus(manifest, workers=options.workers, progress=progress)
    for figure in figures:
        print(figure)
    return DONE if all(figure.passed for figure in figures) else FAILED_CHECK


if __name__ == "__main__":
    run(main)
