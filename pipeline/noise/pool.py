"""Rows that only lend audio, brought from another manifest."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import UserError
from pipeline.manifest import Manifest, Row
from pipeline.manifest.files import relative_root

__all__ = ["append_pool"]


def append_pool(manifest: Manifest, pool: Manifest) -> Manifest:
    """Appends all rows of another manifest as rows of split pool.

    They lend their own audio, whatever they carried there. Labels that are no classes of the
    manifest are left out. Videos are named from the manifest's media root, and so are sources that
    are named after their video.

    Args:
        manifest: Gets the rows at its end.
        pool: Lends them; its splits do not matter.

    Raises:
        UserError: If it has no rows, or an id, a source or a video file stands in the manifest
            already; what lends audio there anyway, split pool, may stand in both.
    """
    if not len(pool):
        raise UserError(f"The pool {_name(pool)} has no rows; give a manifest that has some.")
    classes = frozenset(manifest.classes)
    rows = [_as_pool(row, manifest, pool, classes) for row in pool.rows]
    if all(row.id in manifest and manifest[row.id].split == "pool" for row in rows):
        raise UserError(
            f"All rows of the pool {_name(pool)} stand in split pool of {_name(manifest)} already; "
            "leave --pool out, or rename the pool's rows if they are others."
        )
    sources = {row.group: row.split for row in manifest.rows if row.split != "pool"}
    for row in rows:
        if row.group in sources:
            raise UserError(
                f"The source {row.group!r} of the pool {_name(pool)} stands in split "
                f"{sources[row.group]} too; take its rows out of the pool."
            )
        if row.id in manifest:
            raise UserError(
                f"The id {row.id!r} of the pool {_name(pool)} is taken in "
                f"{_name(manifest)}; rename the pool's rows."
            )
    _check_files(manifest, pool)
    return manifest.with_rows((*manifest.rows, *rows))


def _check_files(manifest: Manifest, pool: Manifest) -> None:
    """Refuses files of training or evaluation: sources are named in each manifest's own way."""
    locate, locate_lent = _Files(manifest.media_root), _Files(pool.media_root)
    taken = {locate(row.video): row for row in manifest if row.video and row.split != "pool"}
    for row in pool:
        same = taken.get(locate_lent(row.video)) if row.video else None
        if same is not None:
            raise UserError(
                f"The video {row.video!r} of the pool {_name(pool)} is that of the row "
                f"{same.id!r} in split {same.split} too; take its rows out of the pool."
            )


class _Files:
    """Where videos lie, so that a file has one name however it is reached; none need exist.

    Args:
        root: What relative names start from.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[str, str] = {}

    def __call__(self, video: str) -> str:
        # Folders are resolved once each: a corpus has a thousand files in one.
        folder, name = os.path.split(self._root / video)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        path = os.path.join(self._folders[folder], name)
        # Splits are often folders of links into one folder of all videos.
        return os.path.normcase(os.path.realpath(path) if os.path.islink(path) else path)


def _as_pool(row: Row, manifest: Manifest, pool: Manifest, classes: frozenset[str]) -> Row:
    video = _moved(row.video, manifest, pool)
    return Row(
        id=row.id,
        start=row.start,
        end=row.end,
        split="pool",
        labels=tuple(name for name in row.labels if name in classes),
        video=video,
        group=video if video and row.group == row.video else row.group,
    )


def _moved(video: str | None, manifest: Manifest, pool: Manifest) -> str | None:
    """Names a video of the pool from the media root of the manifest."""
    if video is None or os.path.isabs(video):
        return video
    if pool.media_root.resolve() == manifest.media_root.resolve():
        return video
    return relative_root(pool.media_root / video, manifest.media_root)


def _name(manifest: Manifest) -> str:
    return manifest.path.name if manifest.path else manifest.header.dataset
