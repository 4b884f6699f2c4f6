"""What trained parsing methods share: the network's shape, prediction."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from tests.parsing import make_view
from trainers.avvp.interface import Inputs
from trainers.avvp.networks.han import HAN
from trainers.avvp.training import NetPredictor, NetworkHyperparameters


def test_heads_share_the_width() -> None:
    with pytest.raises(UserError, match="--width 10 cannot be split among --heads 4"):
        NetworkHyperparameters(width=10, heads=4)


def _predictor(view_inputs: Inputs, **options: object) -> NetPredictor:
    torch.manual_seed(0)
    net = HAN(view_inputs.widths, 5, width=16, cls_dropout=0.5)
    return NetPredictor(net, **options)


def test_prediction_is_that_of_the_network_in_eval_mode() -> None:
    inputs = make_view(n=7).inputs
    predictor = _predictor(inputs, batch_size=3)
    predictor.net.train()
    prediction = predictor.predict(inputs)
    assert predictor.net.training
    out = predictor.net.eval()(inputs)
    np.testing.assert_allclose(prediction.audio, out.p[:, :, 0].detach(), atol=1e-6)
    np.testing.assert_allclose(prediction.visual, out.p[:, :, 1].detach(), atol=1e-6)
    np.testing.assert_allclose(prediction.audio_clip, out.audio_clip.detach(), atol=1e-6)
    np.testing.assert_allclose(prediction.visual_clip, out.visual_clip.detach(), atol=1e-6)
    np.testing.assert_allclose(prediction.clip, out.clip.detach().clamp(max=1), atol=1e-6)
    assert not predictor.net.training


def test_prediction_of_a_clip_never_exceeds_one() -> None:
    inputs = make_view(n=4).inputs
    predictor = _predictor(inputs)
    with torch.no_grad():
        predictor.net.fc_prob.bias.fill_(20)
        for head in (predictor.net.fc_frame_att, predictor.net.fc_av_att):
            head.weight.mul_(60)
    assert predictor.net.eval()(inputs).clip.max() > 1
    assert predictor.predict(inputs).clip.max() <= 1


def test_options_reach_the_network() -> None:
    inputs = make_view(n=4).inputs
    with_ca, without = _predictor(inputs), _predictor(inputs, with_ca=False)
    one, two = with_ca.predict(inputs), without.predict(inputs)
    assert not np.array_equal(one.audio, two.audio)
    expected = without.net.eval()(inputs, with_ca=False).p[:, :, 0].detach()
    np.testing.assert_allclose(two.audio, expected, atol=1e-6)


def test_no_clips_give_an_empty_prediction() -> None:
    inputs = make_view(n=4).inputs
    prediction = _predictor(inputs).predict(inputs[:0])
    assert prediction.visual.shape == (0, 10, 5)
    assert prediction.clip.shape == (0, 5)
