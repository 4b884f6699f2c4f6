"""The order of RLLD's clips (methods/avvp.md, 4.4, batches and episodes)."""

from __future__ import annotations

import io

import pytest
import torch

from trainers.avvp.overlap import OverlapQueue


def _queue(n: int, size: int, *, overlap: float = 0.25, length: int = 32) -> OverlapQueue:
    queue = OverlapQueue(size, overlap, length=length, generator=torch.Generator().manual_seed(0))
    queue.restart(torch.arange(n))
    return queue


def test_published_schedule_shares_exactly_32_clips_and_ends_82_episodes() -> None:
    queue, last, episodes = _queue(10_000, 128), set[int](), 0
    for _ in range(25 * 105):
        first = queue.starts_episode
        batch = queue.next().tolist()
        assert len(set(batch)) == len(batch) == 128
        if not first:
            assert len(last & set(batch)) == 32
        last = set(batch)
        episodes += queue.starts_episode
    assert episodes == 82
    assert queue.step - 82 * 32 == 1


def test_kept_clips_are_a_random_choice() -> None:
    queue = _queue(1000, 100)
    one, two = queue.next().tolist(), queue.next().tolist()
    positions = sorted(one.index(row) for row in set(one) & set(two))
    assert positions != list(range(25))
    assert set(two[:25]) == set(one) & set(two)


def test_every_clip_is_met_once_before_any_comes_again_from_the_queue() -> None:
    queue = _queue(1000, 100, length=1_000)
    new = queue.next().tolist()
    while len(new) < 1000:
        new += queue.next().tolist()[25:]
    assert len(set(new)) == 1000


@pytest.mark.parametrize("n", [2, 3, 7, 12, 24, 57])
def test_small_pools_have_smaller_batches_with_the_same_promise(n: int) -> None:
    queue = _queue(n, 32, length=5)
    last, seen = set[int](), set[int]()
    for _ in range(60):
        first = queue.starts_episode
        batch = queue.next().tolist()
        assert len(set(batch)) == len(batch) == queue.size <= n
        if not first:
            assert len(last & set(batch)) == queue.kept
        last = set(batch)
        seen |= last
    assert seen == set(range(n))


def test_a_single_clip_still_makes_batches() -> None:
    queue = _queue(1, 32)
    assert [queue.next().tolist() for _ in range(3)] == [[0]] * 3


def test_no_overlap_walks_permutations() -> None:
    queue = _queue(100, 20, overlap=0.0, length=1_000)
    epoch = torch.cat([queue.next() for _ in range(5)])
    assert sorted(epoch.tolist()) == list(range(100))


def test_state_goes_on_in_the_middle_of_an_episode() -> None:
    queue = _queue(50, 8, length=4)
    for _ in range(6):
        queue.next()
    buffer = io.BytesIO()
    torch.save((queue.state_dict(), queue.generator.get_state()), buffer)
    expected = [queue.next() for _ in range(20)]
    buffer.seek(0)
    state, generator = torch.load(buffer, weights_only=True)
    again = _queue(50, 8, length=4)
    again.load_state_dict(state)
    again.generator.set_state(generator)
    for batch in expected:
        assert torch.equal(batch, again.next())
