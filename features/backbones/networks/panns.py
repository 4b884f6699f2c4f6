"""PANNs ResNet22 (Kong et al. 2020, "PANNs: large-scale pretrained audio neural networks").

A ResNet-18 of basic blocks over the log-Mel spectrogram, with a pair of convolutions before and
after it. Where a group of blocks shrinks its maps, both paths average 2 x 2 cells instead of
skipping them. Parameter names are those of qiuqiangkong/audioset_tagging_cnn, whose front end
(``spectrogram_extractor``, ``logmel_extractor``) is `pipeline.mel.PANNS` here.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ResNet22"]

BANDS = 64
WIDTH = 2048
GROUPS = (64, 64, 128, 256, 512)
"""Channels before, and after each of, the four groups of two blocks."""


def _conv(before: int, after: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, padding=size // 2, bias=False)


class ConvPair(nn.Module):
    """Two 3 x 3 convolutions, each with batch normalisation and ReLU."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(before, after, 3), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = _conv(after, after, 3), nn.BatchNorm2d(after)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, before, h, w) to (N, after, h, w)."""
        maps = F.relu(self.bn1(self.conv1(maps)))
        return F.relu(self.bn2(self.conv2(maps)))


class Block(nn.Module):
    """A basic residual block.

    Args:
        before, after: Channels.
        shrink: Whether height and width are halved, by averaging.
    """

    def __init__(self, before: int, after: int, *, shrink: bool) -> None:
        super().__init__()
        self.shrink = nn.AvgPool2d(2) if shrink else nn.Identity()
        self.conv1, self.bn1 = _conv(before, after, 3), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = _conv(after, after, 3), nn.BatchNorm2d(after)
        # The pooling stands inside so that the parameters have the published numbers, 1 and 2.
        shortcut = (nn.AvgPool2d(2), _conv(before, after, 1), nn.BatchNorm2d(after))
        self.downsample = nn.Sequential(*shortcut) if shrink else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """(N, before, h, w) to (N, after, h, w) or (N, after, h // 2, w // 2)."""
        inner = F.relu(self.bn1(self.conv1(self.shrink(maps))))
        return F.relu(self.bn2(self.conv2(inner)) + self.downsample(maps))


class ResNet22(nn.Module):
    """From log-Mel spectrograms to embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(BANDS)
        self.conv_block1 = ConvPair(1, GROUPS[0])
        self.resnet = nn.Sequential()
        for n, (before, after) in enumerate(pairwise(GROUPS), start=1):
            blocks = Block(before, after, shrink=n > 1), Block(after, after, shrink=False)
            self.resnet.add_module(f"layer{n}", nn.Sequential(*blocks))
        self.conv_block_after1 = ConvPair(GROUPS[-1], WIDTH)
        self.fc1 = nn.Linear(WIDTH, WIDTH)

    def forward(self, patches: Tensor) -> Tensor:
        """Embeds spectrograms.

        Args:
            patches: (N, frames, 64) log-Mel frames and bands; at least 32 frames.

        Returns:
            (N, 2048), not negative.
        """
        # Every band has its own mean and variance: bands stand where bn0 expects channels.
        maps = self.bn0(patches.transpose(1, 2).unsqueeze(2))  # (N, 64, 1, frames)
        maps = maps.permute(0, 2, 3, 1)  # (N, 1, frames, 64)
        maps = F.avg_pool2d(self.conv_block1(maps), 2)  # (N, 64, frames / 2, 32)
        maps = F.avg_pool2d(self.resnet(maps), 2)  # (N, 512, frames / 32, 2)
        frames = self.conv_block_after1(maps).mean(3)  # (N, 2048, frames / 32)
        return F.relu(self.fc1(frames.amax(2) + frames.mean(2)))  # (N, 2048)
