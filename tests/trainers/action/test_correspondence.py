"""Weights of pairs against loops over all videos."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.recognition import fit, make_view, small_settings
from trainers.action.correspondence import (
    WEIGHTINGS,
    correspondence_weights,
    pool_clips,
    video_embedding,
)

N, D = 50, 7


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shared = torch.randn(N, D, generator=generator)
    noise = torch.randn(2, N, D, generator=generator)
    z_v, z_a = (F.normalize(shared + side, dim=1).double() for side in noise)
    return z_v, z_a


def loop(own: Tensor, other: Tensor, *, include: bool, near: int | float) -> Tensor:
    """The mean cosine in one modality with what is near in the other, video by video."""
    means = []
    for i in range(len(own)):
        by_other = {
            j: float(other[i] @ other[j]) for j in range(len(own)) if include or j != i
        }  # fmt: skip
        if isinstance(near, int):
            chosen = sorted(by_other, key=by_other.__getitem__, reverse=True)[:near]
        else:
            chosen = [j for j, s in by_other.items() if s >= near]
        total = sum(float(own[i] @ own[j]) for j in chosen)
        means.append(total / len(chosen) if chosen else 0.0)
    return torch.tensor(means, dtype=own.dtype)


@pytest.mark.parametrize("include", [False, True])
@pytest.mark.parametrize("chunk", [16, 1000])
def test_weights_match_a_double_loop(
    pair: tuple[Tensor, Tensor], include: bool, chunk: int
) -> None:
    z_v, z_a = pair
    w_v, w_a = correspondence_weights(
        z_v, z_a, neighbours=6, self_included=include, how="raw", chunk=chunk
    )
    torch.testing.assert_close(w_v, loop(z_v, z_a, include=include, near=6))
    torch.testing.assert_close(w_a, loop(z_a, z_v, include=include, near=6))


@pytest.mark.parametrize("include", [False, True])
def test_thresholds_match_a_double_loop(pair: tuple[Tensor, Tensor], include: bool) -> None:
    z_v, z_a = pair
    thresholds = (0.4, 0.9)
    w_v, w_a = correspondence_weights(
        z_v, z_a, thresholds=thresholds, self_included=include, how="raw", chunk=16
    )
    torch.testing.assert_close(w_v, loop(z_v, z_a, include=include, near=thresholds[0]))
    torch.testing.assert_close(w_a, loop(z_a, z_v, include=include, near=thresholds[1]))
    assert include or (w_a == 0).any()


def test_including_itself_adds_its_own_similarity(pair: tuple[Tensor, Tensor]) -> None:
    without = correspondence_weights(*pair, neighbours=5, how="raw")
    with_self = correspondence_weights(*pair, neighbours=6, self_included=True, how="raw")
    for plain, more in zip(without, with_self, strict=True):
        torch.testing.assert_close(more, (5 * plain + 1) / 6)


@pytest.mark.parametrize("how", WEIGHTINGS)
def test_exchanging_modalities_exchanges_weights(pair: tuple[Tensor, Tensor], how: str) -> None:
    z_v, z_a = pair
    w_v, w_a = correspondence_weights(z_v, z_a, how=how)
    other_v, other_a = correspondence_weights(z_a, z_v, how=how)
    assert torch.equal(w_v, other_a)
    assert torch.equal(w_a, other_v)


def test_equal_modalities_have_equal_weights(pair: tuple[Tensor, Tensor]) -> None:
    w_v, w_a = correspondence_weights(pair[0], pair[0])
    assert torch.equal(w_v, w_a)


def test_weightings(pair: tuple[Tensor, Tensor]) -> None:
    raw = correspondence_weights(*pair, neighbours=3, how="raw")[0]
    got = {how: correspondence_weights(*pair, neighbours=3, how=how)[0] for how in WEIGHTINGS}
    assert (raw < 0).any()
    assert torch.equal(got["clamp"], raw.clamp(min=0))
    assert got["minmax"].min() == 0
    assert got["minmax"].max() == 1
    assert torch.equal(got["rank"].argsort(), raw.argsort())
    torch.testing.assert_close(got["rank"].sort().values, torch.linspace(0, 1, N).double())
    assert torch.equal(got["ones"], torch.ones(N, dtype=raw.dtype))


def test_an_unknown_weighting_is_refused(pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="clamp, raw, minmax, rank, ones"):
        correspondence_weights(*pair, how="softmax")


def test_mismatched_sounds_weigh_less() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 16, generator=generator)
    classes = torch.arange(200) % 5
    heard = classes.clone()
    heard[:40] = (heard[:40] + 1) % 5
    z_v, z_a = (
        F.normalize(centres[c] + 0.5 * torch.randn(200, 16, generator=generator), dim=1)
        for c in (classes, heard)
    )
    w_v, w_a = correspondence_weights(z_v, z_a)
    mean = (w_v + w_a) / 2
    assert mean[:40].max() < mean[40:].min()


def test_pooling_is_the_mean_over_valid_clips_at_norm_1() -> None:
    generator = torch.Generator().manual_seed(1)
    z = F.normalize(torch.randn(4, 3, 5, generator=generator), dim=-1)
    valid = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 1, 1], [1, 1, 0]], dtype=torch.bool)
    for i in range(4):
        mean = z[i][valid[i]].mean(0)
        torch.testing.assert_close(pool_clips(z, valid)[i], mean / mean.norm())


def test_embedding_by_batches_is_embedding_at_once() -> None:
    view = make_view()
    predictor, _, _ = fit("ce", view, small_settings("ce", epochs=1))
    whole = predictor.embed(view.inputs)
    found = video_embedding(predictor, view.inputs, batch_size=7)
    for side, clips in zip(found, whole, strict=True):
        torch.testing.assert_close(side, pool_clips(clips, view.inputs.valid))
        assert not side.requires_grad
