"""Stages: every moment is counted once, whatever is nested in what."""

from __future__ import annotations

import threading
import time

import pytest

from pipeline.stages import StageClock, stage


@pytest.fixture
def moments(monkeypatch) -> list[float]:
    """The clock's time, moved by hand."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_an_inner_stage_stops_the_outer_one(moments):
    clock = StageClock()
    with clock.running(), stage("decode"):
        moments[0] += 1
        with stage("open"):
            moments[0] += 2
        moments[0] += 4
    assert clock.seconds == {"decode": 5.0, "open": 2.0}


def test_time_outside_stages_is_not_counted(moments):
    clock = StageClock()
    with clock.running():
        moments[0] += 1
        with stage("model"):
            moments[0] += 2
        moments[0] += 4
        with stage("model"):
            moments[0] += 8
    assert clock.seconds == {"model": 10.0}


def test_an_error_ends_its_stages(moments):
    clock = StageClock()

    def fail() -> None:
        with stage("decode"), stage("open"):
            moments[0] += 1
            raise KeyError

    with clock.running():
        with pytest.raises(KeyError):
            fail()
        moments[0] += 2
        with stage("write"):
            moments[0] += 4
    assert clock.seconds == {"decode": 0.0, "open": 1.0, "write": 4.0}


def test_clocks_add_up(moments):
    clock = StageClock()
    with clock.running(), stage("model"):
        moments[0] += 1
    clock.add({"model": 2.0, "decode": 3.0})
    assert clock.seconds == {"model": 3.0, "decode": 3.0}


def test_threads_do_not_share_a_clock(moments):
    clock = StageClock()

    def elsewhere() -> None:
        with stage("decode"):
            moments[0] += 1

    with clock.running():
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    with stage("decode"):
        moments[0] += 1
    assert clock.seconds == {}
