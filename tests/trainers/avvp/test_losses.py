"""Losses against hand computations (methods/avvp.md, sections 3 and 4.7)."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainers.avvp.losses import bce, bce_cells, contrastive, parsing_loss, smooth
from trainers.avvp.networks.han import Parsing


def _out(audio_out: Tensor, visual_in: Tensor, visual_out: Tensor) -> Parsing:
    clip = torch.rand(len(audio_out), 3)
    p = torch.rand(len(audio_out), audio_out.shape[1], 2, 3)
    return Parsing(p, clip, clip, clip, audio_out, visual_in, audio_out, visual_out)


def test_smoothing() -> None:
    torch.testing.assert_close(smooth(torch.tensor([0.0, 1.0])), torch.tensor([0.05, 0.95]))


def test_cross_entropy_by_hand() -> None:
    p, q = torch.tensor([[0.25, 0.5]]), torch.tensor([[1.0, 0.05]])
    expected = [-math.log(0.25), -0.05 * math.log(0.5) - 0.95 * math.log(0.5)]
    torch.testing.assert_close(bce_cells(p, q), torch.tensor([expected]))
    torch.testing.assert_close(bce(p, q), torch.tensor(sum(expected) / 2))


def test_probabilities_above_one_are_clamped_first() -> None:
    p = torch.tensor([[1.7, 1.0, 0.0, -0.0]], requires_grad=True)
    loss = bce(p, torch.tensor([[0.0, 1.0, 1.0, 0.0]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(p.grad).all()
    # 1 - 1e-7 is 1 - 2^-23 in float32, hence the width of this interval.
    assert -2 * math.log(1.3e-7) / 4 < loss.item() < -2 * math.log(0.9e-7) / 4


def test_what_is_no_number_is_passed_on_and_changes_no_other_cell() -> None:
    p, target = torch.tensor([[0.3, 0.9]], requires_grad=True), torch.tensor([[1.0, 0.0]])
    expected = bce_cells(p, target)
    torch.testing.assert_close(
        expected, F.binary_cross_entropy(p, target, reduction="none"), rtol=0, atol=0
    )
    broken = torch.tensor([[0.3, torch.nan]])
    assert torch.isnan(bce(broken, target))
    cells = bce_cells(broken, target)
    assert cells[0, 0] == expected[0, 0]
    assert torch.isnan(cells[0, 1])


def test_parsing_loss_weighs_its_three_parts() -> None:
    torch.manual_seed(0)
    clips = torch.rand(3, 2, 4)
    stream = torch.zeros(2, 5, 3)
    out = Parsing(torch.rand(2, 5, 2, 4), *clips, stream, stream, stream, stream)
    targets = (torch.rand(3, 2, 4) > 0.5).float()
    parts = [bce(p, q) for p, q in zip(clips, targets, strict=True)]
    torch.testing.assert_close(parsing_loss(out, *targets), sum(parts))
    weighted = 2 * parts[0] + 0.5 * parts[1] + parts[2]
    torch.testing.assert_close(parsing_loss(out, *targets, weights=(2.0, 0.5, 1.0)), weighted)


def test_contrastive_forms_by_hand() -> None:
    torch.manual_seed(0)
    audio, before, after = torch.randn(3, 2, 4, 6)
    out = _out(audio, before, after)
    for form, visual in (("ma", before), ("jomold", after)):
        total = 0.0
        for b in range(2):
            for i in range(4):
                cosine = torch.cosine_similarity(audio[b, i][None], visual[b], dim=1)
                q = (cosine / 0.2).softmax(0)
                t = torch.full((4,), 0.1 / 3)
                t[i] = 0.9
                total += -(t * q.log()).sum() if form == "ma" else -(t * q).sum().log()
        torch.testing.assert_close(contrastive(out, form), total / 8)
    assert contrastive(out, "none") == 0


def test_contrastive_floor_and_order_of_the_forms() -> None:
    # Cosine 1 on the diagonal and -1 off it: two segments pointing apart, seen ten at a time.
    logits = torch.full((10, 10), -5.0).fill_diagonal_(5.0)
    q = logits.softmax(-1)
    t = torch.full((10, 10), 0.1 / 9).fill_diagonal_(0.9)
    assert -(t * q).sum(-1).log().mean().item() == pytest.approx(0.1058, abs=1e-4)
    apart = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    reached = contrastive(_out(apart, apart, apart), "jomold").item()
    assert -math.log(0.9) < reached < 0.1055
    torch.manual_seed(0)
    for _ in range(50):
        audio, visual = torch.randn(2, 3, 10, 8) * torch.rand(1) * 3
        out = _out(audio, visual, visual)
        assert contrastive(out, "jomold") <= contrastive(out, "ma") + 1e-6


def test_only_the_jomold_form_sends_gradient_into_the_visual_output() -> None:
    torch.manual_seed(0)
    streams = [torch.randn(2, 10, 6, requires_grad=True) for _ in range(3)]
    audio, before, after = streams
    contrastive(_out(*streams), "ma").backward()
    assert after.grad is None
    assert before.grad.abs().sum() > 0
    assert audio.grad.abs().sum() > 0
    before.grad = None
    contrastive(_out(*streams), "jomold").backward()
    assert before.grad is None
    assert after.grad.abs().sum() > 0


def test_one_segment_has_no_negatives_and_no_gradient() -> None:
    audio = torch.randn(2, 1, 4, requires_grad=True)
    for form in ("ma", "jomold"):
        loss = contrastive(_out(audio, audio, audio), form)
        assert torch.isfinite(loss)
