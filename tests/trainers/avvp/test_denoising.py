"""JoMoLD's rules against loops and hand computations (methods/avvp.md, 4.3)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainers.avvp.denoising import noise_mask, noise_ratios, warmup_factor


def _loop(
    loss_audio: Tensor, loss_visual: Tensor, positive: Tensor, ratios: Tensor, rule: str
) -> tuple[Tensor, Tensor]:
    """Algorithm 1 as it is written: class by class, with Python's stable sort."""
    noise = [torch.zeros_like(positive), torch.zeros_like(positive)]
    losses = (loss_audio.tolist(), loss_visual.tolist())
    for c in range(positive.shape[1]):
        rows = [b for b in range(len(positive)) if positive[b, c]]
        for m in (0, 1):
            k = int(ratios[m, c].item() * len(rows))
            hardest = sorted(rows, key=lambda b: losses[m][b][c])[len(rows) - k :]
            easiest = sorted(rows, key=lambda b: losses[1 - m][b][c])[:k]
            for b in set(hardest) & set(easiest) if rule == "joint" else hardest:
                noise[m][b, c] = True
    return noise[0], noise[1]


def _case(i: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(i)
    batch, classes = (1, 2, 16, 128)[i % 4], 5
    losses = torch.rand(2, batch, classes, generator=g)
    if i % 3 == 0:
        losses = (losses * 4).round() / 4
    positive = torch.rand(batch, classes, generator=g) < (0.1, 0.5, 1.0)[i % 3]
    ratios = torch.rand(2, classes, generator=g, dtype=torch.float64)
    if i % 5 == 0:
        ratios = ratios.round()
    return losses[0], losses[1], positive, ratios


@pytest.mark.parametrize("rule", ["joint", "intra"])
def test_mask_equals_the_loop(rule: str) -> None:
    removed = 0
    for i in range(300):
        case = _case(i)
        ours, theirs = noise_mask(*case, rule=rule), _loop(*case, rule)
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])
        removed += int(ours[0].sum() + ours[1].sum())
    assert removed > 1000


def test_only_positives_are_removed_and_seldom_from_both() -> None:
    both_seen = False
    for i in range(300):
        loss_audio, loss_visual, positive, ratios = _case(i)
        audio, visual = noise_mask(loss_audio, loss_visual, positive, ratios)
        assert not (audio & ~positive).any()
        assert not (visual & ~positive).any()
        n = positive.sum(0)
        k = (ratios * n).long().sum(0)
        both = (audio & visual).any(0)
        assert not (both & (k <= n)).any()
        both_seen |= bool(both.any())
    assert both_seen


def test_hard_for_the_eye_and_easy_for_the_ear_is_visual_noise() -> None:
    positive = torch.ones(4, 1, dtype=torch.bool)
    loss_audio = torch.tensor([[0.1], [2.0], [0.2], [0.3]])
    loss_visual = torch.tensor([[3.0], [0.1], [0.2], [2.0]])
    ratios = torch.tensor([[0.25], [0.5]], dtype=torch.float64)
    audio, visual = noise_mask(loss_audio, loss_visual, positive, ratios)
    assert audio[:, 0].tolist() == [False, True, False, False]
    # The two hardest for the eye are 0 and 3, the two easiest for the ear 0 and 2.
    assert visual[:, 0].tolist() == [True, False, False, False]


def test_warmup_rises_linearly_to_the_full_ratio() -> None:
    factors = [warmup_factor(t, 10, 0.9) for t in range(25)]
    assert factors[:9] == pytest.approx([t / 9 for t in range(9)])
    assert factors[9:] == [1.0] * 16
    assert [warmup_factor(t, 10, 0.0) for t in range(3)] == [1.0] * 3
    assert warmup_factor(15, 10, 2.5) == pytest.approx(15 / 25)


@pytest.mark.parametrize("warmup", [0.3, 0.9, 1.0])
def test_released_warmup_is_a_switch_after_the_first_epoch(warmup: float) -> None:
    factors = [warmup_factor(t, 10, warmup, as_released=True) for t in range(30)]
    assert factors == [0.0] * 10 + [1.0] * 20


def test_released_warmup_longer_than_an_epoch_collapses() -> None:
    factors = [warmup_factor(t, 10, 3.0, as_released=True) for t in range(50)]
    assert factors[10] == pytest.approx(10 / 30)
    assert factors[12] == pytest.approx(10 * 11 * 12 / 30**3)
    assert 0 < factors[19] < 1e-2
    assert factors[20] == pytest.approx(20 / 30)
    assert factors[30:] == [1.0] * 20


def test_noise_ratio_by_hand() -> None:
    # Audio, class 0: mean 0.5; labels on clips 0 to 3 with P/mean = 1.6, 0.4, 0.8, 1.2.
    audio = torch.tensor([[0.8], [0.2], [0.4], [0.6]])
    visual = torch.tensor([[0.9], [0.1], [0.1], [0.1]])
    clip = torch.stack((audio, visual), dim=1)
    labels = torch.ones(4, 2, 1)
    ratios = noise_ratios(clip, labels, (0.6, 1.8))
    assert ratios.tolist() == [[0.25], [0.75]]
    # Without clip 3's labels the mean stays that of all clips.
    labels[3] = 0
    ratios = noise_ratios(clip, labels, (0.6, 1.8))
    assert ratios.flatten().tolist() == pytest.approx([1 / 3, 2 / 3])


def test_class_without_labels_has_no_noise() -> None:
    ratios = noise_ratios(torch.rand(3, 2, 2), torch.zeros(3, 2, 2), (9.0, 9.0))
    assert ratios.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_released_ratio_scales_the_visual_probability() -> None:
    # P/mean = 1.85 lies between 1.8 and 1.8 / 0.95.
    visual = torch.tensor([0.74, 0.2, 0.3, 0.36])
    clip = torch.stack((visual, visual), dim=1)[..., None]
    labels = torch.zeros(4, 2, 1)
    labels[0] = 1
    theta = (1.8, 1.8)
    assert noise_ratios(clip, labels, theta).tolist() == [[0.0], [0.0]]
    assert noise_ratios(clip, labels, theta, released_batches=4).tolist() == [[0.0], [1.0]]


def test_released_ratio_takes_a_mean_of_batch_means() -> None:
    clip = torch.tensor([0.4, 0.4, 0.4, 0.4, 0.8])[:, None, None].expand(5, 2, 1)
    labels = torch.zeros(5, 2, 1)
    labels[0] = 1
    # Mean 0.48 of all, 0.6 of the batch means 0.4 and 0.8; 0.4 is below 0.8 of the latter only.
    assert noise_ratios(clip, labels, (0.8, 0.0))[0].item() == 0.0
    assert noise_ratios(clip, labels, (0.8, 0.0), released_batches=4)[0].item() == 1.0


def test_double_precision_decides_the_count() -> None:
    # A ratio is a count over a count, so products meet whole numbers: int() must see them alike.
    for n in range(1, 130):
        ratios = torch.arange(n + 1, dtype=torch.float64) / n
        expected = [int(k / n * n) for k in range(n + 1)]
        assert (ratios * torch.tensor(n)).long().tolist() == expected
