"""What is done to a frame, against torchvision's own transforms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from features.backbones.preprocessing import CAFFE, IMAGENET, KINETICS, shrink

SIZES = [(97, 131, 3), (480, 270, 3), (256, 256, 3), (720, 1280, 3), (112, 640, 3)]


def picture(size: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_equals_the_weights_own_transforms(size):
    frame = picture(size)
    tensor = torch.from_numpy(frame).permute(2, 0, 1)
    for weights in (
        torchvision.models.ResNet152_Weights.IMAGENET1K_V1,
        torchvision.models.SqueezeNet1_0_Weights.IMAGENET1K_V1,
    ):
        ours = IMAGENET.normalise(torch.from_numpy(IMAGENET.shrink(frame)))
        assert torch.equal(ours, weights.transforms()(tensor))


@pytest.mark.parametrize("size", SIZES)
def test_a_clip_equals_the_video_weights_own_transforms(size):
    clip = np.stack([picture(size), picture(size)[::-1], picture(size)[:, ::-1]])  # (F, H, W, 3)
    transforms = torchvision.models.video.R2Plus1D_18_Weights.KINETICS400_V1.transforms()
    theirs = transforms(torch.from_numpy(clip).permute(0, 3, 1, 2))  # (3, F, 112, 112)
    ours = np.stack([KINETICS.shrink(frame) for frame in clip])  # (F, 3, 112, 112)
    assert torch.equal(KINETICS.normalise(torch.from_numpy(ours)).transpose(0, 1), theirs)


def test_caffe_is_bgr_minus_the_mean():
    frame = np.zeros((300, 400, 3), dtype=np.uint8)
    frame[...] = (10, 20, 30)
    values = CAFFE.normalise(torch.from_numpy(CAFFE.shrink(frame)))
    assert values.shape == (3, 227, 227)
    assert values[:, 0, 0].tolist() == [30 - 104, 20 - 117, 10 - 123]


def test_shrinking_keeps_the_middle_and_the_shorter_side_whole():
    frame = np.zeros((60, 180, 3), dtype=np.uint8)
    frame[:, 60:120] = 200
    assert (shrink(frame, resize=30, crop=30) == 200).mean() > 0.9
    assert shrink(frame, resize=20, crop=20).shape == (3, 20, 20)
