"""Clips in, steps out: reading runs ahead, blocks are computed in the order of the rows."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np

from features.backbones.interface import Backbone
from features.decoding import Block, Failed
from features.readers import (
    Delivery,
    Interval,
    Job,
    codec_threads,
    default_readers,
    open_readers,
)
from features.requests import FeatureRequest
from features.tasks import ClipRow
from pipeline.errors import MediaError
from pipeline.stages import StageClock, stage

__all__ = ["Steps", "compute_clips"]

GPU_LANES = 2
"""Threads that compute on a GPU: while one's block is computed, the other's is copied there."""

GPU_CLIPS = 4
"""Clips whose blocks are on their way through a GPU at a time."""

Steps = Mapping[str, np.ndarray | MediaError]
"""By feature, a clip's steps (S, ...), or why there are none."""


def compute_clips(
    clips: Sequence[ClipRow],
    requests: Sequence[FeatureRequest],
    *,
    clock: StageClock,
    decoder: str = "pyav",
    device: str = "cpu",
    timeout: float | None = None,
    readers: int | None = None,
) -> Iterator[Steps]:
    """Decodes clips once and computes what is asked for.

    No value depends on the number of readers, on the other clips or on the other features.

    Args:
        clips: The clips.
        requests: The features.
        clock: Counts the seconds of every stage, in this process and in the readers.
        decoder: Name of the video decoder.
        device: ``"cpu"`` or ``"cuda"``.
        timeout: Seconds that decoding one clip's pictures may take, and its sound.
        readers: Processes that decode; 0 decodes in a thread of this one, None is as many as
            `features.readers.default_readers` says.

    Yields:
        For every clip in order its steps.

    Raises:
        UserError: If weights are missing or wrong, or no reader can start.
    """
    if not requests:
        yield from ({} for _ in clips)
        return
    backbones = {backbone.name: backbone for backbone in (r.build() for r in requests)}
    there = [Interval(clip.path, clip.start, clip.end) for clip in clips if clip.path is not None]
    if readers is None:
        readers = default_readers(device, list(backbones.values()), len(there))
    job = Job(there, requests, list(backbones.values()), decoder, timeout, codec_threads(readers))
    with open_readers(job, readers) as reading:
        # Weights load while the readers start.
        for backbone in backbones.values():
            backbone.to(device)
        deliveries = iter(reading)
        with _lanes(device, clock) as lanes:
            waiting: deque[_Clip] = deque()
            for clip in clips:
                current = _Clip(backbones, lanes)
                if clip.path is None:
                    current.fail_all(MediaError("missing", clip.problem))
                else:
                    for delivery in next(deliveries):
                        current.take(delivery)
                waiting.append(current)
                while len(waiting) > lanes.clips:
                    yield waiting.popleft().steps()
            yield from (clip.steps() for clip in waiting)
        clock.add(reading.seconds)


class _Clip:
    """One clip's blocks on their way through the model."""

    def __init__(self, backbones: Mapping[str, Backbone], lanes: _Lanes) -> None:
        self._backbones = backbones
        self._lanes = lanes
        self._blocks: dict[str, list[_Result]] = {name: [] for name in backbones}
        self._errors: dict[str, MediaError] = {}

    def fail_all(self, error: MediaError) -> None:
        """Gives every feature the same failure."""
        self._errors = dict.fromkeys(self._backbones, error)

    def take(self, delivery: Delivery) -> None:
        """Hands a block to the model, or notes a failure."""
        part, release = delivery
        if isinstance(part, Failed):
            self._errors[part.feature] = part.error
            return
        if part.number == 0:
            self._blocks[part.feature].clear()
        backbone = self._backbones[part.feature]
        result = self._lanes.submit(lambda: _compute(backbone, part, release))
        self._blocks[part.feature].append(result)

    def steps(self) -> Steps:
        """Waits for what is being computed."""
        steps: dict[str, np.ndarray | MediaError] = dict(self._errors)
        for name in self._backbones.keys() - steps.keys():
            blocks = [result.result() for result in self._blocks[name]]
            steps[name] = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return steps


def _compute(backbone: Backbone, block: Block, release: Callable[[], None]) -> np.ndarray:
    """Computes a block's steps; its arrays are not looked at any more afterwards."""
    source = block.clip.frames if block.clip.waveform is None else block.clip.waveform
    try:
        with stage("model"):
            steps = backbone.compute(block.clip)
        return steps.copy() if np.may_share_memory(steps, source) else steps
    finally:
        release()


class _Result(Protocol):
    def result(self) -> np.ndarray: ...


class _Lanes(Protocol):
    """Computes blocks.

    Attributes:
        clips: Clips that may be on their way at a time.
    """

    clips: int

    def submit(self, work: Callable[[], np.ndarray]) -> _Result: ...


@contextlib.contextmanager
def _lanes(device: str, clock: StageClock) -> Iterator[_Lanes]:
    if device == "cpu":
        yield _Here()
        return
    threads = _Threads(GPU_LANES)
    try:
        yield threads
    finally:
        threads.close()
        clock.add(threads.seconds)


class _Here:
    """Computes at once, in this thread: on a CPU nothing is won by a second one."""

    clips = 0

    def submit(self, work: Callable[[], np.ndarray]) -> _Result:
        done: Future[np.ndarray] = Future()
        done.set_result(work())
        return done


class _Threads:
    """Computes in threads, of which each has its own stream on the GPU.

    Attributes:
        seconds: By stage, complete once closed.
    """

    clips = GPU_CLIPS

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="compute")
        # One more block than lanes is taken out of the readers' hands.
        self._room = threading.Semaphore(count + 1)
        self._lock = threading.Lock()
        self._clock = StageClock()

    @property
    def seconds(self) -> Mapping[str, float]:
        return self._clock.seconds

    def submit(self, work: Callable[[], np.ndarray]) -> _Result:
        self._room.acquire()
        return self._pool.submit(self._run, work)

    def _run(self, work: Callable[[], np.ndarray]) -> np.ndarray:
        clock = StageClock()
        try:
            with clock.running():
                return work()
        finally:
            self._room.release()
            with self._lock:
                self._clock.add(clock.seconds)

    def close(self) -> None:
        self._pool.shutdown()
