"""Reading in child processes: who reads which clip, and what happens when one dies."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from features.backbones.interface import BACKBONES, Backbone, Clip
from features.decoding import Block, Failed, passes, time_limit, too_short
from features.readers.child import Child, give_child, take_child
from features.readers.interface import Delivery, Interval, Job
from pipeline.errors import MediaError, UserError
from pipeline.stages import StageClock

__all__ = ["Crew"]

_POLL = 0.25
"""Seconds between two looks at whether a step is overdue."""

_TRIES = 3
"""Processes that may die before they begin with a clip; more means that none can start here."""


@dataclass
class _Task:
    """A clip on its way through a child.

    Attributes:
        number: Its place in the job.
        clip: What to read.
        passes: Names of the features of every pass still to come.
        current: Those of the pass under way.
        left: How many blocks every feature still lacks.
        tries: Children that died before they began.
    """

    number: int
    clip: Interval
    passes: list[list[str]]
    blocks: Mapping[str, int]
    current: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)
    tries: int = 0


class Crew:
    """Some children that read clips, and the thread that gives them work; see `Readers`.

    Clips are given out in order, and a child reads on until its blocks are consumed, so the one
    that is wanted next is always being read: memory is bounded and nothing waits for ever.

    Args:
        job: What to read.
        count: Processes.
    """

    def __init__(self, job: Job, count: int) -> None:
        self._job = job
        self._backbones = {backbone.name: backbone for backbone in job.backbones}
        self._deliveries: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in job.clips]
        self._todo: deque[_Task] = deque()
        self._tasks: dict[Child, _Task | None] = {}
        self._clock = StageClock()
        self._stop, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="reader processes", daemon=True)
        for _ in range(min(count, len(job.clips))):
            self._hire()

    @property
    def seconds(self) -> Mapping[str, float]:
        """See `Readers`."""
        return self._clock.seconds

    def problem(self) -> str | None:
        """Waits for the first child's answer: why it cannot read for these backbones, if so."""
        child = next(iter(self._tasks))
        try:
            kind, *values = child.receive()
        except EOFError:
            return f"the process ended with {child.ending()}"
        return values[0] if kind == "cannot" else None

    def __enter__(self) -> Crew:
        for number, clip in enumerate(self._job.clips):
            self._todo.append(self._task(number, clip))
        for child in list(self._tasks):
            self._assign(child)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.close()
        if self._thread.ident is not None:
            self._thread.join()
        self._woken.close()
        for child, task in self._tasks.items():
            if task is None and child.idle and child.alive:
                give_child(child)
            else:
                child.kill()

    def __iter__(self) -> Iterator[Iterator[Delivery]]:
        for deliveries in self._deliveries:
            yield iter(partial(_next, deliveries), None)

    def _task(self, number: int, clip: Interval) -> _Task:
        _, start, end = clip
        for backbone in self._job.backbones:
            if (error := too_short(backbone, start, end)) is not None:
                self._deliver(number, Failed(backbone.name, error))
        groups = passes(self._job.backbones, start, end)
        return _Task(
            number,
            clip,
            [[backbone.name for backbone in group] for group in groups],
            {b.name: len(b.grid.blocks(start, end)) for group in groups for b in group},
        )

    def _deliver(
        self, number: int, part: Block | Failed, release: Callable[[], None] | None = None
    ) -> None:
        self._deliveries[number].put(Delivery(part, release or _nothing_to_release))

    def _hire(self) -> Child:
        job = self._job
        child = take_child()
        kinds = [_kind(request.name) for request in job.requests]
        where = os.getcwd(), dict(os.environ)
        child.send("use", where, kinds, list(job.requests), job.decoder, job.threads, job.timeout)
        self._tasks[child] = None
        return child

    def _assign(self, child: Child) -> None:
        """Gives a child the next clip, if there is one; nothing is decoded for one too short."""
        while self._todo:
            task = self._todo.popleft()
            if task.passes:
                self._tasks[child] = task
                task.current = []
                child.send("read", *task.clip, task.passes)
                return
            self._deliveries[task.number].put(None)

    def _run(self) -> None:
        try:
            while self._todo or any(self._tasks.values()):
                connections = {child.connection: child for child in self._tasks}
                ready = wait([*connections, self._woken], _POLL)
                if self._woken in ready:
                    return
                for child in [connections[connection] for connection in ready]:
                    self._hear(child)
                for child, task in list(self._tasks.items()):
                    if task is not None and child.overdue:
                        self._overdue(child)
        except BaseException as error:
            for deliveries in self._deliveries:
                deliveries.put(error)

    def _hear(self, child: Child) -> None:
        try:
            message = child.receive()
            self._handle(child, *message)
        except EOFError:
            self._died(child, None)

    def _handle(self, child: Child, kind: str, *values: Any) -> None:
        task = self._tasks[child]
        if kind == "ready":
            return
        if kind == "pass":
            task.current = task.passes.pop(0)
            task.left = {name: task.blocks[name] for name in task.current}
        elif kind == "block":
            self._block(child, task, *values)
        elif kind == "failed":
            feature, status, reason = values
            task.left.pop(feature)
            self._deliver(task.number, Failed(feature, MediaError(status, reason)))
        elif kind == "done":
            self._clock.add(values[0])
            self._tasks[child] = None
            self._deliveries[task.number].put(None)
            self._assign(child)
        elif kind == "error":
            raise values[0]
        else:
            raise UserError(f"A reader process cannot start ({values[0]}); use --readers 0.")

    def _block(
        self,
        child: Child,
        task: _Task,
        feature: str,
        number: int,
        segments: int,
        starts: Any,
        what: str,
        place: tuple[Any, ...],
    ) -> None:
        if number == 0:
            task.left[feature] = task.blocks[feature]
        task.left[feature] -= 1
        clip = Clip(segments, starts=starts, **{what: child.take(*place)})
        release = partial(child.release, place[0])
        self._deliver(task.number, Block(feature, number, clip), release)

    def _overdue(self, child: Child) -> None:
        """Ends a child that its clip keeps too long, and tells apart what it had finished."""
        child.stop()
        try:
            while True:
                self._handle(child, *child.receive())
        except EOFError:
            pass
        clip = self._tasks[child].clip
        limit = time_limit(self._job.timeout, clip.start, clip.end)
        self._died(child, MediaError("timeout", f"decoding took longer than {limit:g} s"))

    def _died(self, child: Child, error: MediaError | None) -> None:
        """Files what a dead child was reading, and puts another one in its place."""
        ending = child.ending()
        task = self._tasks.pop(child)
        child.kill()
        if task is None:
            return
        if task.current:
            if error is None:
                error = MediaError("decode_error", f"the process that read it ended with {ending}")
            unfinished = [name for name, left in task.left.items() if left]
            if len(task.current) == 1:
                for name in unfinished:
                    self._deliver(task.number, Failed(name, error))
            else:
                # Whose fault it was only shows when each is alone.
                task.passes = [[name] for name in unfinished] + task.passes
        else:
            task.tries += 1
            if task.tries == _TRIES:
                raise UserError(
                    f"Reader processes cannot start here (the last one ended with {ending}); "
                    "use --readers 0."
                )
        self._todo.appendleft(task)
        self._assign(self._hire())


def _next(deliveries: queue.SimpleQueue[Any]) -> Delivery | None:
    item = deliveries.get()
    if isinstance(item, BaseException):
        raise item
    return item


def _kind(name: str) -> tuple[str, str]:
    kind: type[Backbone] = BACKBONES.get(name)
    return kind.__module__, kind.__qualname__


def _nothing_to_release() -> None:
    pass
