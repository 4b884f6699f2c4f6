"""Remove what no longer counts: shows what would go, and removes it only with --yes.

python -m features prune STORE
python -m features prune STORE --feature vggish-0123456789ab --yes
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path

from features.commands.options import add_media_root, add_store, read_manifests
from features.prune import plan_prune
from features.store import Store
from pipeline.cli import DONE

__all__ = ["add", "run"]


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    add_store(parser)
    parser.add_argument(
        "--feature",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME-SPECID",
        help="remove these features altogether",
    )
    parser.add_argument(
        "--keep-manifest",
        nargs="+",
        action="extend",
        default=[],
        type=Path,
        metavar="FILE",
        help="remove shards of which no row belongs to one of these manifests",
    )
    add_media_root(parser)
    parser.add_argument("--yes", action="store_true", help="remove; else only show what would go")


def run(options: Namespace) -> int:
    """Shows what no longer counts, and removes it if told to."""
    keep = read_manifests(options.keep_manifest, options.media_root)
    pruning = plan_prune(Store(options.store), features=options.feature, keep=keep)
    why: Counter[str] = Counter()
    for removal in pruning.removals:
        why[removal.why] += removal.size
        print(f"{removal.size:>12}  {removal.paths[0].relative_to(options.store)}: {removal.why}")
    for reason, size in sorted(why.items()):
        print(f"{size / 1e6:.3f} MB: {reason}")
    for path in pruning.kept:
        print(f"kept: {path.relative_to(options.store)}, its rows are in no shard that counts")
    if not pruning.removals:
        print("nothing to remove")
    elif options.yes:
        pruning.carry_out()
        print(f"removed {pruning.size} bytes")
    else:
        print(f"{pruning.size} bytes would go; add --yes to remove them")
    return DONE
