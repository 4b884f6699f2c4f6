"""One training epoch of HAN against the time that its matrix products alone take.

    python -m tests.benchmarks.bench_han [--clips 320] [--repeats 5] [--threads 1]

Batches of 16 clips of ten segments, features of 128, 2048 and 512, width 512, as published. The
products are those of a forward and backward pass at the same shapes, done with nothing between
them. Both run by turns; medians count. The later goal is a ratio of 1.5.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.cli import Parser, run
from trainers.avvp.interface import Inputs, TrainView
from trainers.avvp.methods.han import HANHyperparameters, HANMethod
from trainers.fitting import FitState
from trainers.random import RandomState

BATCH, SEGMENTS, CLASSES = 16, 10, 25
AUDIO, VISUAL, MOTION, WIDTH = 128, 2048, 512, 512
GOAL = 1.5


def make_view(clips: int) -> TrainView:
    """Random features and labels at the published sizes."""
    g = torch.Generator().manual_seed(0)
    audio, visual, motion = (
        torch.randn(clips, SEGMENTS, width, generator=g) for width in (AUDIO, VISUAL, MOTION)
    )
    labels = (torch.rand(clips, CLASSES, generator=g) < 0.06).float()
    classes = tuple(f"class {c}" for c in range(CLASSES))
    return TrainView(Inputs(audio, visual, motion), labels, labels, labels, classes)


def linear_shapes(clips: int) -> list[tuple[int, int, int, bool]]:
    """Rows, inputs, outputs of every linear map of a batch, and whether its input has a gradient.

    Both modalities are rows of one product wherever they share weights.
    """
    one, both = clips * SEGMENTS, 2 * clips * SEGMENTS
    trunk = [
        (one, AUDIO, WIDTH, False),
        (one, VISUAL, WIDTH, False),
        (one, MOTION, WIDTH, False),
        (one, 2 * WIDTH, WIDTH, True),
    ]
    attention = [(both, WIDTH, 3 * WIDTH, True), (both, WIDTH, WIDTH, True)] * 2
    block = [(both, WIDTH, WIDTH, True)] * 2
    heads = [(both, WIDTH, CLASSES, True)] * 3
    return trunk + attention + block + heads


def products(clips: int) -> Callable[[], None]:
    """The matrix products of one update: forward, gradient of the weights, of the input."""
    tensors = [
        (torch.randn(rows, k), torch.randn(n, k), torch.randn(rows, n), deep)
        for rows, k, n, deep in linear_shapes(clips)
    ]
    streams = torch.randn(4, 2 * clips, SEGMENTS, WIDTH)
    scores = torch.randn(2 * clips, SEGMENTS, SEGMENTS)

    def attend(q: Tensor, k: Tensor, v: Tensor, g: Tensor) -> None:
        torch.bmm(q, k.mT)
        torch.bmm(scores, v)
        torch.bmm(scores.mT, g)
        torch.bmm(g, v.mT)
        torch.bmm(scores, k)
        torch.bmm(scores.mT, q)

    def update() -> None:
        for x, weight, g, deep in tensors:
            torch.mm(x, weight.T)
            torch.mm(g.T, x)
            if deep:
                torch.mm(g, weight)
        for _ in range(2):
            attend(*streams)

    return update


def epoch_of_products(clips: int) -> Callable[[], None]:
    """As many updates as an epoch has, the short last batch included."""
    full, rest = divmod(clips, BATCH)
    updates = [products(BATCH)] * full + ([products(rest)] if rest else [])

    def epoch() -> None:
        for update in updates:
            update()

    return epoch


def time_epochs(view: TrainView, repeats: int) -> tuple[float, float]:
    """Median seconds of an epoch of training and of its products, taken by turns."""
    hp = HANHyperparameters(epochs=repeats + 1)
    epoch = epoch_of_products(len(view))
    trained, bare = [], []
    rng = RandomState(0)
    begin = 0.0

    def on_epoch(phase: str, number: int, predictor: object, **log: float) -> bool:
        nonlocal begin
        trained.append(time.perf_counter() - begin)
        start = time.perf_counter()
        epoch()
        bare.append(time.perf_counter() - start)
        begin = time.perf_counter()
        return True

    epoch()
    with rng.scope():
        HANMethod().fit(view, hp, rng=rng, state=FitState(), on_epoch=on_epoch)
    # The first epoch also builds the network and imports what optimisers need.
    return statistics.median(trained[1:]), statistics.median(bare[1:])


def main(argv: Sequence[str] | None = None) -> int:
    """Prints both times and their ratio."""
    parser = Parser(prog="python -m tests.benchmarks.bench_han", description=__doc__)
    parser.add_argument("--clips", type=int, default=320, help="training clips")
    parser.add_argument("--repeats", type=int, default=5, help="epochs that count")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of both")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    trained, bare = time_epochs(make_view(args.clips), args.repeats)
    print(
        f"HAN epoch of {args.clips} clips, {args.threads} threads: {trained:.3f} s, "
        f"its matrix products: {bare:.3f} s, ratio {trained / bare:.2f} (later goal {GOAL})"
    )
    return 0


if __name__ == "__main__":
    run(main)
