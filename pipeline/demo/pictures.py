"""The frames of a rendered clip: events and distractors that move over a cluttered background."""

from __future__ import annotations

import numpy as np

from pipeline.demo.looks import DISTRACTORS, LOOKS, Brush, Look, Motion
from pipeline.demo.timelines import SECONDS, Timeline

__all__ = ["FRAME_RATE", "HEIGHT", "WIDTH", "render_frames"]

HEIGHT, WIDTH = 96, 128
"""Pixels of a rendered frame."""
FRAME_RATE = 12
"""Frames a second."""

_FRAMES = SECONDS * FRAME_RATE
_RADIUS = (14.0, 22.0)
"""Pixels from the middle of an event to its rim."""
_PAN = 10
"""Pixels that the background may wander from its middle."""
_CONTRAST = (0.3, 0.7)
"""Contrast of the background."""


def render_frames(timeline: Timeline, rng: np.random.Generator) -> np.ndarray:
    """Renders a clip's frames; frame k is on screen from k / FRAME_RATE seconds on.

    Args:
        timeline: When each event is seen.
        rng: The clip's ``"picture"`` stream.

    Returns:
        (SECONDS * FRAME_RATE, HEIGHT, WIDTH, 3) uint8 RGB.
    """
    frames = _background(rng)
    for own in rng.spawn(int(rng.integers(4, 8))):
        look = DISTRACTORS[own.integers(len(DISTRACTORS))](own)
        first = own.integers(SECONDS)
        seconds = np.arange(SECONDS)
        _draw(frames, look, (seconds >= first) & (seconds < first + own.integers(1, 4)), own)
    # Streams of their own: what one event draws does not change how the next one looks.
    for c, active, own in zip(
        timeline.classes, timeline.visual, rng.spawn(len(timeline.classes)), strict=True
    ):
        if active.any():
            _draw(frames, LOOKS[c](own), active, own)
    return frames


def _background(rng: np.random.Generator) -> np.ndarray:
    """Blurred and sharp clutter under a camera that wanders, (F, H, W, 3) uint8."""
    height, width = HEIGHT + 2 * _PAN, WIDTH + 2 * _PAN
    scene = np.zeros((height, width, 3), dtype=np.float32)
    for cells, strength in ((4, 50.0), (9, 35.0), (24, 20.0), (60, 12.0)):
        coarse = rng.normal(size=(cells, cells, 3)).astype(np.float32)
        # Half of every octave is shared by the channels, or clutter would be confetti.
        coarse = 0.7 * coarse.mean(axis=2, keepdims=True) * 3**0.5 + 0.7 * coarse
        scene += strength * _stretch(coarse, height, width)
    for _ in range(rng.integers(8, 24)):
        y, x = rng.integers(0, height), rng.integers(0, width)
        h, w = rng.integers(3, 30, 2)
        scene[y : y + h, x : x + w] += rng.normal(0, 35, 3) + rng.normal(0, 25)
    scene = rng.uniform(80, 165) + rng.uniform(*_CONTRAST) * scene
    scene = scene.clip(0, 255).astype(np.uint8)
    time = np.arange(_FRAMES) / FRAME_RATE
    pace, phase = rng.uniform(0.02, 0.12, 2), rng.uniform(0, 2 * np.pi, 2)
    reach = rng.uniform(0, _PAN, 2)
    path = reach[:, None] * np.sin(2 * np.pi * pace[:, None] * time + phase[:, None])
    corner = _PAN + np.round(path).astype(int)  # (2, F)
    return np.stack([scene[y : y + HEIGHT, x : x + WIDTH] for y, x in corner.T])


def _stretch(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Enlarges an image (h, w, 3) by linear interpolation."""
    weights = []
    for old, new in zip(image.shape[:2], (height, width), strict=True):
        position = np.linspace(0, old - 1, new)
        weight = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(old)))
        weights.append(weight.astype(np.float32))
    rows = np.tensordot(weights[0], image, axes=(1, 0))  # (H, w, 3)
    return np.tensordot(rows, weights[1], axes=(1, 1)).transpose(0, 2, 1)


def _draw(frames: np.ndarray, look: Look, active: np.ndarray, rng: np.random.Generator) -> None:
    """Paints a look into the frames of the seconds in which it is seen."""
    shown = np.flatnonzero(np.repeat(active, FRAME_RATE))
    if len(shown) == 0:
        return
    radius = rng.uniform(*_RADIUS)
    middle, angle = _path(look.motion, radius, rng)
    if not look.upright:
        angle = angle + rng.uniform(0, 2 * np.pi)
    middle, angle, time = middle[shown], angle[shown], shown / FRAME_RATE
    mirror = rng.choice((-1.0, 1.0))
    corner = np.floor(middle - 1.2 * radius).astype(int)  # (f, 2)
    side = int(np.ceil(2.4 * radius)) + 1
    pixels = np.arange(side)
    y = ((corner[:, :1] + pixels - middle[:, :1]) / radius).astype(np.float32)[:, :, None]
    x = ((corner[:, 1:] + pixels - middle[:, 1:]) / radius).astype(np.float32)[:, None, :]
    cos, sin = (f(angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    brush = Brush(np.float32(mirror) * (x * cos + y * sin), y * cos - x * sin, time, radius)
    look.paint(brush)
    alpha = brush.alpha[..., None]
    colour = np.moveaxis(brush.colour, 0, -1) * alpha * np.float32(rng.uniform(0.75, 1.15))
    keep = 1 - alpha
    for k, (top, left) in enumerate(corner):
        rows = slice(max(0, -top), min(side, HEIGHT - top))
        columns = slice(max(0, -left), min(side, WIDTH - left))
        place = frames[
            shown[k], top + rows.start : top + rows.stop, left + columns.start : left + columns.stop
        ]
        blend = place * keep[k, rows, columns] + colour[k, rows, columns]
        place[:] = np.minimum(blend, 255)


def _path(motion: Motion, radius: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Where a look is and how it is turned in every frame.

    Returns:
        Its middle (F, 2) as (y, x) in pixels, and its angle (F,) in radians.
    """
    time = np.arange(_FRAMES) / FRAME_RATE
    phase = 2 * np.pi * rng.random()
    beat = motion.pace * time + phase / (2 * np.pi)
    swing = np.sin(2 * np.pi * beat)
    middle = np.empty((_FRAMES, 2))
    for axis, size in enumerate((HEIGHT, WIDTH)):
        low, high = 0.8 * radius, size - 0.8 * radius
        travel = rng.uniform(0, 2 * (high - low)) + motion.drift[axis] * time
        # A look that reaches the edge turns back.
        middle[:, axis] = low + np.abs((travel % (2 * (high - low))) - (high - low))
        middle[:, axis] += motion.sway[axis] * swing
    middle += motion.shake * rng.normal(size=(_FRAMES, 2))
    fraction = beat % 1.0
    middle[:, 0] += motion.hop * (0.5 - 4 * fraction * (1 - fraction))
    middle[:, 0] = middle[:, 0].clip(0.3 * radius, HEIGHT - 0.3 * radius)
    middle[:, 1] = middle[:, 1].clip(0.3 * radius, WIDTH - 0.3 * radius)
    return middle, motion.rock * swing + motion.spin * time
