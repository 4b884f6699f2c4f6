"""Makes, checks and describes manifests: ``python -m pipeline.manifest COMMAND --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.cli import DONE, PARTIAL, Parser, run
from pipeline.manifest.action_commands import add_action_commands
from pipeline.manifest.files import read_manifest
from pipeline.manifest.folder import from_folder, scan_folder
from pipeline.manifest.llp import AUDIO_VERSIONS, import_llp
from pipeline.manifest.report import check_media, print_list, print_stats, validate
from pipeline.manifest.schema import SPLITS
from pipeline.progress import Progress

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    options = _parser().parse_args(argv)
    return options.command(options)


def _parser() -> Parser:
    parser = Parser(prog="python -m pipeline.manifest", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    llp = commands.add_parser("import-llp", help="the official LLP tables to a manifest")
    llp.set_defaults(command=_import_llp)
    llp.add_argument("folder", type=Path, metavar="DIR", help="holds the five official tables")
    llp.add_argument("--out", type=Path, required=True, metavar="FILE", help="the manifest")
    llp.add_argument(
        "--annotations", choices=AUDIO_VERSIONS, default="2024", help="version of the audio table"
    )
    llp.add_argument("--media-root", type=Path, metavar="DIR", help="holds videos/<id>.mp4")
    llp.add_argument(
        "--trimmed", action="store_true", help="the video files hold the annotated seconds alone"
    )

    add_action_commands(commands)

    folder = commands.add_parser("from-folder", help="a folder of videos to a manifest")
    folder.set_defaults(command=_from_folder)
    _add_folder_options(folder)

    check = commands.add_parser("validate", help="read a manifest strictly, maybe probe its media")
    check.set_defaults(command=_validate)
    check.add_argument("file", type=Path, metavar="FILE")
    check.add_argument(
        "--media", action="store_true", help="every video must exist and be readable"
    )

    stats = commands.add_parser("stats", help="clips, labels and dense annotations by split")
    stats.set_defaults(command=_stats)
    stats.add_argument("file", type=Path, metavar="FILE")
    return parser


def _add_folder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="searched with its sub-folders")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the manifest")
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="TABLE",
        help="CSV or TSV with the columns file, labels and maybe split",
    )
    parser.add_argument(
        "--labels-from-folders",
        action="store_true",
        help="label: the file's folder, <label>/... or <split>/<label>/..., instead of a table",
    )
    parser.add_argument(
        "--label-type",
        choices=("multiclass", "multilabel"),
        help="default: multiclass if every labelled file has exactly one label",
    )
    parser.add_argument("--split", choices=SPLITS, default="train", help="where the table has none")
    parser.add_argument(
        "--window", type=float, metavar="SECONDS", help="cut videos into consecutive rows"
    )
    parser.add_argument(
        "--tail", choices=("keep", "drop"), default="keep", help="the end that fills no window"
    )
    parser.add_argument(
        "--fallback-seconds",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="length of a file whose own cannot be read",
    )
    parser.add_argument(
        "--absent", choices=("error", "skip"), default="error", help="table lines without a file"
    )
    parser.add_argument(
        "--unlabelled",
        choices=("error", "pool"),
        default="error",
        help="files without a table line; pool rows lend audio and are never trained on",
    )
    parser.add_argument("--dataset", metavar="NAME", help="default: the folder's name")


def _import_llp(options: argparse.Namespace) -> int:
    result = import_llp(
        options.folder,
        options.out,
        annotations=options.annotations,
        media_root=options.media_root,
        trimmed=options.trimmed,
    )
    annotations = result.manifest.header.annotations or {}
    print(f"audio annotations: {result.audio_table.name}, version {annotations['version']}")
    for line in result.notes.lines():
        print(f"note: {line}")
    print(f"wrote {options.out} ({len(result.manifest)} clips) and {annotations['file']}")
    return DONE


def _from_folder(options: argparse.Namespace) -> int:
    files, _ = scan_folder(options.folder)
    with Progress(len(files), "probe", unit="files") as progress:
        result = from_folder(
            options.folder,
            options.out,
            labels=options.labels,
            labels_from_folders=options.labels_from_folders,
            label_type=options.label_type,
            split=options.split,
            window=options.window,
            tail=options.tail,
            fallback_seconds=options.fallback_seconds,
            absent=options.absent,
            unlabelled=options.unlabelled,
            dataset=options.dataset,
            progress=progress,
        )
    print_list("files that are no media by their name, left out", result.other)
    print_list(
        f"files of unknown length, taken as {options.fallback_seconds:g} s",
        (f"{name}: {reason}" for name, reason in result.fallback.items()),
    )
    print_list("files without a label, kept in split pool", result.unlabelled)
    print_list("names in the label table without a file, skipped", result.absent)
    print_list(
        "ends of videos that fill no window, left out",
        (f"{name}: {seconds:.1f} s" for name, seconds in result.tails.items()),
    )
    manifest = result.manifest
    videos = len({row.video for row in manifest})
    print(
        f"wrote {options.out}: {len(manifest)} rows of {videos} files, {manifest.header.label_type}"
    )
    return DONE


def _validate(options: argparse.Namespace) -> int:
    result = validate(options.file)
    print(result.summary())
    if not options.media:
        return DONE
    videos = {row.video for row in result.manifest} - {None}
    with Progress(len(videos), "probe", unit="files") as progress:
        findings = check_media(result.manifest, progress=progress)
    for status in sorted({finding.status for finding in findings}):
        found = (f"{f.row}: {f.reason}" for f in findings if f.status == status)
        print_list(f"rows with status {status}", found)
    print(f"{len(videos)} videos probed; {len(findings)} rows will not give all features")
    return PARTIAL if findings else DONE


def _stats(options: argparse.Namespace) -> int:
    print_stats(read_manifest(options.file), sys.stdout)
    return DONE


if __name__ == "__main__":
    run(main)
