"""Say why two features differ: in their specs, and in their values clip by clip.

python -m features diff STORE:vggish OTHER:vggish
python -m features diff --store STORE vggish-0123456789ab vggish-ba9876543210
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from features.commands.options import add_media_root, read_manifests
from features.store import FeatureInfo, Store
from pipeline.cli import DONE
from pipeline.errors import UserError

if TYPE_CHECKING:
    from features.diff import FeatureDiff

__all__ = ["add", "run"]

NOTHING_SHARED = (
    "  no row is in both: their videos differ in content, or their intervals differ; --manifest "
    "joins features by row,\n  which is needed where one of them was imported"
)

LONGEST = 60
"""Characters of a spec's value that are shown."""


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    for side in ("a", "b"):
        parser.add_argument(
            side, metavar=side.upper(), help="STORE:NAME or STORE:NAME-SPECID; with --store a name"
        )
    parser.add_argument("--store", type=Path, metavar="DIR", help="the store of both")
    parser.add_argument(
        "--manifest",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="join by the rows of these, as imported and computed features must be",
    )
    add_media_root(parser)
    parser.add_argument("--worst", type=int, default=10, metavar="N", help="clips to list")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: Namespace) -> int:
    """Compares two features."""
    from features.diff import compare_features

    if options.worst < 0:
        raise UserError(f"--worst takes a number of clips, not {options.worst}.")
    manifests = read_manifests(options.manifest, options.media_root)
    a, b = (_feature(text, options.store) for text in (options.a, options.b))
    diff = compare_features(a, b, manifests=manifests, worst=options.worst)
    print(json.dumps(diff.to_json(), indent=2) if options.json else _describe(diff))
    return DONE


def _feature(text: str, store: Path | None) -> tuple[Store, FeatureInfo]:
    folder, colon, name = text.rpartition(":")
    if not colon and store is None:
        raise UserError(f"{text!r} names no store; write STORE:{text}, or pass --store.")
    found = Store(Path(folder) if colon else store)
    return found, found.find(name)


def _describe(diff: FeatureDiff) -> str:
    lines = [f"a: {diff.a}", f"b: {diff.b}", "", f"spec: {_count(len(diff.spec), 'difference')}"]
    for change in diff.spec:
        if change.side == "both":
            lines.append(f"  {change.key}: {_short(change.a)} -> {_short(change.b)}")
        else:
            value = change.a if change.side == "a" else change.b
            lines.append(f"  {change.key}: only in {change.side}: {_short(value)}")
    lines += ["", f"rows: {diff.rows_a} in a, {diff.rows_b} in b, {diff.shared} in both"]
    if not diff.shared:
        return "\n".join([*lines, NOTHING_SHARED])
    lines += [f"  status {pair}: {count} rows" for pair, count in sorted(diff.statuses.items())]
    lines += [f"  steps {pair}: {count} rows" for pair, count in sorted(diff.steps.items())]
    if diff.shapes is not None:
        shapes = " and ".join(" x ".join(map(str, shape)) for shape in diff.shapes)
        lines.append(f"  no values can be compared: a step has the shape {shapes}")
    if diff.compared:
        lines += [
            f"  {_count(diff.compared, 'row')} compared: cosine {diff.cosine_mean:.6f} on average, "
            f"{diff.cosine_min:.6f} at least",
            f"  largest deviation: {diff.deviation:.6g}, of a step's time {diff.seconds:.6g} s",
        ]
    if diff.worst:
        lines += ["", "worst clips (cosine, largest deviation):"]
        lines += [f"  {c.cosine:.6f}  {c.deviation:<12.6g}  {c.clip}" for c in diff.worst]
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
