"""Log-Mel front ends against the bare librosa calls, on one core.

    python -m tests.benchmarks.bench_mel [--repeats 15]

Bare is librosa.stft, magnitudes, librosa's filter bank and the logarithm on float32 sound, which
librosa transforms in float32; the pipeline transforms in float64. Times are of the processor,
which neighbours on the machine disturb least; the medians of alternating repeats are printed.
"""

from __future__ import annotations

import os

# Set before numpy loads its algebra: one core is what is measured.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import statistics
import time
from collections.abc import Callable, Sequence

import librosa
import numpy as np

from pipeline.cli import DONE, Parser, run
from pipeline.mel import PANNS, VGGISH, XID_LARGE, XID_SMALL, LogMelSpec, log_mel

SPECS = {"vggish": VGGISH, "panns": PANNS, "xid_small": XID_SMALL, "xid_large": XID_LARGE}
SECONDS = (1, 10, 60)


def bare_calls(spec: LogMelSpec) -> Callable[[np.ndarray], np.ndarray]:
    """What one would write with librosa alone."""
    bands = librosa.filters.mel(
        sr=spec.rate,
        n_fft=spec.n_fft,
        n_mels=spec.bands,
        fmin=spec.fmin,
        fmax=spec.fmax,
        htk=spec.htk,
        norm=spec.norm,
    )

    def compute(waveform: np.ndarray) -> np.ndarray:
        spectrum = librosa.stft(
            waveform,
            n_fft=spec.n_fft,
            hop_length=spec.hop_length,
            win_length=spec.window_length,
            center=spec.center,
        )
        mel = bands @ np.abs(spectrum) ** spec.power
        if spec.log == "ln":
            return np.log(mel + spec.offset)
        return 10 * np.log10(np.maximum(mel, spec.offset))

    return compute


def seconds_of(compute: Callable[[], object], times: int) -> float:
    """Processor seconds of one call."""
    began = time.process_time()
    for _ in range(times):
        compute()
    return (time.process_time() - began) / times


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line for every front end and length."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args(argv)
    for name, spec in SPECS.items():
        bare = bare_calls(spec)
        for seconds in SECONDS:
            noise = np.random.default_rng(0).standard_normal(seconds * spec.rate)
            waveform = (0.1 * noise).astype(np.float32)
            calls = {"ours": lambda w=waveform, s=spec: log_mel(w, s)}
            calls["bare"] = lambda w=waveform, b=bare: b(w)
            taken: dict[str, list[float]] = {who: [] for who in calls}
            for repeat in range(options.repeats + 1):
                for who, call in calls.items():
                    spent = seconds_of(call, max(1, 20 // seconds))
                    if repeat:
                        # The first round warms caches and is not counted.
                        taken[who].append(spent)
            ours, theirs = (statistics.median(taken[who]) for who in calls)
            print(
                f"{name}, {seconds} s: {seconds / ours:.0f} times real time (goal 1000), bare "
                f"{seconds / theirs:.0f}, ratio {theirs / ours:.2f} (goal 0.8)",
                flush=True,
            )
    return DONE


if __name__ == "__main__":
    run(main)
