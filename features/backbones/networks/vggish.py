"""VGGish (Hershey et al. 2017, "CNN architectures for large-scale audio classification").

Layers and their order are configuration A of VGG without its last group of convolutions. Parameter
names are those of the checkpoint that harritaylor/torchvggish converted from TensorFlow.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["VGGishNetwork"]

GROUPS = ((64,), (128,), (256, 256), (512, 512))
"""Channels of the convolutions before each of the four poolings."""


class VGGishNetwork(nn.Module):
    """From log-Mel patches to embeddings.

    Args:
        activation: Whether a ReLU follows the last layer.
    """

    def __init__(self, *, activation: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for group in GROUPS:
            for width in group:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        head: list[nn.Module] = [
            nn.Linear(channels * 6 * 4, 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 128),
        ]
        self.embeddings = nn.Sequential(*head, *([nn.ReLU()] if activation else []))

    def forward(self, patches: Tensor) -> Tensor:
        """Embeds patches.

        Args:
            patches: (N, 96, 64) log-Mel frames and bands.

        Returns:
            (N, 128).
        """
        maps = self.features(patches.unsqueeze(1))  # (N, 512, 6, 4)
        # The first linear layer was trained on TensorFlow's order, channels last.
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))  # (N, 128)
