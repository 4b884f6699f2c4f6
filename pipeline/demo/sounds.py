"""What each class of the rendered corpus sounds like, over what background.

Every sound is a source (a pulse train, chirps, noise) through resonances (timbre) under an
envelope (rhythm). Pitch, pace and resonances vary from clip to clip, so that classes overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pipeline.demo.timelines import SECONDS, Timeline

__all__ = ["SOUNDS", "SOUND_RATE", "render_sound"]

SOUND_RATE = 16_000
"""Samples a second of a rendered clip, mono."""

_SAMPLES = SECONDS * SOUND_RATE
_TIME = np.arange(_SAMPLES, dtype=np.float32) / np.float32(SOUND_RATE)
_FREQUENCY = np.fft.rfftfreq(_SAMPLES, 1 / SOUND_RATE).astype(np.float32)
_OCTAVE = np.log2(np.maximum(_FREQUENCY, np.float32(20)))

_EVENT_DB = (-8.0, 0.0)
_NOISE_DB = (-26.0, -14.0)
_DISTRACTOR_DB = (-3.0, 5.0)
_COLOUR_DB = 4.0
"""How far the microphone lifts or dims a range of frequencies."""
_RAMP = 0.03
"""Seconds in which an event fades in and out, inside its own second."""
_PEAK = 0.9

Resonance = tuple[float, float, float]
"""Centre in Hz, width in octaves, gain."""


def render_sound(timeline: Timeline, rng: np.random.Generator) -> np.ndarray:
    """Renders a clip's sound.

    Args:
        timeline: When each event is heard.
        rng: The clip's ``"sound"`` stream.

    Returns:
        (SECONDS * SOUND_RATE,) float32 within -0.9 to 0.9.
    """
    mix = _background(rng)
    # Streams of their own: what one event draws does not change how the next one sounds.
    for c, active, own in zip(
        timeline.classes, timeline.audio, rng.spawn(len(timeline.classes)), strict=True
    ):
        if active.any():
            mix += SOUNDS[c](own) * _gate(active) * _decibels(own.uniform(*_EVENT_DB))
    mix = _filter(mix, _microphone(rng))
    # Loudness says nothing of the number of events.
    mix *= _decibels(rng.uniform(-12.0, 0.0)) * np.float32(0.2)
    return (mix / max(1.0, np.abs(mix).max() / _PEAK)).astype(np.float32)


def _background(rng: np.random.Generator) -> np.ndarray:
    """Coloured noise, now and then a hum, and sounds that belong to no class."""
    tilt = rng.uniform(-1.2, 0.2)
    noise = _filter(_noise(rng), _tilt(tilt)) * _decibels(rng.uniform(*_NOISE_DB))
    noise *= 1 + 0.4 * np.sin(2 * np.pi * rng.uniform(0.1, 0.5) * _TIME + rng.uniform(0, 6))
    for _ in range(rng.integers(3, 7)):
        kind = _DISTRACTORS[rng.integers(len(_DISTRACTORS))]
        first = rng.integers(SECONDS)
        seconds = np.arange(SECONDS)
        active = (seconds >= first) & (seconds < first + rng.integers(1, 3))
        noise += kind(rng) * _gate(active) * _decibels(rng.uniform(*_DISTRACTOR_DB))
    return noise


def _microphone(rng: np.random.Generator) -> np.ndarray:
    """The colour that a recording adds: a smooth random gain over the octaves."""
    knots = np.linspace(np.log2(40.0), _OCTAVE[-1], 6)
    level = np.interp(_OCTAVE, knots, rng.normal(0, _COLOUR_DB, len(knots)))
    return (10 ** (level / 20)).astype(np.float32)


def _gate(active: np.ndarray) -> np.ndarray:
    """Turns a timeline (SECONDS,) into a gain (n,) that is 0 outside and fades inside."""
    gain = np.repeat(active.astype(np.float32), SOUND_RATE)
    steps = np.diff(np.concatenate([[0], active.astype(np.int8), [0]]))
    ramp = np.linspace(0, 1, round(_RAMP * SOUND_RATE), dtype=np.float32)
    for second in np.flatnonzero(steps > 0):
        begin = second * SOUND_RATE
        gain[begin : begin + len(ramp)] *= ramp
    for second in np.flatnonzero(steps < 0):
        end = second * SOUND_RATE
        gain[end - len(ramp) : end] *= ramp[::-1]
    return gain


def _decibels(level: float) -> np.float32:
    return np.float32(10 ** (level / 20))


def _unit(wave: np.ndarray) -> np.ndarray:
    """Scales to a root mean square of 1."""
    return (wave / np.sqrt(np.mean(wave**2) + 1e-12)).astype(np.float32)


def _noise(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal(_SAMPLES, dtype=np.float32)


def _filter(wave: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """Applies a gain (n / 2 + 1,) to the spectrum of a wave, at unit loudness."""
    return _unit(np.fft.irfft(np.fft.rfft(wave) * gain, _SAMPLES))


def _tilt(slope: float, corner: float = 100.0) -> np.ndarray:
    """A gain that follows frequency to the power ``slope`` above a corner in Hz."""
    return (np.maximum(_FREQUENCY, corner) / corner) ** np.float32(slope)


def _resonances(*peaks: Resonance) -> np.ndarray:
    """A sum of bells over the logarithm of frequency."""
    gain = np.zeros_like(_OCTAVE)
    for centre, width, height in peaks:
        distance = (_OCTAVE - np.float32(np.log2(centre))) * np.float32(1 / width)
        gain += np.float32(height) * np.exp(np.float32(-0.5) * distance * distance)
    return gain


def _phase(frequency: np.ndarray | float) -> np.ndarray:
    """Turns (n,) of a tone whose frequency in Hz may vary; double precision over ten seconds."""
    steps = np.broadcast_to(np.asarray(frequency, dtype=np.float64), (_SAMPLES,))
    return np.cumsum(steps) / SOUND_RATE


def _saw(frequency: np.ndarray | float) -> np.ndarray:
    """A sawtooth: all harmonics, falling by 6 dB an octave."""
    return (2 * (_phase(frequency) % 1.0) - 1).astype(np.float32)


def _glide(rng: np.random.Generator, low: float, high: float, pace: float) -> np.ndarray:
    """A curve (n,) that wanders between two values, with a new aim every ``1 / pace`` s."""
    knots = int(SECONDS * pace) + 2
    aims = rng.uniform(low, high, knots)
    return np.interp(_TIME, np.arange(knots) / pace, aims).astype(np.float32)


def _onsets(rng: np.random.Generator, pace: float, jitter: float) -> np.ndarray:
    """Times of beats in seconds, ``pace`` a second on average."""
    gaps = rng.uniform(1 - jitter, 1 + jitter, int(SECONDS * pace * 1.5) + 4) / pace
    times = np.cumsum(gaps) - gaps[0] * rng.random()
    return times[times < SECONDS]


def _beats(onsets: np.ndarray, attack: float, decay: float) -> np.ndarray:
    """An envelope (n,) that rises and dies away at every onset; times in seconds."""
    # Before the first beat lies the end of one that began long ago.
    since = _TIME - _hold(onsets, np.concatenate([[-1e3], onsets]))
    return np.minimum(since / np.float32(attack), 1.0) * np.exp(since / np.float32(-decay))


def _held(rng: np.random.Generator, onsets: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """One value (n,) from a choice for every beat."""
    return _hold(onsets, rng.choice(np.asarray(values, dtype=np.float32), len(onsets) + 1))


def _hold(onsets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Holds the first of (K + 1,) values until the first of K onsets, and so on, (n,) float32."""
    starts = np.ceil(onsets * SOUND_RATE).astype(int).clip(0, _SAMPLES)
    lengths = np.diff(np.concatenate([[0], starts, [_SAMPLES]]))
    return np.repeat(values.astype(np.float32), lengths)


