"""Extraction against its parts: decoding alone, the model alone, one feature alone.

    python -m tests.benchmarks.bench_extract [--clips 60] [--repeats 5] [--only null|real|three|mel]

Renders clips of 10 s (H.264 and AAC, 640x360) and prints medians of ratios, each taken within one
round of alternating repeats. Costs are seconds of processor time of this process and of those that
read for it: what runs beside the benchmark disturbs them least, and on a CPU, where decoding and
model share the cores, they are what a rate comes down to.

- null: extraction with a backbone that takes frames and returns a constant, against a bare loop
  over the decoder that shrinks the same frames.
- real: extraction with a network against 1 / (1 / decode + 1 / model).
- three: three visual features together against the dearest of them alone, with their frame times
  and their resizing but no networks.
- mel: log-Mel features against bare calls of librosa, and against real time.
"""

from __future__ import annotations

import statistics
import struct
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import librosa
import numpy as np
import psutil

from features.backbones.interface import Backbone
from features.decoding import Tools, read_clip
from features.extraction import plan, run_plan
from features.readers import codec_threads
from features.requests import make_requests
from pipeline.cli import DONE, Parser, run
from pipeline.decode import open_decoder
from pipeline.manifest import Header, Manifest, Row
from pipeline.mel import PANNS, VGGISH, log_mel
from tests.benchmarks import constant
from tests.benchmarks.bench_decode import SECONDS, render

__all__ = ["main"]

SIZE = (640, 360)


def different(paths: Sequence[Path]) -> list[Path]:
    """Makes files of their own out of links to one: a clip is never extracted twice."""
    for number, path in enumerate(paths):
        content = path.read_bytes()
        path.unlink()
        # A box that players skip.
        path.write_bytes(content + struct.pack(">I4sI", 12, b"free", number))
    return list(paths)


def manifest_of(paths: Sequence[Path], folder: Path) -> Manifest:
    """A manifest with a row for every clip."""
    rows = tuple(
        Row(path.stem, 0.0, float(SECONDS), "train", (), video=path.name) for path in paths
    )
    header = Header("bench", "none", (), media_root=str(paths[0].parent))
    return Manifest(header, rows, folder / "bench.jsonl")


def cpu_seconds() -> float:
    """Processor time of this process and its children."""
    total = 0.0
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system
    return total


def cost(work: Callable[[], None]) -> float:
    """Seconds of processor time that some work takes."""
    began = cpu_seconds()
    work()
    return cpu_seconds() - began


