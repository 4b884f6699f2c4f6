"""The commands that import data sets of action recognition."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Set
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipeline.cli import DONE
from pipeline.manifest.classes import read_classes, shipped_lists
from pipeline.manifest.kinetics import import_kinetics
from pipeline.manifest.report import print_list
from pipeline.manifest.schema import SPLITS, Manifest
from pipeline.manifest.ucf101 import UCF101_SPLITS, import_ucf101
from pipeline.progress import Advance, Progress

__all__ = ["add_action_commands"]

SOUND_CLASSES = "ucf101/sound_classes"


def add_action_commands(commands: Any) -> None:
    """Adds ``import-ucf101`` and ``import-kinetics``.

    Args:
        commands: What `argparse.ArgumentParser.add_subparsers` gave.
    """
    ucf101 = commands.add_parser("import-ucf101", help="UCF101's official lists to a manifest")
    ucf101.set_defaults(command=_import_ucf101)
    ucf101.add_argument("folder", type=Path, metavar="DIR", help="holds the official lists")
    ucf101.add_argument("--out", type=Path, required=True, metavar="FILE", help="the manifest")
    ucf101.add_argument(
        "--split", type=int, choices=UCF101_SPLITS, default=1, help="which official split"
    )
    ucf101.add_argument(
        "--videos", type=Path, metavar="DIR", help="the videos (default: UCF-101 in DIR, or DIR)"
    )
    sound = ucf101.add_mutually_exclusive_group()
    sound.add_argument(
        "--with-sound", action="store_true", help="keep the classes whose files have sound; probed"
    )
    _add_classes(sound)
    ucf101.add_argument(
        "--fallback-seconds",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="length of a video that is not there or states none",
    )
    _add_choice(ucf101)

    kinetics = commands.add_parser("import-kinetics", help="Kinetics' CSV tables to a manifest")
    kinetics.set_defaults(command=_import_kinetics)
    kinetics.add_argument("tables", type=Path, nargs="+", metavar="CSV", help="the official tables")
    kinetics.add_argument("--out", type=Path, required=True, metavar="FILE", help="the manifest")
    kinetics.add_argument("--videos", type=Path, metavar="DIR", help="searched with sub-folders")
    _add_classes(kinetics)
    kinetics.add_argument(
        "--train-per-class", type=int, metavar="N", help="draw N clips of every class (default all)"
    )
    kinetics.add_argument(
        "--val-per-class", type=int, metavar="N", help="likewise of Kinetics' validation split"
    )
    kinetics.add_argument(
        "--validation-as",
        choices=("test", "val"),
        default="test",
        help="what Kinetics' validation split becomes",
    )
    kinetics.add_argument(
        "--absent",
        choices=("keep", "skip"),
        default="keep",
        help="clips without a file: rows that extraction calls missing, or none",
    )
    kinetics.add_argument(
        "--trimmed", action="store_true", help="files called <id> hold the clip, not the video"
    )
    kinetics.add_argument(
        "--probe", action="store_true", help="read the lengths of files, some of which are shorter"
    )
    kinetics.add_argument("--dataset", metavar="NAME", help="default: that of the class list")
    _add_choice(kinetics)


def _add_classes(parser: Any) -> None:
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help=f"keep these classes: a file with one a line, or one of {', '.join(shipped_lists())}",
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--val-share",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the training groups of every class that becomes the validation split",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn")


def _import_ucf101(options: argparse.Namespace) -> int:
    result = import_ucf101(
        options.folder,
        options.out,
        split=options.split,
        videos=options.videos,
        classes=None if options.classes is None else read_classes(options.classes),
        with_sound=options.with_sound,
        val_share=options.val_share,
        seed=options.seed,
        fallback_seconds=options.fallback_seconds,
        show=_show,
    )
    if result.sound:
        _report_sound(result.sound, set(result.manifest.classes))
    _report(result.manifest, result.notes.lines())
    return DONE


def _report_sound(sound: Mapping[str, tuple[int, int]], kept: Set[str]) -> None:
    """Prints which classes were kept for their sound.

    Args:
        sound: By class, videos with an audio track and videos that are there.
        kept: Classes that were kept.
    """
    for name, (heard, there) in sound.items():
        verdict = "kept" if name in kept else "left out"
        share = f"{heard} of {there} videos with sound" if there else "none of its videos is there"
        print(f"{verdict}: {name}, {share}")
    usual = set(read_classes(SOUND_CLASSES))
    probed = {name for name, (_, there) in sound.items() if there}
    print_list(f"classes with sound that {SOUND_CLASSES} lacks", sorted(kept - usual))
    print_list(f"classes of {SOUND_CLASSES} without sound", sorted(usual & probed - kept))
    print_list(f"classes of {SOUND_CLASSES} without videos", sorted(usual - probed))


def _import_kinetics(options: argparse.Namespace) -> int:
    classes = None if options.classes is None else read_classes(options.classes)
    result = import_kinetics(
        options.tables,
        options.out,
        videos=options.videos,
        classes=classes,
        train_per_class=options.train_per_class,
        val_per_class=options.val_per_class,
        validation_as=options.validation_as,
        val_share=options.val_share,
        seed=options.seed,
        absent=options.absent,
        trimmed=options.trimmed,
        probe=options.probe,
        dataset=options.dataset or _dataset(options.classes),
        show=_show,
    )
    _report(result.manifest, result.notes.lines())
    return DONE


def _dataset(classes: str | None) -> str:
    return classes.replace("/", "-") if classes in shipped_lists() else "kinetics"


def _show(files: int) -> AbstractContextManager[Advance]:
    return Progress(files, "probe", unit="files")


def _report(manifest: Manifest, notes: list[str]) -> None:
    for line in notes:
        print(f"note: {line}")
    counts = ", ".join(f"{split} {n}" for split in SPLITS if (n := len(manifest.split(split))))
    print(f"wrote {manifest.path}: {counts or 'no rows'}; {len(manifest.classes)} classes")
