"""What to call rows of a store, which knows digests of videos and no ids."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from features.sources import row_media
from features.store import RowKey, Store
from pipeline.manifest import Manifest

__all__ = ["name_rows"]


def name_rows(
    store: Store, keys: Collection[RowKey], manifests: Sequence[Manifest] = ()
) -> dict[RowKey, str]:
    """Names rows: by their ids in the manifests, else by their videos, else by their digests.

    Args:
        store: The store.
        keys: Rows of it.
        manifests: Where to look for ids.
    """
    if not keys:
        return {}
    videos = store.sources.names({key.media for key in keys})
    names = {
        key: f"{videos.get(key.media, key.media[:16])} {key.start:g}-{key.end:g} s" for key in keys
    }
    for manifest in manifests:
        sources = store.sources.resolve(manifest, manifest.rows)
        for row, source in zip(manifest.rows, sources, strict=True):
            for media in (*source.media, row_media(manifest.header.dataset, row.id)):
                if (key := RowKey(media, row.start, row.end)) in names:
                    names[key] = row.id
    return names