def _speech(rng: np.random.Generator) -> np.ndarray:
    """Babble: a gliding voice through changing vowels in syllables, with hisses between."""
    voice = _saw(_glide(rng, 0.85, 1.2, 3.0) * rng.uniform(95, 230))
    size = rng.uniform(0.85, 1.2)
    onsets = _onsets(rng, rng.uniform(3.0, 5.5), 0.5)
    vowels = ((700, 1200), (350, 2100), (450, 900), (550, 1750))
    which = _held(rng, onsets, range(len(vowels)))
    spectrum = np.fft.rfft(voice)
    wave = np.zeros(_SAMPLES, dtype=np.float32)
    for number, (first, second) in enumerate(vowels):
        bells = _resonances((first * size, 0.22, 1.0), (second * size, 0.15, 0.5), (2700, 0.2, 0.2))
        wave += (which == number) * _unit(np.fft.irfft(spectrum * bells, _SAMPLES))
    hiss = _filter(_noise(rng), _resonances((rng.uniform(4000, 6000), 0.3, 1.0)))
    syllables = _beats(onsets, 0.05, 0.16)
    return _unit(wave * syllables + 0.25 * hiss * (which == 2) * _beats(onsets, 0.02, 0.05))


def _car(rng: np.random.Generator) -> np.ndarray:
    """An engine: a low purr that rises and falls, and the rush of tyres."""
    engine = _saw(_glide(rng, 0.7, 1.4, 0.5) * rng.uniform(35, 80))
    body = _filter(engine, _resonances((rng.uniform(110, 250), 0.6, 1.0), (700, 0.5, 0.2)))
    rush = _filter(_noise(rng), _resonances((rng.uniform(400, 1400), 0.8, 1.0)))
    return _unit(body + rng.uniform(0.5, 1.0) * rush * _glide(rng, 0.4, 1.0, 0.7))


