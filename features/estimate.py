"""What a plan will take: bytes from the shapes of its features, seconds from a few clips of it.

work = plan(read_manifest("m.jsonl"), "store", ["vggish", "resnet152"], random_weights=0)
print(estimate(work).table())
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from features.backbones.interface import Backbone
from features.computing import compute_clips
from features.cores import available_cores, shared_cores
from features.extraction import default_workers
from features.planning import Plan
from features.readers import default_readers
from features.requests import FeatureRequest, feature_spec
from features.tables import number_table, stage_table
from features.tasks import ClipRow, ShardTask
from pipeline.errors import MediaError
from pipeline.stages import StageClock

__all__ = ["Estimate", "FeatureSize", "estimate"]

READING = ("open", "decode", "sound", "resize")
"""Stages of the processes that read clips; the others are the model's."""

TIME_BYTES = 8
"""Bytes of a step's time, which stands beside its values."""


@dataclass
class FeatureSize:
    """What a feature of a plan will take if no clip fails.

    Attributes:
        clips: Clips that lack it and can have it: not those whose video is missing.
        steps: Steps that they give.
        bytes: Values and times.
    """

    clips: int = 0
    steps: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Estimate:
    """What a plan will take.

    Attributes:
        clips: Different clips in the manifest.
        cached: Clips that have all the features already.
        todo: Clips that lack some.
        sizes: What each feature will take.
        seconds: Projected from the probe; None if no clip of it gave features.
        probed: Clips that were decoded and computed.
        skipped: Clips of the probe that gave no features.
        stages: Seconds of one core by stage, for the clips that were probed.
        workers: Processes that the projection counts on.
        readers: Processes that decode for each of them.
    """

    clips: int
    cached: int
    todo: int
    sizes: Mapping[str, FeatureSize]
    seconds: float | None
    probed: int
    skipped: int
    stages: Mapping[str, float]
    workers: int
    readers: int

    @property
    def bytes(self) -> int:
        """What will be written."""
        return sum(size.bytes for size in self.sizes.values())

    def table(self) -> str:
        """Clips and bytes by feature, what the probe took, and the projected time."""
        lines = [("feature", "clips", "steps", "size")]
        lines += [
            (name, str(size.clips), str(size.steps), _size(size.bytes))
            for name, size in self.sizes.items()
        ]
        text = [
            f"{self.clips} clips: {self.cached} are there, {self.todo} to do",
            number_table(lines),
            f"{_size(self.bytes)} in all",
        ]
        if self.probed:
            text.append(stage_table(self.stages, self.probed))
        if self.seconds is not None:
            skipped = f"; {self.skipped} more gave no features" if self.skipped else ""
            text.append(
                f"about {_duration(self.seconds)} with {self.workers} workers of "
                f"{self.readers} readers each, after trying {self.probed} clips{skipped}"
            )
        elif self.skipped:
            text.append(f"no projected time: {self.skipped} clips were tried, none gave features")
        return "\n".join(text)


def estimate(
    work: Plan, *, clips: int = 3, workers: int | None = None, readers: int | None = None
) -> Estimate:
    """Tries a few clips of a plan, spread over it; nothing is written to the store.

    They are decoded and computed on one core, after one that warms up and is not counted. The
    projection takes it that on a CPU all cores are kept busy, and that on a GPU decoding and model
    overlap. Starting processes and loading weights are not in it.

    Args:
        work: The plan.
        clips: Clips to try; at least one of every set of features that clips lack.
        workers, readers: As for `features.extraction.run_plan`.

    Raises:
        UserError: If weights are missing or wrong.
    """
    groups, sizes = _survey(work)
    probe = _Probe()
    for group in groups:
        share = clips * group.media / sum(other.media for other in groups)
        last = group.readable - 1
        for position in np.linspace(0, last, max(1, min(round(share), group.readable))):
            probe.measure(group, round(float(position)))
    device = groups[0].device if groups else "cpu"
    if workers is None:
        workers = default_workers(work)
    if readers is None:
        backbones = [request.build() for group in groups for request in group.requests]
        readers = default_readers(device, backbones, work.todo)
    return Estimate(
        work.rows,
        work.cached,
        work.todo,
        sizes,
        probe.project(groups, device, workers, readers) if probe.probed else None,
        probe.probed,
        probe.skipped,
        probe.stages,
        workers,
        readers,
    )


@dataclass
class _Group:
    """The clips that are decoded for the same features.

    Attributes:
        requests: The features, without those that follow from others.
        device: Where networks run.
        tasks: The plan's.
        counts: Number of every task of the group, and its clips whose video is there.
        media: Seconds that those clips last.
    """

    requests: tuple[FeatureRequest, ...]
    device: str
    tasks: Sequence[ShardTask]
    counts: list[tuple[int, int]] = field(default_factory=list)
    media: float = 0.0

    @property
    def readable(self) -> int:
        """Clips whose video is there."""
        return sum(count for _, count in self.counts)

    def clip(self, position: int) -> tuple[ShardTask, ClipRow]:
        """One of those clips, and its task."""
        for number, count in self.counts:
            if position < count:
                task = self.tasks[number]
                return task, _readable(task)[position]
            position -= count
        raise IndexError(position)


