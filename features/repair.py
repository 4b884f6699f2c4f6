"""Repairing a store: damaged shards are set aside, and just those are extracted again.

repair = plan_repair(store, store.check().damage, [read_manifest("m.jsonl")])
print(carry_out(repair))
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from errno import ENOENT
from pathlib import Path

from features.decoding import CLIP_TIMEOUT
from features.extraction import ClipRow, Plan, ShardTask, run_plan
from features.planning import choose_device
from features.recipes import Recipe, find_recipe
from features.requests import feature_spec
from features.sources import missing_media
from features.spec import FeatureSpec
from features.store import Damage, RowKey, ShardRecord, Store
from features.store.catalog import import_command
from features.store.checking import SPEC
from features.store.claims import held
from features.store.commit import prepare_folder, set_aside
from features.store.layout import BAD, RECORD
from features.store.lost import failure_reasons, find_runs, recorded_digest
from pipeline.errors import UserError
from pipeline.manifest import Manifest
from pipeline.progress import Advance

__all__ = ["Repair", "RepairReport", "carry_out", "plan_repair"]

BLOCK = 4096
"""Manifest rows that are looked up at a time."""
SHARD_ROWS = 64
"""Rows of a new shard, for rows of which nothing tells the old one."""


@dataclass(frozen=True)
class Repair:
    """What a repair will do; nothing is changed before `carry_out`.

    Attributes:
        store: The store.
        work: What is extracted again.
        aside: Damaged shards, which are set aside.
        specs: Features whose ``spec.json`` is written again.
        redone: Shards that come back under their names.
        regrouped: Shards whose rows nothing tells. Rows that no shard holds come in new ones.
        hopeless: What cannot be repaired, and why.
    """

    store: Store
    work: Plan
    aside: tuple[Damage, ...]
    specs: tuple[tuple[Damage, FeatureSpec], ...]
    redone: tuple[Damage, ...]
    regrouped: tuple[Damage, ...]
    hopeless: Mapping[Damage, str]


@dataclass
class RepairReport:
    """What became of a repair.

    Attributes:
        restored: Repaired: every byte is what the old record tells, or the spec's id.
        unproven: Repaired, but the old record cannot be read, so nothing tells the old bytes.
        changed: Repaired with other bytes: on another device or with other library versions.
        regrouped: See `Repair`.
        left: What is not repaired, and why.
    """

    restored: list[Damage] = field(default_factory=list)
    unproven: list[Damage] = field(default_factory=list)
    changed: list[Damage] = field(default_factory=list)
    regrouped: list[Damage] = field(default_factory=list)
    left: dict[Damage, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{len(self.restored)} repaired, to the bit what they were"]
        if self.unproven:
            lines.append(f"{len(self.unproven)} repaired; no record is left to compare them with")
        if self.changed:
            lines.append(
                f"{len(self.changed)} repaired with other bits than before: on another device or "
                "with other library versions, as their records tell"
            )
        if self.regrouped:
            lines.append(
                f"{len(self.regrouped)} of which nothing told the rows: all rows of the manifests "
                "that were in no shard are extracted again"
            )
        return "\n".join(lines + [f"not repaired: {d}; {why}" for d, why in self.left.items()])


def plan_repair(
    store: Store,
    damage: Sequence[Damage],
    manifests: Sequence[Manifest],
    *,
    weights: Mapping[str, Path | str] | None = None,
    device: str = "auto",
    timeout: float | None = CLIP_TIMEOUT,
) -> Repair:
    """Finds out how damaged shards can be made again.

    Args:
        store: The store.
        damage: From `Store.check`.
        manifests: Manifests whose videos the shards were extracted from.
        weights: Weight file by feature or network, where it is no longer where it was.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        timeout: Seconds that decoding one clip's pictures may take, and its sound.

    Raises:
        UserError: If weights are missing or others than before, or another run is at work on a
            damaged shard.
    """
    _refuse_busy(store, damage)
    recipes, hopeless = _recipes(store, damage, weights or {})
    todo = [item for item in damage if item.feature in recipes and item.shard != SPEC]
    search = _Search(store, recipes, damage)
    search.look_through(manifests)
    jobs: list[tuple[Recipe, tuple[ClipRow, ...]]] = []
    redone, regrouped = [], []
    for item in search.name_the_lost(todo):
        recipe = recipes[item.feature]
        clips = search.clips(item)
        if isinstance(clips, str):
            hopeless[item] = clips
        elif clips:
            redone.append(item)
            jobs.append((recipe, clips))
        else:
            regrouped.append(item)
    for feature in dict.fromkeys(item.feature for item in regrouped):
        jobs += [(recipes[feature], part) for part in search.rest(feature)]
    decoded = [recipe for recipe, clips in jobs if any(clip.path for clip in clips)]
    device = _load_networks(decoded, device)
    tasks = tuple(_tasks(store, jobs, device, timeout))
    rows = sum(len(task.rows) for task in tasks)
    specs = tuple(recipe.spec for recipe in recipes.values())
    return Repair(
        store,
        Plan(tasks, specs, rows, 0, rows, {spec.name: Counter() for spec in specs}),
        tuple(item for item in damage if item.shard != SPEC),
        tuple(
            (item, recipes[item.feature].spec)
            for item in damage
            if item.shard == SPEC and item.feature in recipes
        ),
        tuple(redone),
        tuple(regrouped),
        hopeless,
    )


def carry_out(repair: Repair, *, workers: int = 1, progress: Advance | None = None) -> RepairReport:
    """Sets aside what is damaged and extracts it again.

    After an interruption, a check finds what was set aside and is not back.

    Args:
        repair: From `plan_repair`.
        workers: Processes.
        progress: Told of every finished clip.

    Raises:
        UserError: If the store cannot be written, or worker processes keep dying.
    """
    report = RepairReport(regrouped=list(repair.regrouped), left=dict(repair.hopeless))
    try:
        for item, spec in repair.specs:
            path = repair.store.path / item.feature / SPEC
            if path.exists():
                os.replace(path, path.with_name(f"{SPEC}{BAD}"))
            prepare_folder(repair.store.path, spec)
            report.restored.append(item)
        before = {item: _digest(repair.store, item) for item in repair.redone}
        for item in repair.aside:
            set_aside(repair.store.path / item.feature, item.shard)
    except OSError as error:
        raise UserError(
            f"The store {repair.store.path} cannot be written ({error.strerror}), so nothing can "
            "be repaired; mend its permissions."
        ) from error
    run_plan(repair.work, workers=workers, progress=progress)
    for item, digest in before.items():
        try:
            record = ShardRecord.read(repair.store.path / item.feature / f"{item.shard}{RECORD}")
        except (OSError, ValueError):
            report.left[item] = "a video changed meanwhile; run the command again"
            continue
        same = report.restored if record.sha256 == digest else report.changed
        (report.unproven if digest is None else same).append(item)
    return report


def _refuse_busy(store: Store, damage: Iterable[Damage]) -> None:
    for item in damage:
        if item.shard in held(store.path / item.feature):
            raise UserError(
                f"Another run is at work on {item.feature}/{item.shard}; repair the store when it "
                "has ended."
            )


def _recipes(
    store: Store, damage: Sequence[Damage], weights: Mapping[str, Path | str]
) -> tuple[dict[str, Recipe], dict[Damage, str]]:
    """How each damaged feature is made, and the damage of features that cannot be made again."""
    recipes: dict[str, Recipe] = {}
    hopeless: dict[Damage, str] = {}
    for feature in dict.fromkeys(item.feature for item in damage):
        recipe = _recipe(store, feature, weights)
        if isinstance(recipe, Recipe):
            recipes[feature] = recipe
        else:
            hopeless |= {item: recipe for item in damage if item.feature == feature}
    return recipes, hopeless


def _recipe(store: Store, feature: str, weights: Mapping[str, Path | str]) -> Recipe | str:
    """How a feature is made, or why it cannot be made again."""
    folder = store.path / feature
    try:
        spec = FeatureSpec.read(folder / SPEC)
    except (OSError, ValueError):
        spec = None
    if spec is not None and "imported" in spec.values:
        where = f"--manifest M --store {store.path}"
        return f"import it again with {import_command(spec.name, spec.values, where)}"
    return find_recipe(folder, weights=weights) or (
        "nothing tells how the feature was made; extract it again with python -m flows.extract, "
        "or import it again (python -m features --help lists the importers)"
    )


class _Search:
    """The clips that damaged shards were made from.

    Args:
        store: The store.
        recipes: Recipe by feature.
        damage: All damage.
    """

    def __init__(
        self, store: Store, recipes: Mapping[str, Recipe], damage: Sequence[Damage]
    ) -> None:
        self.store = store
        self.recipes = recipes
        self.damaged = {(item.feature, item.shard) for item in damage}
        self.known = {(item.feature, key) for item in damage for key in item.keys or ()}
        self.wanted = {key for _, key in self.known}
        shards = [item for item in damage if item.shard != SPEC and item.feature in recipes]
        self.missing: dict[str, dict[RowKey, ClipRow]] = {
            item.feature: {} for item in shards if item.keys is None
        }
        self.found: dict[RowKey, ClipRow] = {}

    def look_through(self, manifests: Sequence[Manifest]) -> None:
        """Notes clips of damaged shards, and clips that no whole shard holds."""
        if not self.wanted and not self.missing:
            return
        for clip in (clip for manifest in manifests for clip in self._clips(manifest)):
            if clip.key in self.wanted:
                self.found.setdefault(clip.key, clip)
            for feature, clips in self.missing.items():
                held_by = self._place(feature, clip.key)
                if clip.path and not held_by and (feature, clip.key) not in self.known:
                    clips[clip.key] = clip

    def _clips(self, manifest: Manifest) -> Iterator[ClipRow]:
        for low in range(0, len(manifest.rows), BLOCK):
            rows = [row for row in manifest.rows[low : low + BLOCK] if row.video is not None]
            for row, source in zip(rows, self.store.sources.resolve(manifest, rows), strict=True):
                gone = missing_media(manifest.header.dataset, str(row.video))
                yield ClipRow(
                    source.media[0],
                    row.start,
                    row.end,
                    source.path,
                    source.stamp,
                    gone,
                    f"the video {row.video} is gone ({source.problem})" if source.problem else "",
                )

    def _place(self, feature: str, key: RowKey) -> str | None:
        """The whole shard that holds a row."""
        index = self.store.index(feature)
        place = None if index is None else index.find([key.media], key.start, key.end)
        whole = place is not None and (feature, place[0].shard) not in self.damaged
        return place[0].shard if whole else None

    def name_the_lost(self, damage: Sequence[Damage]) -> Iterator[Damage]:
        """The same damage, with the rows of shards that only their names tell of."""
        runs: dict[tuple[str, str], tuple[RowKey, ...]] = {}
        for feature, clips in self.missing.items():
            names = {d.shard for d in damage if d.feature == feature and d.keys is None}
            keys = list(clips)
            for name, low, high in find_runs(self.recipes[feature].spec.id, names, keys):
                runs[feature, name] = tuple(keys[low:high])
                for key in keys[low:high]:
                    self.found[key] = clips.pop(key)
        for item in damage:
            yield replace(item, keys=runs.get((item.feature, item.shard), item.keys))

    def clips(self, item: Damage) -> tuple[ClipRow, ...] | str:
        """The clips of a damaged shard, none if nothing tells them, or what is in the way."""
        if item.keys is None:
            return (
                ()
                if self.missing[item.feature]
                else (
                    "nothing tells its rows, and the manifests have no row that is not in a shard; "
                    "pass the manifest that they belong to with --manifest"
                )
            )
        if self._derivable(item):
            why = "what it is computed from is gone"
            return tuple(ClipRow(*key, None, None, key.media, why) for key in item.keys)
        reasons = failure_reasons(self.store.path / item.feature, item.shard)
        clips, absent = [], 0
        for n, key in enumerate(item.keys):
            clip = self.found.get(key)
            if ":" in key.media:
                # There was no video, and the row says so; when there is one, a new row is made.
                reason = reasons.get(n, os.strerror(ENOENT))
                clips.append(ClipRow(*key, None, None, key.media, reason))
            elif clip is None:
                absent += 1
            elif clip.path is None:
                return clip.problem
            else:
                clips.append(clip)
        if absent:
            return (
                f"{absent} of its {len(item.keys)} rows are in none of the manifests; pass the one "
                "that they belong to with --manifest"
            )
        return tuple(clips)

    def _derivable(self, item: Damage) -> bool:
        """Whether another feature of the store gives a shard without decoding."""
        recipe = self.recipes[item.feature]
        source = recipe.request.build().source
        if source is None:
            return False
        folder = feature_spec(source, recipe.decoder).folder
        return all(self._place(folder, key) for key in item.keys or ())

    def rest(self, feature: str) -> Iterator[tuple[ClipRow, ...]]:
        """Clips of a feature that no shard holds, in parts of a usual shard's size."""
        clips = tuple(self.missing[feature].values())
        return (clips[n : n + SHARD_ROWS] for n in range(0, len(clips), SHARD_ROWS))