def _dog(rng: np.random.Generator) -> np.ndarray:
    """Barks: short hoarse calls whose pitch falls, in irregular beats."""
    onsets = _onsets(rng, rng.uniform(1.8, 3.2), 0.4)
    call = _beats(onsets, 0.015, 0.09)
    voice = _saw(rng.uniform(280, 560) * (0.7 + 0.6 * call))
    wave = voice + rng.uniform(0.4, 0.9) * _noise(rng)
    peaks = ((rng.uniform(600, 1000), 0.4, 1.0), (rng.uniform(1500, 2200), 0.3, 0.5))
    return _unit(_filter(wave, _resonances(*peaks)) * call)


def _basketball(rng: np.random.Generator) -> np.ndarray:
    """Bounces: dull thumps with a slap, in regular beats."""
    onsets = _onsets(rng, rng.uniform(1.6, 3.0), 0.1)
    pitch = rng.uniform(90, 170)
    thump = np.sin(2 * np.pi * _phase(pitch * (1 + _beats(onsets, 0.002, 0.03)))).astype(np.float32)
    slap = _filter(_noise(rng), _resonances((rng.uniform(900, 1800), 0.7, 1.0)))
    return _unit(thump * _beats(onsets, 0.003, 0.07) + 0.5 * slap * _beats(onsets, 0.001, 0.02))


def _fire_alarm(rng: np.random.Generator) -> np.ndarray:
    """A shrill tone switched on and off."""
    pitch, pace = rng.uniform(2300, 3600), rng.uniform(2.0, 4.5)
    tone = np.tanh(3 * np.sin(2 * np.pi * _phase(pitch * (1 + 0.02 * _glide(rng, -1, 1, 2)))))
    on = (_TIME * pace + rng.random()) % 1.0 < rng.uniform(0.5, 0.7)
    return _unit(tone.astype(np.float32) * on)


def _cello(rng: np.random.Generator) -> np.ndarray:
    """Bowed notes: rich harmonics with vibrato and slow swells."""
    onsets = _onsets(rng, rng.uniform(0.8, 2.2), 0.4)
    scale = 2 ** (np.array([0, 2, 4, 5, 7, 9, 12]) / 12)
    pitch = _held(rng, onsets, rng.uniform(70, 150) * scale)
    vibrato = 1 + 0.012 * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * _TIME)
    peaks = ((rng.uniform(200, 300), 0.6, 1.0), (rng.uniform(500, 800), 0.5, 0.7), (2200, 0.6, 0.2))
    return _unit(_filter(_saw(pitch * vibrato), _resonances(*peaks)) * _beats(onsets, 0.12, 1.5))


