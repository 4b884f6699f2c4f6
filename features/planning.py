"""What is missing, cut into tasks: a task is one shard of each feature that its rows lack."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.backbones.interface import Backbone
from features.decoding import CLIP_TIMEOUT
from features.requests import FeatureRequest, feature_spec, make_requests
from features.sources import Source, missing_media
from features.spec import FeatureSpec
from features.store import Store
from features.store.index import FeatureIndex, Place
from features.tasks import ClipRow, ShardTask, ShardTasks
from pipeline.decode import open_decoder
from pipeline.errors import UserError
from pipeline.manifest import Manifest
from pipeline.manifest import Row as ManifestRow

__all__ = ["ClipRow", "Plan", "ShardTask", "ShardTasks", "choose_device", "plan"]

PLAN_BLOCK = 4096
"""Manifest rows that are looked up at a time."""


@dataclass(frozen=True)
class Plan:
    """What an extraction will do.

    Attributes:
        tasks: The work.
        features: Spec of every feature asked for.
        rows: Different clips in the manifest.
        cached: Clips that have all the features already, failed ones included.
        todo: Clips that lack some feature.
        statuses: By feature, how often each (status, reason) is in the store already.
        set_aside: Damaged shards that were renamed, to be done again.
    """

    tasks: Sequence[ShardTask]
    features: tuple[FeatureSpec, ...]
    rows: int
    cached: int
    todo: int
    statuses: Mapping[str, Counter[tuple[str, str]]] = field(default_factory=dict)
    set_aside: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = ", ".join(spec.name for spec in self.features)
        if not self.todo:
            count = f"{self.rows} rows of {len(self.features)} features"
            return f"nothing to do: {count} are there ({names})"
        return (
            f"{self.todo} of {self.rows} rows to extract in {len(self.tasks)} shards ({names}), "
            f"{self.cached} are there"
        )


def plan(
    manifest: Manifest,
    store: Store | Path | str,
    names: Sequence[str],
    *,
    shard_rows: int = 64,
    decoder: str = "pyav",
    weights: Mapping[str, Path | str] | None = None,
    random_weights: int | None = None,
    device: str = "auto",
    options: Mapping[str, Mapping[str, Any]] | None = None,
    timeout: float | None = CLIP_TIMEOUT,
) -> Plan:
    """Compares a manifest with a store. New videos are hashed; nothing is decoded.

    Rows of all splits are planned, the pool's too; rows that mean the same interval of the same
    file are planned once. A row's audio is that of its own video, whatever its ``audio_id``.

    Args:
        manifest: The rows.
        store: The store or its folder.
        names: Features to extract.
        shard_rows: Clips a shard.
        decoder: Video decoder, ``"pyav"`` or ``"decord"``.
        weights: Weight file by feature name, see `features.requests.make_requests`.
        random_weights: Seed of random weights for networks without a weight file.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        options: Options by feature name.
        timeout: Seconds that decoding the pictures of one clip may take, and its sound; more for
            clips longer than a minute, see `features.decoding.time_limit`; None for no limit.

    Raises:
        UserError: If a feature, option, weight file or device is wrong, or no video is there.
    """
    if shard_rows < 1:
        raise UserError(f"A shard holds at least 1 row, not {shard_rows}; mend --shard-rows.")
    store = store if isinstance(store, Store) else Store(store)
    requests = make_requests(names, weights=weights, random_weights=random_weights, options=options)
    open_decoder(decoder)
    wanted = [_look_up(store, request, decoder) for request in requests]
    set_aside = [
        name for w in wanted if w.index is not None for name in w.index.set_aside_damaged()
    ]
    survey = _Survey(manifest, store, wanted, shard_rows, decoder, timeout)
    for n in range(0, len(manifest.rows), PLAN_BLOCK):
        survey.look_at(manifest.rows[n : n + PLAN_BLOCK])
    survey.finish()
    needed = survey.needed_backbones()
    device = choose_device(device, needed=any(backbone.weights_required for backbone in needed))
    for backbone in needed:
        # Wrong weights are found here, not in the middle of a night's work.
        backbone.to(device)
    return Plan(
        ShardTasks(survey.packed, device),
        tuple(w.spec for w in wanted),
        survey.rows,
        survey.cached,
        survey.rows - survey.cached,
        survey.statuses,
        tuple(set_aside),
    )


@dataclass(frozen=True)
class _Wanted:
    """A feature asked for, what the store has of it, and of the feature it can come from."""

    request: FeatureRequest
    backbone: Backbone
    spec: FeatureSpec
    index: FeatureIndex | None
    source: FeatureIndex | None


def _look_up(store: Store, request: FeatureRequest, decoder: str) -> _Wanted:
    backbone = request.build()
    spec = feature_spec(backbone, decoder)
    source = None
    if backbone.source is not None:
        source = store.index(feature_spec(backbone.source, decoder).folder)
    return _Wanted(request, backbone, spec, store.index(spec.folder), source)


_Group = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass
class _Survey:
    """What a manifest's rows lack, found block by block and packed shard by shard.

    Attributes:
        packed: The tasks.
        rows, cached: Different clips, and those of them that have all features.
        statuses: See `Plan`.
    """

    manifest: Manifest
    store: Store
    wanted: Sequence[_Wanted]
    shard_rows: int
    decoder: str
    timeout: float | None
    packed: list[bytes] = field(default_factory=list)
    rows: int = 0
    cached: int = 0

    def __post_init__(self) -> None:
        self.statuses: dict[str, Counter[tuple[str, str]]] = {
            w.spec.name: Counter() for w in self.wanted
        }
        self._seen: set[bytes] = set()
        # By the numbers of the features that are lacking, and of those that can be derived.
        self._open: dict[_Group, list[ClipRow]] = {}
        self._lacked: set[FeatureRequest] = set()
        self._decodes = self._has_video = self._has_file = False

    def look_at(self, rows: Sequence[ManifestRow]) -> None:
        """Plans some rows."""
        sources = self.store.sources.resolve(self.manifest, rows)
        self._has_video |= any(row.video is not None for row in rows)
        self._has_file |= any(source.path is not None for source in sources)
        new = [n for n in range(len(rows)) if self._is_new(rows[n], sources[n])]
        rows, sources = [rows[n] for n in new], [sources[n] for n in new]
        own = [_find(w.index, rows, sources) for w in self.wanted]
        origin = [_find(w.source, rows, sources) for w in self.wanted]
        for n, (row, source) in enumerate(zip(rows, sources, strict=True)):
            self._add(
                self._clip(row, source), [there[n] for there in own], [there[n] for there in origin]
            )

    def _is_new(self, row: ManifestRow, source: Source) -> bool:
        key = struct.pack("<dd", row.start + 0.0, row.end + 0.0) + source.media[0].encode()
        before = len(self._seen)
        self._seen.add(key)
        return len(self._seen) > before

    def _clip(self, row: ManifestRow, source: Source) -> ClipRow:
        if row.video is None:
            gone = source.media[-1]
        else:
            gone = missing_media(self.manifest.header.dataset, row.video)
        # A clip whose video is gone is filed under the pseudo digest, so that it is done when
        # the video appears.
        media = source.media[0] if source.path is not None else gone
        return ClipRow(media, row.start, row.end, source.path, source.stamp, gone, source.problem)

    def _add(
        self, clip: ClipRow, own: Sequence[Place | None], origin: Sequence[Place | None]
    ) -> None:
        """Counts a clip's features that are there, and queues it for those that are not."""
        self.rows += 1
        lacking, held = [], []
        for number, (there, source) in enumerate(zip(own, origin, strict=True)):
            if there is not None:
                record, n = there
                name = self.wanted[number].spec.name
                self.statuses[name][record.failures.get(n, ("ok", ""))] += 1
                continue
            lacking.append(number)
            if source is not None:
                # Rows whose source feature is there go together: they are computed without
                # decoding.
                held.append(number)
                clip = clip._replace(media=source[0].keys[source[1]].media)
        if not lacking:
            self.cached += 1
            return
        self._decodes |= len(lacking) > len(held)
        group = tuple(lacking), tuple(held)
        clips = self._open.setdefault(group, [])
        clips.append(clip)
        if len(clips) == self.shard_rows:
            self._pack(group)

    def _pack(self, group: _Group) -> None:
        lacking, held = ([self.wanted[number] for number in numbers] for numbers in group)
        requests = tuple(w.request for w in lacking)
        clips = tuple(self._open.pop(group))
        self._lacked.update(requests)
        self.packed.append(
            ShardTask(
                str(self.store.path),
                requests,
                clips,
                self.decoder,
                timeout=self.timeout,
                held=tuple(w.spec.name for w in held),
            ).pack()
        )

    def finish(self) -> None:
        """Packs what does not fill a shard.

        Raises:
            UserError: If there is something to decode and no video at all: that is a wrong path,
                not a corpus of which every file broke.
        """
        for group in list(self._open):
            self._pack(group)
        if not self._decodes:
            return
        manifest = self.manifest
        if not self._has_video:
            raise UserError(
                f"No row of {manifest.path} names a video, so there is nothing to extract; use a "
                "manifest with videos."
            )
        if not self._has_file:
            raise UserError(
                f"None of the manifest's videos is in {manifest.media_root}; correct media_root "
                f"in {manifest.path} or pass --media-root."
            )

    def needed_backbones(self) -> list[Backbone]:
        """The backbones whose weights the tasks may need."""
        if not self._decodes:
            return []
        return [w.backbone for w in self.wanted if w.request in self._lacked]


def _find(
    index: FeatureIndex | None, rows: Sequence[ManifestRow], sources: Sequence[Source]
) -> list[Place | None]:
    if index is None:
        return [None] * len(rows)
    return index.find_all(
        [source.media for source in sources],
        [row.start for row in rows],
        [row.end for row in rows],
    )


def choose_device(device: str, *, needed: bool = True) -> str:
    """The device to run on.

    Args:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        needed: Whether anything runs on it; torch is not even imported otherwise.

    Raises:
        UserError: If the name is unknown or there is no such device.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"There is no device {device!r}; use auto, cpu or cuda.")
    if device == "cpu" or not needed:
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise UserError("No CUDA device is available here; use --device cpu or auto.")
    return "cpu"