def _load_networks(recipes: Iterable[Recipe], device: str) -> str:
    """Loads weights now: wrong ones are found before anything is renamed."""
    backbones = {recipe.request: recipe.request.build() for recipe in recipes}
    networks = [backbone for backbone in backbones.values() if backbone.weights_required]
    device = choose_device(device, needed=bool(networks))
    for backbone in networks:
        backbone.to(device)
    return device


def _tasks(
    store: Store,
    jobs: Iterable[tuple[Recipe, tuple[ClipRow, ...]]],
    device: str,
    timeout: float | None,
) -> Iterator[ShardTask]:
    """Joins what is made from the same clips, so that they are decoded once."""
    groups: dict[tuple[str, tuple[ClipRow, ...], int], dict[str, Recipe]] = {}
    for recipe, clips in jobs:
        # Two specs of one feature cannot be told apart inside a task.
        turn = 0
        while recipe.spec.name in groups.get((recipe.decoder, clips, turn), {}):
            turn += 1
        groups.setdefault((recipe.decoder, clips, turn), {})[recipe.spec.name] = recipe
    for (decoder, clips, _), recipes in groups.items():
        requests = tuple(recipe.request for recipe in recipes.values())
        yield ShardTask(str(store.path), requests, clips, decoder, device, timeout)


def _digest(store: Store, item: Damage) -> str | None:
    return recorded_digest(store.path / item.feature, item.shard)
