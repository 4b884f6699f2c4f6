"""R(2+1)D-18: one clip of frames a segment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from features.backbones import Clip, WeightChoice
from features.backbones.video import R2Plus1D18

RANDOM = WeightChoice(seed=0)


def test_every_segment_is_a_clip_of_torchvisions_network(frames):
    backbone = R2Plus1D18(weights=RANDOM, frames=2)
    pictures = [backbone.prepare(frame) for frame in frames[:4]]
    x = backbone.compute(Clip(2, frames=pictures))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.video.r2plus1d_18().eval()
    network.fc = torch.nn.Identity()
    transforms = torchvision.models.video.R2Plus1D_18_Weights.KINETICS400_V1.transforms()
    with torch.inference_mode():
        for segment in range(2):
            clip = np.stack(frames[2 * segment : 2 * segment + 2])
            inputs = transforms(torch.from_numpy(clip).permute(0, 3, 1, 2))
            np.testing.assert_allclose(x[segment], network(inputs[None])[0], rtol=1e-3, atol=1e-5)


def test_eight_frames_are_spread_over_a_window():
    backbone = R2Plus1D18(weights=RANDOM, windows=10)
    times = backbone.grid.frame_times(0.0, 10.0)
    assert times.shape == (10, 8)
    np.testing.assert_allclose(times[0], (np.arange(8) + 0.5) / 4)
    np.testing.assert_allclose(times[-1], 8 + (np.arange(8) + 0.5) / 4)


def test_a_segment_has_a_frame():
    with pytest.raises(ValueError, match="at least 1"):
        R2Plus1D18(frames=0)
