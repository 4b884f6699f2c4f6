"""What each class of the rendered corpus looks like: painted in layers on a small moving canvas.

A look is drawn for all its frames at once. Its coordinates are in units of its size, turned and
mirrored with it: u to the right and v downwards, the shape within about -1 to 1.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["DISTRACTORS", "LOOKS", "Brush", "Look", "Motion"]


@dataclass
class Brush:
    """A canvas of several frames that shapes are painted on, later ones over earlier ones.

    Args:
        u, v: Coordinates of its pixels, each (F, P, P) float32.
        time: Seconds of its frames (F,).
        radius: Pixels to a unit, which sets how soft an edge is.
    """

    u: np.ndarray
    v: np.ndarray
    time: np.ndarray
    radius: float

    def __post_init__(self) -> None:
        self.alpha = np.zeros_like(self.u)
        # One plane a channel: arithmetic over a last axis of three is many times slower.
        self.colour = np.zeros((3, *self.u.shape), dtype=np.float32)

    def paint(self, distance: np.ndarray, colour: np.ndarray, *, opacity: float = 1.0) -> None:
        """Paints where a signed distance (in units) is negative.

        Args:
            distance: Broadcasts to (F, P, P).
            colour: RGB 0 to 255, (3,), or (F, 1, 1, 3) where it changes.
            opacity: 0 to 1.
        """
        cover = (0.5 - distance * np.float32(self.radius)).clip(0, np.float32(opacity))
        for channel, plane in enumerate(self.colour):
            plane += cover * (colour[..., channel] - plane)
        self.alpha += cover * (1 - self.alpha)

    def ellipse(self, x: float, y: float, a: float, b: float) -> np.ndarray:
        """About the distance to an ellipse around (x, y) with half axes a and b.

        Any argument may be a column over frames (F, 1, 1).
        """
        across, down = (self.u - x) / a, (self.v - y) / b
        # Several times faster than hypot, whose care for huge numbers is not needed here.
        return (np.sqrt(across * across + down * down) - 1) * np.minimum(a, b)

    def box(self, x: float, y: float, a: float, b: float) -> np.ndarray:
        """The distance to a box around (x, y) with half sides a and b."""
        return np.maximum(np.abs(self.u - x) - a, np.abs(self.v - y) - b)

    def stripes(self, turn: float, period: float, share: float = 0.5) -> np.ndarray:
        """About the distance to stripes; ``share`` of each period is inside."""
        across = (self.u * np.cos(turn) + self.v * np.sin(turn)).astype(np.float32)
        return (np.abs((across / period) % 1.0 - 0.5) - share / 2) * period

    def column(self, values: np.ndarray) -> np.ndarray:
        """Values over frames (F,) as they broadcast over pixels, (F, 1, 1)."""
        return values.astype(np.float32)[:, None, None]


@dataclass(frozen=True)
class Motion:
    """How a look moves, all in numbers drawn once.

    Attributes:
        drift: Pixels a second, to and fro across the frame, (y, x).
        sway: Pixels to and fro around that, (y, x).
        pace: Sways a second.
        hop: Pixels of hopping, a parabola ``pace`` times a second.
        rock: Radians of turning to and fro with the sway.
        spin: Radians a second of turning on.
        shake: Pixels of trembling.
    """

    drift: tuple[float, float] = (0.0, 0.0)
    sway: tuple[float, float] = (0.0, 0.0)
    pace: float = 1.0
    hop: float = 0.0
    rock: float = 0.0
    spin: float = 0.0
    shake: float = 0.0


Painter = Callable[[Brush], None]


@dataclass(frozen=True)
class Look:
    """What is painted and how it moves."""

    paint: Painter
    motion: Motion
    upright: bool = True


def _rgb(
    rng: np.random.Generator,
    hue: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> np.ndarray:
    """A colour drawn from ranges of hue, saturation and value, (3,) float32 0 to 255."""
    drawn = (rng.uniform(*bounds) for bounds in (hue, saturation, value))
    h, s, v = drawn
    return np.array(colorsys.hsv_to_rgb(h % 1.0, s, v), dtype=np.float32) * 255


def _grey(level: float) -> np.ndarray:
    return np.full(3, level, dtype=np.float32)


def _speech(rng: np.random.Generator) -> Look:
    """A face whose mouth opens and shuts."""
    skin = _rgb(rng, (0.02, 0.11), (0.2, 0.75), (0.3, 0.98))
    hair = _rgb(rng, (0.0, 0.15), (0.1, 0.8), (0.08, 0.5))
    shirt = _rgb(rng, (0.0, 1.0), (0.2, 0.8), (0.2, 0.8))
    pace, phase = rng.uniform(2.5, 4.5), rng.uniform(0, 6)

    def paint(brush: Brush) -> None:
        brush.paint(brush.box(0, 0.95, 0.6, 0.22), shirt)
        brush.paint(brush.ellipse(0, -0.15, 0.68, 0.85), hair)
        brush.paint(brush.ellipse(0, 0.0, 0.58, 0.75), skin)
        for side in (-0.24, 0.24):
            brush.paint(brush.ellipse(side, -0.12, 0.11, 0.08), _grey(25))
        opening = 0.05 + 0.16 * np.abs(np.sin(np.pi * pace * brush.time + phase))
        brush.paint(brush.ellipse(0, 0.38, 0.26, brush.column(opening)), skin * 0.25)

    return Look(paint, Motion(sway=(1.5, 3.0), pace=rng.uniform(0.3, 0.8), rock=0.08))


def _car(rng: np.random.Generator) -> Look:
    """A side view that drives across."""
    body = _rgb(rng, (0.0, 1.0), (0.3, 1.0), (0.35, 0.95))
    glass = _rgb(rng, (0.5, 0.6), (0.1, 0.4), (0.6, 0.95))

    def paint(brush: Brush) -> None:
        brush.paint(brush.ellipse(-0.05, -0.1, 0.55, 0.42), body)
        brush.paint(brush.box(0, 0.12, 0.97, 0.26), body)
        brush.paint(np.maximum(brush.ellipse(-0.05, -0.1, 0.42, 0.3), brush.v + 0.12), glass)
        brush.paint(brush.box(0, 0.1, 0.97, 0.02), body * 0.5)
        for side in (-0.55, 0.55):
            brush.paint(brush.ellipse(side, 0.4, 0.24, 0.24), _grey(20))
            brush.paint(brush.ellipse(side, 0.4, 0.1, 0.1), _grey(190))

    return Look(paint, Motion(drift=(0.0, rng.uniform(22, 45)), shake=0.4))


def _dog(rng: np.random.Generator) -> Look:
    """A spotted animal that hops about."""
    fur = _rgb(rng, (0.0, 0.15), (0.0, 0.7), (0.25, 0.98))
    patch = fur * rng.uniform(0.3, 0.6)
    spots = rng.uniform(-0.6, 0.4, (5, 2))

    def paint(brush: Brush) -> None:
        for leg in (-0.6, -0.35, 0.15, 0.4):
            brush.paint(brush.box(leg, 0.62, 0.08, 0.3), fur * 0.8)
        wag = brush.column(0.15 * np.sin(2 * np.pi * 3 * brush.time))
        brush.paint(brush.ellipse(-0.85, -0.2 + wag, 0.1, 0.3), fur)
        body = brush.ellipse(-0.1, 0.15, 0.7, 0.38)
        brush.paint(body, fur)
        for x, y in spots:
            brush.paint(np.maximum(body, brush.ellipse(x, 0.15 + y / 2, 0.14, 0.12)), patch)
        brush.paint(brush.ellipse(0.55, -0.3, 0.34, 0.3), fur)
        brush.paint(brush.ellipse(0.82, -0.2, 0.16, 0.13), patch)
        brush.paint(brush.ellipse(0.38, -0.42, 0.11, 0.28), patch)
        brush.paint(brush.ellipse(0.6, -0.38, 0.06, 0.06), _grey(10))

    motion = Motion(
        drift=(0.0, rng.uniform(8, 20)), hop=rng.uniform(5, 9), pace=rng.uniform(1.5, 3)
    )
    return Look(paint, motion)


def _basketball(rng: np.random.Generator) -> Look:
    """A seamed ball that bounces and spins."""
    ball = _rgb(rng, (-0.02, 0.16), (0.5, 1.0), (0.45, 0.98))
    seam = _grey(25)

    def paint(brush: Brush) -> None:
        disc = brush.ellipse(0, 0, 0.75, 0.75)
        brush.paint(disc, ball)
        for seam_at in (np.abs(brush.u) - 0.05, np.abs(brush.v) - 0.05):
            brush.paint(np.maximum(disc, seam_at), seam)
        for side in (-0.95, 0.95):
            arc = np.abs(brush.ellipse(side, 0, 0.6, 0.6)) - 0.05
            brush.paint(np.maximum(disc, arc), seam)

    motion = Motion(
        drift=(0.0, rng.uniform(0, 12)),
        hop=rng.uniform(16, 30),
        pace=rng.uniform(1.2, 2.2),
        spin=rng.uniform(1.0, 4.0),
    )
    return Look(paint, motion, upright=False)


def _fire_alarm(rng: np.random.Generator) -> Look:
    """A box on the wall with a slotted grille and a light that flashes."""
    box = _rgb(rng, (0.92, 1.12), (0.2, 1.0), (0.4, 0.98))
    pace, phase = rng.uniform(1.5, 3.5), rng.random()

    def paint(brush: Brush) -> None:
        case = brush.box(0, 0, 0.75, 0.85)
        brush.paint(case, box)
        brush.paint(
            np.maximum(brush.box(0, 0.4, 0.55, 0.3), brush.stripes(np.pi / 2, 0.2)), box / 4
        )
        lit = brush.column((brush.time * pace + phase) % 1.0 < 0.35)[..., None]
        lamp = _grey(90) + lit * _grey(165)
        brush.paint(brush.ellipse(0, -0.35, 0.36 + 0.2 * lit[..., 0], 0.36), lamp)

    return Look(paint, Motion())


def _cello(rng: np.random.Generator) -> Look:
    """An upright body of wood under a bow that saws."""
    wood = _rgb(rng, (0.0, 0.11), (0.4, 0.95), (0.25, 0.8))
    pace, phase = rng.uniform(0.5, 1.2), rng.uniform(0, 6)

    def paint(brush: Brush) -> None:
        brush.paint(brush.box(0, -0.5, 0.06, 0.5), wood * 0.4)
        brush.paint(brush.ellipse(0, 0.55, 0.48, 0.42), wood)
        brush.paint(brush.ellipse(0, -0.05, 0.36, 0.32), wood)
        brush.paint(brush.box(0, 0.25, 0.24, 0.2), wood)
        brush.paint(brush.box(0, 0.1, 0.05, 0.75), wood * 0.25)
        for side in (-0.2, 0.2):
            brush.paint(brush.box(side, 0.32, 0.03, 0.13), wood * 0.3)
        reach = brush.column(0.45 * np.sin(2 * np.pi * pace * brush.time + phase))
        brush.paint(brush.box(reach, 0.28, 0.62, 0.045), _grey(235))

    return Look(paint, Motion(sway=(0.5, 1.5), pace=pace / 2, rock=rng.uniform(0.02, 0.1)))


def _rooster(rng: np.random.Generator) -> Look:
    """A plumed bird that pecks."""
    plume = _rgb(rng, (0.0, 0.15), (0.0, 0.8), (0.3, 1.0))
    tail = _rgb(rng, (0.3, 0.6), (0.3, 0.9), (0.15, 0.5))
    comb = _rgb(rng, (0.97, 1.02), (0.8, 1.0), (0.7, 0.95))

    def paint(brush: Brush) -> None:
        for angle in (-0.9, -0.7, -0.5):
            brush.paint(brush.ellipse(angle, angle * 0.35 - 0.2, 0.13, 0.45), tail)
        for leg in (-0.1, 0.15):
            brush.paint(brush.box(leg, 0.75, 0.04, 0.22), _grey(200) * [1, 0.75, 0.1])
        brush.paint(brush.ellipse(-0.05, 0.2, 0.6, 0.42), plume)
        brush.paint(np.maximum(brush.ellipse(-0.1, 0.2, 0.4, 0.25), brush.stripes(0.8, 0.16)), tail)
        brush.paint(brush.ellipse(0.42, -0.3, 0.22, 0.4), plume)
        for x in (0.3, 0.45, 0.6):
            brush.paint(brush.ellipse(x, -0.7, 0.1, 0.16), comb)
        brush.paint(brush.ellipse(0.55, -0.1, 0.08, 0.16), comb)
        brush.paint(brush.ellipse(0.72, -0.35, 0.18, 0.07), _grey(240) * [1, 0.8, 0.2])
        brush.paint(brush.ellipse(0.47, -0.42, 0.05, 0.05), _grey(10))

    return Look(paint, Motion(pace=rng.uniform(0.8, 1.6), rock=0.4, sway=(2.0, 2.0)))


def _motorcycle(rng: np.random.Generator) -> Look:
    """Two spoked wheels that turn under a frame that trembles."""
    paintwork = _rgb(rng, (0.0, 1.0), (0.4, 1.0), (0.3, 0.9))
    turn = rng.uniform(4, 9)

    def paint(brush: Brush) -> None:
        for side in (-0.58, 0.58):
            angle = brush.column(turn * brush.time)
            x, y = brush.u - side, brush.v - 0.35
            spoke = np.abs(x * np.sin(angle) + y * np.cos(angle)) - 0.05
            rim = np.hypot(x, y)
            brush.paint(np.maximum(spoke, rim - 0.36), _grey(170))
            brush.paint(np.abs(rim - 0.36) - 0.09, _grey(25))
        brush.paint(brush.box(0, 0.15, 0.5, 0.12), _grey(110))
        brush.paint(brush.ellipse(0.1, -0.1, 0.36, 0.2), paintwork)
        brush.paint(brush.ellipse(-0.42, -0.12, 0.34, 0.1), _grey(30))
        brush.paint(brush.box(0.5, -0.3, 0.05, 0.3), _grey(150))

    return Look(paint, Motion(drift=(0.0, rng.uniform(5, 25)), shake=1.3))


def _guitar(rng: np.random.Generator) -> Look:
    """A bright waisted body with a long neck, and a hand that strums."""
    wood = _rgb(rng, (0.02, 0.15), (0.3, 0.95), (0.4, 1.0))
    skin = _rgb(rng, (0.03, 0.09), (0.25, 0.6), (0.5, 0.95))
    pace, phase = rng.uniform(1.5, 3.0), rng.uniform(0, 6)

    def paint(brush: Brush) -> None:
        brush.paint(brush.box(0.5, 0, 0.48, 0.07), wood * 0.35)
        brush.paint(brush.ellipse(-0.5, 0, 0.42, 0.48), wood)
        brush.paint(brush.ellipse(-0.02, 0, 0.32, 0.34), wood)
        brush.paint(brush.ellipse(-0.12, 0, 0.18, 0.18), wood * 0.15)
        strings = np.maximum(brush.box(0.05, 0, 0.9, 0.06), brush.stripes(np.pi / 2, 0.06, 0.4))
        brush.paint(strings, _grey(220), opacity=0.8)
        reach = brush.column(0.28 * np.sin(2 * np.pi * pace * brush.time + phase))
        brush.paint(brush.ellipse(-0.25, reach, 0.16, 0.13), skin)

    tilt = Motion(sway=(1.0, 1.0), pace=rng.uniform(0.3, 0.8), rock=rng.uniform(0.1, 0.25))
    return Look(paint, tilt)


def _telephone(rng: np.random.Generator) -> Look:
    """A set with a dial and a handset on top, shaken by its bell."""
    case = _rgb(rng, (0.0, 1.0), (0.0, 0.8), (0.1, 0.75))
    ring = _grey(rng.uniform(200, 250))

    def paint(brush: Brush) -> None:
        base = np.maximum(np.abs(brush.v - 0.3) - 0.42, np.abs(brush.u) - 0.45 - 0.45 * brush.v)
        brush.paint(base, case)
        brush.paint(brush.ellipse(0, 0.3, 0.36, 0.34), ring)
        angle = np.arctan2(brush.v - 0.3, brush.u)
        radius = np.hypot(brush.u, brush.v - 0.3)
        holes = np.hypot(radius - 0.25, 0.25 * (angle % (np.pi / 4) - np.pi / 8)) - 0.055
        brush.paint(holes, case)
        brush.paint(brush.ellipse(0, 0.3, 0.1, 0.1), case * 1.5)
        brush.paint(brush.ellipse(0, -0.42, 0.78, 0.16), case * 0.7)
        for side in (-0.65, 0.65):
            brush.paint(brush.ellipse(side, -0.3, 0.2, 0.22), case * 0.7)

    return Look(paint, Motion(shake=2.0))


def _star(rng: np.random.Generator) -> Look:
    """A star or flower, striped or not: belongs to no class."""
    colour = _borrowed(rng)
    points, depth = int(rng.integers(3, 8)), rng.uniform(0.1, 0.35)
    striped, turn, period = rng.random() < 0.5, rng.uniform(0, np.pi), rng.uniform(0.15, 0.5)

    def paint(brush: Brush) -> None:
        angle = np.arctan2(brush.v, brush.u)
        shape = np.hypot(brush.u, brush.v) - 0.65 * (1 + depth * np.cos(points * angle))
        brush.paint(shape, colour)
        if striped:
            brush.paint(np.maximum(shape, brush.stripes(turn, period)), colour * 0.4)

    return Look(paint, _wandering(rng), upright=False)


def _block(rng: np.random.Generator) -> Look:
    """A box or disc, checked or not: belongs to no class."""
    colour, other = _borrowed(rng), _borrowed(rng)
    round_, checked = rng.random() < 0.4, rng.random() < 0.5
    sides, turn, period = rng.uniform(0.35, 0.9, 2), rng.uniform(0, np.pi), rng.uniform(0.2, 0.6)

    def paint(brush: Brush) -> None:
        shape = (brush.ellipse if round_ else brush.box)(0, 0, *sides)
        brush.paint(shape, colour)
        if checked:
            one, two = brush.stripes(turn, period), brush.stripes(turn + np.pi / 2, period)
            check = np.maximum(np.minimum(one, two), -np.maximum(one, two))
            brush.paint(np.maximum(shape, check), other)

    return Look(paint, _wandering(rng), upright=False)


def _borrowed(rng: np.random.Generator) -> np.ndarray:
    """A colour such as some class has, so that colour alone does not tell what is seen."""
    return _rgb(rng, *_PALETTES[rng.integers(len(_PALETTES))])


def _wandering(rng: np.random.Generator) -> Motion:
    """Any way of moving."""
    return Motion(
        drift=tuple(rng.uniform(0, 25, 2) * (rng.random(2) < 0.5)),
        sway=tuple(rng.uniform(0, 8, 2)),
        pace=rng.uniform(0.3, 2.5),
        hop=rng.uniform(0, 12) * (rng.random() < 0.3),
        rock=rng.uniform(0, 0.4),
        spin=rng.uniform(0, 3) * (rng.random() < 0.3),
        shake=rng.uniform(0, 1.5) * (rng.random() < 0.3),
    )


_PALETTES = (
    ((0.03, 0.10), (0.25, 0.65), (0.45, 0.95)),  # skin, fur
    ((0.03, 0.09), (0.6, 1.0), (0.3, 0.98)),  # ball, wood
    ((0.08, 0.14), (0.4, 0.85), (0.6, 1.0)),  # bright wood, plumes
    ((0.96, 1.03), (0.6, 1.0), (0.5, 0.95)),  # alarm, comb
    ((0.0, 1.0), (0.0, 0.6), (0.05, 0.35)),  # telephone, tyres
    ((0.0, 1.0), (0.3, 1.0), (0.3, 0.95)),  # paintwork
)

LOOKS: tuple[Callable[[np.random.Generator], Look], ...] = (
    _speech,
    _car,
    _dog,
    _basketball,
    _fire_alarm,
    _cello,
    _rooster,
    _motorcycle,
    _guitar,
    _telephone,
)
"""In the order of the class file."""
DISTRACTORS = (_star, _block)
