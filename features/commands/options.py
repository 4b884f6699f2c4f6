"""Arguments that several commands share."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.errors import UserError
from pipeline.files import store_dir
from pipeline.manifest import Manifest, read_manifest

__all__ = ["add_media_root", "add_store", "read_manifests"]


def add_store(parser: ArgumentParser) -> None:
    """Adds the store as the first argument; the default is `pipeline.files.store_dir`."""
    parser.add_argument(
        "store", nargs="?", type=Path, default=store_dir(), metavar="STORE", help="the store"
    )


def add_media_root(parser: ArgumentParser) -> None:
    """Adds ``--media-root``, for `read_manifests`."""
    parser.add_argument(
        "--media-root",
        type=Path,
        metavar="DIR",
        help="folder of the videos (default: the manifest's)",
    )


def read_manifests(paths: Sequence[Path], media_root: Path | None) -> list[Manifest]:
    """Reads manifests.

    Args:
        paths: Their files.
        media_root: Folder of the videos, in place of the one that each names.

    Raises:
        UserError: If one cannot be read, or there is no such folder.
    """
    if media_root is not None and not media_root.is_dir():
        raise UserError(f"The folder {media_root} does not exist; correct --media-root.")
    manifests = [read_manifest(path) for path in paths]
    if media_root is None:
        return manifests
    root = str(media_root.absolute())
    return [replace(m, header=replace(m.header, media_root=root)) for m in manifests]
