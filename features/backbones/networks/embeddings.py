"""The parts of transformers' CLIP and CLAP models that compute features."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

__all__ = ["AudioEmbedding", "AudioMap", "ImageEmbedding"]


class ImageEmbedding(torch.nn.Module):
    """CLIP's image tower and projection, (N, 3, 224, 224) to (N, D).

    Args:
        model: A CLIPModel.
        unit: Whether embeddings are brought to length 1.
    """

    def __init__(self, model: Any, *, unit: bool) -> None:
        super().__init__()
        self.vision, self.projection = model.vision_model, model.visual_projection
        self.unit = unit

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        embedding = self.projection(self.vision(pixel_values=pixels).pooler_output)  # (N, D)
        return functional.normalize(embedding.float(), dim=-1) if self.unit else embedding


class AudioMap(torch.nn.Module):
    """CLAP's audio tower up to its last map, (N, frames, bands) to (N, 64, D).

    The 64 places of the map are 2 halves of the spectrum times 32 moments.

    The fusion branch of a fusion model is for sound longer than ten seconds and stays unused, so
    that one copy of the log-Mel is enough: of the four that a fusion model is given, it looks at
    the first.

    Args:
        model: A ClapModel.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.audio = model.audio_model

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        return self.tower(log_mel).last_hidden_state.flatten(2).transpose(1, 2)

    def tower(self, log_mel: torch.Tensor) -> Any:
        """The tower's output for short sound."""
        longer = torch.zeros(len(log_mel), 1, dtype=torch.bool, device=log_mel.device)
        return self.audio(input_features=log_mel[:, None], is_longer=longer)


class AudioEmbedding(torch.nn.Module):
    """CLAP's audio tower and projection, (N, frames, bands) to (N, D) of length 1.

    Args:
        model: A ClapModel.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.map, self.projection = AudioMap(model), model.audio_projection

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        embedding = self.projection(self.map.tower(log_mel).pooler_output)  # (N, D)
        return functional.normalize(embedding.float(), dim=-1)
