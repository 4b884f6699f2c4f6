"""Decoding through the pipeline against bare PyAV doing the same work.

    python -m tests.benchmarks.bench_decode [--clips 100] [--repeats 5]

Renders clips of 10 s (H.264 and AAC), decodes them both ways in turn and prints the medians of
the ratio bare / pipeline: 1 means that placing frames and sound in time costs nothing. The bare
loop demuxes, decodes and converts the same frames and resamples the same sound with the same
threads and settings; it knows the frame numbers beforehand and checks nothing.
"""

from __future__ import annotations

import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pipeline.cli import DONE, Parser, run
from pipeline.decode import open_decoder, read_audio
from pipeline.decode.container import threads_for
from tests.media import render_clip

SECONDS = 10
FPS = 12
SOUND_RATE = 16000


def render(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """One clip with moving clutter, under many names."""
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal(SECONDS * SOUND_RATE)).astype(np.float32)
    first = render_clip(
        folder / f"{size[0]}.mp4",
        seconds=SECONDS,
        rate=FPS,
        size=size,
        gop=FPS,
        clutter=True,
        audio=sound,
    )
    paths = [folder / f"{size[0]}-{k:03}.mp4" for k in range(count)]
    for path in paths:
        os.link(first, path)
    return paths


def through_pipeline(paths: Sequence[Path], rate: int) -> int:
    """Frames at ``rate`` a second and the sound of every clip; returns the bytes that came out."""
    decoder = open_decoder("pyav")
    times = (np.arange(SECONDS * rate) + 0.5) / rate
    total = 0
    for path in paths:
        for _, frame in decoder.frames(path, times):
            total += frame.nbytes
        total += read_audio(path, 0.0, SECONDS, SOUND_RATE).nbytes
    return total


def by_bare_pyav(paths: Sequence[Path], rate: int) -> int:
    """The same frames and the same sound by PyAV alone."""
    wanted = {math.floor((k + 0.5) / rate * FPS) for k in range(SECONDS * rate)}
    total = 0
    for path in paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            threads = threads_for(stream.width * stream.height)
            stream.codec_context.thread_type = "AUTO" if threads > 1 else "SLICE"
            stream.codec_context.thread_count = threads
            converter = VideoReformatter()
            for index, frame in enumerate(container.decode(stream)):
                if index in wanted:
                    rgb = converter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                    total += rgb.nbytes
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            stream.codec_context.thread_count = 1
            resampler = av.AudioResampler(
                format="flt", layout="mono", rate=SOUND_RATE, frame_size=2**15
            )
            parts = [
                out.to_ndarray()[0]
                for frame in container.decode(stream)
                for out in resampler.resample(frame)
            ]
            parts += [out.to_ndarray()[0] for out in resampler.resample(None)]
            total += np.concatenate(parts)[: SECONDS * SOUND_RATE].nbytes
    return total


def seconds_of(
    work: Callable[[Sequence[Path], int], int], paths: Sequence[Path], rate: int
) -> tuple[float, int]:
    """Seconds of processor time, which neighbours on the machine disturb least, and the bytes."""
    began = time.process_time()
    total = work(paths, rate)
    return time.process_time() - began, total


def compare(paths: Sequence[Path], rate: int, repeats: int) -> tuple[float, float, float]:
    """Medians of the ratio and of the seconds by bare PyAV and through the pipeline."""
    ours: list[float] = []
    bare: list[float] = []
    for repeat in range(repeats + 1):
        order = (by_bare_pyav, through_pipeline)
        taken = {work: seconds_of(work, paths, rate) for work in order[:: 1 - 2 * (repeat % 2)]}
        if taken[by_bare_pyav][1] != taken[through_pipeline][1]:
            raise RuntimeError("the two loops did not do the same work")
        if repeat:
            # The first round warms caches and is not counted.
            bare.append(taken[by_bare_pyav][0])
            ours.append(taken[through_pipeline][0])
    ratio = statistics.median(b / o for b, o in zip(bare, ours, strict=True))
    return ratio, statistics.median(bare), statistics.median(ours)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one line for every picture size and frame rate."""
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(argv)
    print(f"{options.clips} clips of {SECONDS} s, {FPS} frames a second, sound at {SOUND_RATE} Hz")
    with tempfile.TemporaryDirectory() as folder:
        for size in ((128, 96), (640, 360)):
            paths = render(Path(folder), options.clips, size)
            for rate in (4, 8):
                ratio, bare, ours = compare(paths, rate, options.repeats)
                print(
                    f"{size[0]}x{size[1]}, {rate} frames a second: bare {bare:.2f} s, "
                    f"pipeline {ours:.2f} s, ratio {ratio:.3f} (goal 0.95)",
                    flush=True,
                )
    return DONE


if __name__ == "__main__":
    run(main)