def _readable(task: ShardTask) -> list[ClipRow]:
    return [clip for clip in task.rows if clip.path is not None]


def _survey(work: Plan) -> tuple[list[_Group], dict[str, FeatureSize]]:
    """Groups the clips of a plan that are to be decoded, and sums up what features will take."""
    groups: dict[tuple[FeatureRequest, ...], _Group] = {}
    sizes = {spec.name: FeatureSize() for spec in work.features}
    for number, task in enumerate(work.tasks):
        there = _readable(task)
        for request in task.features:
            # What comes from another feature in the store needs no video.
            clips = task.rows if request.name in (task.held or ()) else there
            _add(sizes[request.name], request.build(), clips)
        requests = _decoded(task.features, task.held or (), task.decoder)
        if requests and there:
            group = groups.setdefault(requests, _Group(requests, task.device, work.tasks))
            group.counts.append((number, len(there)))
            group.media += sum(clip.end - clip.start for clip in there)
    return list(groups.values()), sizes


def _add(size: FeatureSize, backbone: Backbone, clips: Sequence[ClipRow]) -> None:
    lengths = Counter(round(clip.end - clip.start, 6) for clip in clips)
    steps = sum(n * len(backbone.times(0.0, length)) for length, n in lengths.items())
    values = int(np.prod(backbone.shape, dtype=np.int64)) * np.dtype(backbone.dtype).itemsize
    size.clips += len(clips)
    size.steps += steps
    size.bytes += steps * (values + TIME_BYTES)


@lru_cache(maxsize=64)
def _decoded(
    requests: tuple[FeatureRequest, ...], held: tuple[str, ...], decoder: str
) -> tuple[FeatureRequest, ...]:
    """The features that media are decoded for: not those that follow from another one."""
    ids = {feature_spec(request.build(), decoder).id for request in requests}

    def follows(request: FeatureRequest) -> bool:
        source = request.build().source
        return source is not None and feature_spec(source, decoder).id in ids

    return tuple(r for r in requests if r.name not in held and not follows(r))


class _Probe:
    """Clips that were tried.

    Attributes:
        probed, skipped: Clips that gave features, and that gave none.
        stages: Seconds by stage of those that gave features.
    """

    def __init__(self) -> None:
        self.probed = 0
        self.skipped = 0
        self._clock = StageClock()
        self._rates: dict[tuple[FeatureRequest, ...], Counter[str]] = {}

    @property
    def stages(self) -> Mapping[str, float]:
        return dict(self._clock.seconds)

    def measure(self, group: _Group, position: int) -> None:
        """Tries a clip."""
        task, clip = group.clip(position)
        rates = self._rates.get(group.requests)
        if rates is None:
            rates = self._rates[group.requests] = Counter()
            _try(task, clip, group.requests)
        seconds = _try(task, clip, group.requests)
        if seconds is None:
            self.skipped += 1
            return
        self.probed += 1
        self._clock.add(seconds)
        rates["media"] += clip.end - clip.start
        for name, value in seconds.items():
            rates["reading" if name in READING else "computing"] += value

    def project(self, groups: Sequence[_Group], device: str, workers: int, readers: int) -> float:
        """Seconds that all clips take."""
        reading = computing = 0.0
        everything = sum(self._rates.values(), Counter())
        for group in groups:
            rates = self._rates[group.requests]
            # Where no clip of a group gave features, it is taken for an average one.
            rates = rates if rates["media"] else everything
            reading += group.media * rates["reading"] / rates["media"]
            computing += group.media * rates["computing"] / rates["media"]
        cores = available_cores()
        if device != "cpu":
            return max(reading / min(cores, workers * max(1, readers)), computing / workers)
        return (reading + computing) / min(cores, workers * (max(1, cores // workers) + readers))


def _try(
    task: ShardTask, clip: ClipRow, requests: Sequence[FeatureRequest]
) -> Mapping[str, float] | None:
    """Decodes and computes a clip on one core; its seconds by stage, or None if it all fails."""
    clock = StageClock()
    with clock.running(), _one_core():
        (steps,) = compute_clips(
            [clip],
            requests,
            clock=clock,
            decoder=task.decoder,
            device=task.device,
            timeout=task.timeout,
            # In a process: a clip that crashes is one that gives no features.
            readers=1,
        )
    failed = all(isinstance(value, MediaError) for value in steps.values())
    return None if failed else clock.seconds


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Makes networks and decoders do with one thread, so that seconds on the clock are a core's."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    try:
        with shared_cores(1):
            yield
    finally:
        if torch:
            torch.set_num_threads(threads)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"