def _rooster(rng: np.random.Generator) -> np.ndarray:
    """Clucks: quick upward chirps in bright harmonics."""
    onsets = _onsets(rng, rng.uniform(2.5, 5.0), 0.5)
    call = _beats(onsets, 0.03, 0.08)
    pitch = rng.uniform(500, 800) * (1.7 - 0.8 * call)
    peaks = ((rng.uniform(1300, 2000), 0.4, 1.0), (rng.uniform(2800, 3800), 0.3, 0.5))
    return _unit(_filter(_saw(pitch), _resonances(*peaks)) * call)


def _motorcycle(rng: np.random.Generator) -> np.ndarray:
    """Firing cylinders: bursts of noise fast enough to buzz, that speed up and slow down."""
    beat = _phase(_glide(rng, 0.7, 1.5, 0.7) * rng.uniform(18, 45)) % 1.0
    bursts = np.exp(-rng.uniform(2, 5) * beat).astype(np.float32)
    peaks = ((rng.uniform(150, 300), 0.6, 1.0), (rng.uniform(900, 1600), 0.6, 0.5))
    return _unit(_filter(_noise(rng), _resonances(*peaks)) * bursts)


def _guitar(rng: np.random.Generator) -> np.ndarray:
    """Plucked notes: a sharp attack whose upper harmonics die first."""
    onsets = _onsets(rng, rng.uniform(2.5, 5.0), 0.2)
    scale = 2 ** (np.array([0, 3, 5, 7, 10, 12, 15]) / 12)
    string = _saw(_held(rng, onsets, rng.uniform(110, 200) * scale))
    warm = _filter(string, _resonances((rng.uniform(250, 450), 0.8, 1.0)))
    bright = _filter(string, _resonances((rng.uniform(2000, 3000), 0.8, 1.0)))
    ring = rng.uniform(0.2, 0.4)
    return _unit(
        warm * _beats(onsets, 0.004, ring) + 0.6 * bright * _beats(onsets, 0.002, ring / 4)
    )


def _telephone(rng: np.random.Generator) -> np.ndarray:
    """A bell: inharmonic partials struck some twenty times a second, with pauses."""
    pitch, strikes = rng.uniform(900, 1500), rng.uniform(16, 24)
    wave = np.zeros(_SAMPLES, dtype=np.float32)
    for ratio, level in ((1.0, 1.0), (1.51, 0.6), (2.74, 0.4)):
        wave += level * np.sin(2 * np.pi * _phase(pitch * ratio)).astype(np.float32)
    hammer = np.exp(-2.5 * ((_TIME * strikes) % 1.0))
    on = (_TIME / rng.uniform(0.7, 1.0) + rng.random()) % 1.0 < 0.65
    return _unit(wave * hammer * on)


def _whistle(rng: np.random.Generator) -> np.ndarray:
    """A tone that wanders, from where a cello plays to where an alarm shrills."""
    pitch = float(np.exp(rng.uniform(np.log(200), np.log(3500))))
    phase = _phase(_glide(rng, 0.8, 1.25, 3.0) * pitch)
    return _unit(np.sin(2 * np.pi * phase).astype(np.float32))


def _rustle(rng: np.random.Generator) -> np.ndarray:
    """Grains of band-limited noise."""
    grains = _beats(_onsets(rng, rng.uniform(4, 12), 0.8), 0.005, 0.03)
    peak = (float(np.exp(rng.uniform(np.log(300), np.log(5000)))), 0.5, 1.0)
    return _unit(_filter(_noise(rng), _resonances(peak)) * grains)


def _knocks(rng: np.random.Generator) -> np.ndarray:
    """Irregular knocks on something hollow."""
    onsets = _onsets(rng, rng.uniform(1.0, 4.0), 0.8)
    tone = np.sin(2 * np.pi * _phase(rng.uniform(200, 1200))).astype(np.float32)
    return _unit(tone * _beats(onsets, 0.002, 0.05))


def _hum(rng: np.random.Generator) -> np.ndarray:
    """A steady machine with a resonance somewhere."""
    peak = (float(np.exp(rng.uniform(np.log(150), np.log(2500)))), 0.6, 1.0)
    return _filter(_saw(rng.uniform(40, 240)), _resonances(peak, (150, 0.8, 0.5)))


SOUNDS: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (
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
"""In the order of the class file; each gives (SECONDS * SOUND_RATE,) float32 of loudness 1."""
_DISTRACTORS = (_whistle, _rustle, _knocks, _hum)
