"""Presets: the features and options that one line of published work goes by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import unknown_name

__all__ = ["PRESETS", "Preset", "preset"]


@dataclass(frozen=True)
class Preset:
    """Features with their options.

    Args:
        name: As in ``--preset NAME``.
        what: One line of what it is for.
        features: Names in the registry of backbones.
        options: Options by feature.
    """

    name: str
    what: str
    features: tuple[str, ...]
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def asked(
        self,
        features: Sequence[str] = (),
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> tuple[list[str], dict[str, dict[str, Any]]]:
        """What `features.requests.make_requests` is to be asked for.

        Args:
            features: Names that are asked for besides.
            options: Options that win over the preset's own, by feature.

        Returns:
            Names, each once, and options by feature.
        """
        merged = {name: dict(values) for name, values in self.options.items()}
        for name, values in (options or {}).items():
            # As written on a command line, frame-rate is the same option as frame_rate.
            plain = {key.replace("-", "_"): value for key, value in values.items()}
            merged.setdefault(name, {}).update(plain)
        return list(dict.fromkeys([*self.features, *features])), merged


_ACTION = {"windows": 10, "window": 2.0}

PRESETS: dict[str, Preset] = {
    entry.name: entry
    for entry in (
        Preset(
            "llp",
            "parsing: VGGish, ResNet-152 at 8 frames a second averaged, R(2+1)D-18; every second",
            ("vggish", "resnet152", "r2plus1d_18"),
            {"resnet152": {"frame_rate": 8}, "r2plus1d_18": {"frames": 8}},
        ),
        Preset(
            "llp-frames",
            "as llp, with every frame's ResNet-152 feature kept as well",
            ("vggish", "resnet152", "resnet152.frames", "r2plus1d_18"),
            {"resnet152": {"frame_rate": 8}, "r2plus1d_18": {"frames": 8}},
        ),
        Preset(
            "llp-clip",
            "parsing: CLIP ViT-B/16 and ViT-L/14 for the picture, CLAP and its map for the sound",
            ("clip_vit_b16", "clip_vit_l14", "clap", "clap.map.pooled"),
            # Lengths as in the features that LSLD released; who wants unit vectors divides.
            {"clip_vit_b16": {"normalise": False}},
        ),
        Preset(
            "action",
            "recognition: R(2+1)D-18 and PANNs on the same ten windows of two seconds",
            ("r2plus1d_18", "panns_resnet22"),
            {"r2plus1d_18": {"frames": 8, **_ACTION}, "panns_resnet22": _ACTION},
        ),
        Preset(
            "xid",
            "small encoders: films of 8 x 80 x 80 at 16 frames a second, log-Mel 80 x 80",
            ("lowres_clips", "logmel_patches"),
            {
                "lowres_clips": {"frames": 8, "rate": 16.0, "size": 80, **_ACTION},
                "logmel_patches": {"front_end": "xid_small", **_ACTION},
            },
        ),
        Preset(
            "xid-large",
            "small encoders: films of 8 x 112 x 112 at 16 frames a second, log-Mel 128 x 128",
            ("lowres_clips", "logmel_patches"),
            {
                "lowres_clips": {"frames": 8, "rate": 16.0, "size": 112, **_ACTION},
                "logmel_patches": {"front_end": "xid_large", **_ACTION},
            },
        ),
    )
}
"""All presets, by name."""


def preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        UserError: If there is none; the nearest names are offered.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
