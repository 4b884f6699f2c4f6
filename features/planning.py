"""What is missing, cut into tasks: a task is one shard of each feature that its rows lack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from features.backbones.interface import Backbone
from features.requests import FeatureRequest, feature_spec, make_requests
from features.sources import Source, missing_media
from features.spec import FeatureSpec
from features.store import RowKey, Store
from features.store.index import FeatureIndex
from pipeline.decode import open_decoder
from pipeline.errors import UserError
from pipeline.manifest import Manifest

__all__ = ["ClipRow", "Plan", "ShardTask", "choose_device", "plan"]


class ClipRow(NamedTuple):
    """One clip to extract, as plain values.

    Attributes:
        media: Digest of its video when the plan was made, or the pseudo digest of a missing one.
        start, end: Seconds in the file.
        path: The video, or None where there is none to read.
        stamp: The file's size and modification time in nanoseconds when the plan was made.
        gone: The pseudo digest to file the clip under should the video be missing.
        problem: Why there is no video.
    """

    media: str
    start: float
    end: float
    path: str | None
    stamp: tuple[int, int] | None
    gone: str
    problem: str = ""

    @property
    def key(self) -> RowKey:
        """What the clip's features are filed under."""
        return RowKey(self.media, self.start, self.end)


@dataclass(frozen=True)
class ShardTask:
    """One shard's worth of work: plain values only, so that it can travel as JSON or pickle.

    Attributes:
        store: The store's folder.
        features: What the rows lack.
        rows: The clips, in manifest order.
        decoder: Name of the video decoder.
        device: ``"cpu"`` or ``"cuda"``.
        timeout: Seconds that decoding one clip's pictures may take, and its sound.
    """

    store: str
    features: tuple[FeatureRequest, ...]
    rows: tuple[ClipRow, ...]
    decoder: str = "pyav"
    device: str = "cpu"
    timeout: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The task as plain JSON values."""
        return {
            "store": self.store,
            "features": [
                [f.name, [list(option) for option in f.options], f.weights, f.random_weights]
                for f in self.features
            ],
            "rows": [list(row) for row in self.rows],
            "decoder": self.decoder,
            "device": self.device,
            "timeout": self.timeout,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShardTask:
        """Reads what `to_json` gave."""
        return cls(
            value["store"],
            tuple(
                FeatureRequest(name, tuple((key, x) for key, x in options), weights, seed)
                for name, options, weights, seed in value["features"]
            ),
            tuple(
                ClipRow(m, start, end, path, None if stamp is None else tuple(stamp), gone, problem)
                for m, start, end, path, stamp, gone, problem in value["rows"]
            ),
            value["decoder"],
            value["device"],
            value["timeout"],
        )


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

    tasks: tuple[ShardTask, ...]
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
    timeout: float | None = 300.0,
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
        timeout: Seconds that decoding one clip's pictures may take, and its sound; None for no
            limit.

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
    sources = store.sources.resolve(manifest, manifest.rows)
    groups: dict[tuple[tuple[FeatureRequest, ...], tuple[str, ...]], list[ClipRow]] = {}
    statuses: dict[str, Counter[tuple[str, str]]] = {w.spec.name: Counter() for w in wanted}
    rows, cached = 0, 0
    for keys, clip in _clips(manifest, sources):
        rows += 1
        lacking = [w for w in wanted if not w.count(keys, statuses)]
        if not lacking:
            cached += 1
            continue
        # Rows whose source feature is there go together: they are computed without decoding.
        held = {w.spec.name: key for w in lacking if (key := _there(w.source, keys)) is not None}
        for key in held.values():
            clip = clip._replace(media=key.media)
        group = tuple(w.request for w in lacking), tuple(held)
        groups.setdefault(group, []).append(clip)
    needed: list[Backbone] = []
    if any(len(lacking) > len(held) for lacking, held in groups):
        _check_media(manifest, sources)
        lacked = {request for lacking, _ in groups for request in lacking}
        needed = [w.backbone for w in wanted if w.request in lacked]
    device = choose_device(device, needed=any(backbone.weights_required for backbone in needed))
    for backbone in needed:
        # Wrong weights are found here, not in the middle of a night's work.
        backbone.to(device)
    tasks = tuple(
        ShardTask(str(store.path), lacking, tuple(part), decoder, device, timeout)
        for (lacking, _), clips in groups.items()
        for part in _chunks(clips, shard_rows)
    )
    specs = tuple(w.spec for w in wanted)
    return Plan(tasks, specs, rows, cached, rows - cached, statuses, tuple(set_aside))


@dataclass(frozen=True)
class _Wanted:
    """A feature asked for, what the store has of it, and of the feature it can come from."""

    request: FeatureRequest
    backbone: Backbone
    spec: FeatureSpec
    index: FeatureIndex | None
    source: FeatureIndex | None

    def count(
        self, keys: Sequence[RowKey], statuses: Mapping[str, Counter[tuple[str, str]]]
    ) -> bool:
        """Whether a clip is there; if so, its status is counted."""
        key = _there(self.index, keys)
        if key is not None:
            statuses[self.spec.name][self.index.status(key)] += 1
        return key is not None


def _look_up(store: Store, request: FeatureRequest, decoder: str) -> _Wanted:
    backbone = request.build()
    spec = feature_spec(backbone, decoder)
    source = None
    if backbone.source is not None:
        source = store.index(feature_spec(backbone.source, decoder).folder)
    return _Wanted(request, backbone, spec, store.index(spec.folder), source)


def _there(index: FeatureIndex | None, keys: Sequence[RowKey]) -> RowKey | None:
    return None if index is None else next((key for key in keys if key in index), None)


def _clips(
    manifest: Manifest, sources: Sequence[Source]
) -> Iterable[tuple[tuple[RowKey, ...], ClipRow]]:
    """Every different clip of a manifest, with the keys its features may be filed under."""
    seen: set[RowKey] = set()
    for row, source in zip(manifest.rows, sources, strict=True):
        keys = tuple(RowKey(media, row.start, row.end) for media in source.media)
        if keys[0] in seen:
            continue
        seen.add(keys[0])
        if row.video is None:
            gone = source.media[-1]
        else:
            gone = missing_media(manifest.header.dataset, row.video)
        # A clip whose video is gone is filed under the pseudo digest, so that it is done when
        # the video appears.
        media = source.media[0] if source.path is not None else gone
        yield (
            keys,
            ClipRow(media, row.start, row.end, source.path, source.stamp, gone, source.problem),
        )


def _check_media(manifest: Manifest, sources: Sequence[Source]) -> None:
    """Refuses to mark every row as missing: that is a wrong path, not a broken corpus."""
    if all(row.video is None for row in manifest.rows):
        raise UserError(
            f"No row of {manifest.path} names a video, so there is nothing to extract; use a "
            "manifest with videos."
        )
    if all(source.path is None for source in sources):
        raise UserError(
            f"None of the manifest's videos is in {manifest.media_root}; correct media_root in "
            f"{manifest.path} or pass --media-root."
        )


def _chunks(clips: Sequence[ClipRow], size: int) -> Iterable[Sequence[ClipRow]]:
    return (clips[n : n + size] for n in range(0, len(clips), size))


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