def compare(works: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each work by round; the order alternates, the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name in list(works)[:: 1 - 2 * (repeat % 2)]:
            taken = cost(works[name])
            if repeat:
                seconds[name].append(taken)
    return seconds


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the ratios within rounds."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


class Bench:
    """Clips, and what can be done with them."""

    def __init__(self, folder: Path, clips: int) -> None:
        self.paths = different(render(folder, clips, SIZE))
        self.manifest = manifest_of(self.paths, folder)
        self._folder = folder
        self._runs = 0

    def extract(self, names: Sequence[str], readers: int = 1) -> None:
        """Extracts some features of all clips into a new store."""
        self._runs += 1
        store = self._folder / f"store{self._runs}"
        work = plan(self.manifest, store, names, random_weights=0, device="cpu")
        report = run_plan(work, workers=1, readers=readers)
        if report.failed:
            raise RuntimeError(report.table())

    def decode(self, backbone: Backbone) -> None:
        """A bare loop over the decoder with a backbone's resizing."""
        decoder = open_decoder("pyav", threads=codec_threads(1))
        times = backbone.grid.frame_times(0.0, float(SECONDS)).ravel()
        for path in self.paths:
            for _, frame in decoder.frames(path, times):
                backbone.prepare(frame)


def bench_null(bench: Bench, repeats: int) -> None:
    """Prints how much of the decoding rate is left when nothing is computed."""
    (request,) = make_requests([constant.Cropped.name])
    works = {
        "bare": lambda: bench.decode(request.build()),
        "reader": lambda: bench.extract([request.name]),
        "thread": lambda: bench.extract([request.name], readers=0),
    }
    seconds = compare(works, repeats)
    for name in ("reader", "thread"):
        print(
            f"null backbone, {name}: {median_ratio(seconds['bare'], seconds[name]):.3f} of the "
            f"rate of decoding alone (goal 0.9); {statistics.median(seconds['bare']):.2f} s bare, "
            f"{statistics.median(seconds[name]):.2f} s",
            flush=True,
        )


def bench_real(bench: Bench, name: str, repeats: int) -> None:
    """Prints how near extraction comes to decoding and model one after the other."""
    (request,) = make_requests([name], random_weights=0)
    backbone = request.build()
    tools = Tools(open_decoder("pyav", threads=1))
    blocks = [
        part for path in bench.paths for part in read_clip(str(path), 0, SECONDS, [backbone], tools)
    ]

    def compute() -> None:
        for block in blocks:
            backbone.compute(block.clip)

    backbone.to("cpu")
    works = {
        "decode": lambda: bench.decode(backbone),
        "model": compute,
        "both": lambda: bench.extract([name]),
    }
    seconds = compare(works, repeats)
    parts = [d + m for d, m in zip(seconds["decode"], seconds["model"], strict=True)]
    medians = ", ".join(f"{n} {statistics.median(s):.2f} s" for n, s in seconds.items())
    print(
        f"{name}: {median_ratio(parts, seconds['both']):.3f} of 1/(1/decode + 1/model) "
        f"(goal 0.9); {medians} for {len(bench.paths)} clips",
        flush=True,
    )


def bench_three(bench: Bench, repeats: int) -> None:
    """Prints what three visual features cost beside the dearest of them."""
    names = [kind.name for kind in constant.LIKE_NETWORKS]
    works = {name: lambda name=name: bench.extract([name]) for name in names}
    seconds = compare({"three": lambda: bench.extract(names), **works}, repeats)
    dearest = max(names, key=lambda name: statistics.median(seconds[name]))
    print(
        f"three visual features: {median_ratio(seconds['three'], seconds[dearest]):.3f} times the "
        f"cost of {dearest} alone (goal 1.15); {statistics.median(seconds['three']):.2f} s",
        flush=True,
    )


def bench_mel(repeats: int) -> None:
    """Prints the rate of log-Mel features beside librosa's own functions."""
    for name, spec in (("VGGish", VGGISH), ("PANNs", PANNS)):
        sound = np.random.default_rng(0).uniform(-1, 1, spec.rate * 60).astype(np.float32)
        filters = librosa.filters.mel(
            sr=spec.rate, n_fft=spec.n_fft, n_mels=spec.bands, fmin=spec.fmin, fmax=spec.fmax
        )

        def bare(spec=spec, sound=sound, filters=filters) -> None:
            spectrum = librosa.stft(
                sound,
                n_fft=spec.n_fft,
                hop_length=spec.hop_length,
                win_length=spec.window_length,
                center=spec.center,
            )
            librosa.power_to_db(filters @ np.abs(spectrum) ** 2)

        def ours(spec=spec, sound=sound) -> None:
            log_mel(sound, spec)

        seconds = compare({"bare": bare, "ours": ours}, 4 * repeats)
        print(
            f"log-Mel of {name}: {median_ratio(seconds['bare'], seconds['ours']):.3f} of the rate "
            f"of librosa (goal 0.8), {60 / statistics.median(seconds['ours']):.0f} times real time "
            "(goal 1000)",
            flush=True,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for every comparison."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=("null", "real", "three", "mel"))
    options = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        if options.only in (None, "null", "three"):
            bench = Bench(Path(folder), options.clips)
            if options.only != "three":
                bench_null(bench, options.repeats)
            if options.only != "null":
                bench_three(bench, options.repeats)
        if options.only in (None, "real"):
            few = Path(folder) / "few"
            few.mkdir()
            bench_real(Bench(few, max(2, options.clips // 10)), "squeezenet1_0", options.repeats)
            fewer = Path(folder) / "fewer"
            fewer.mkdir()
            bench_real(Bench(fewer, 2), "resnet152", max(1, options.repeats // 2))
        if options.only in (None, "mel"):
            bench_mel(options.repeats)
        print(f"{time.monotonic() - began:.0f} s in all")
    return DONE


if __name__ == "__main__":
    run(main)
