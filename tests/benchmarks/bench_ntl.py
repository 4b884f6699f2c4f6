"""One round of NTL against epochs of CE and the bare products that neighbours cost.

    python -m tests.benchmarks.bench_ntl [--videos 20000] [--repeats 3] [--threads 2]

Ten clips a video, features of 512 and 2048, width 512, 50 classes. A round is both passes with the
weights of pairs and the votes between them: four embeddings' products of N x N, two of them for one
matrix, and three searches for the nearest 16. The bare products are those, a strip of 2048 rows at
a time into one buffer, with nothing between them. All run by turns; medians count. The goals: at
most twice the epoch of CE plus 1.2 times the bare products, and under 2 GiB beside the features.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from pipeline.cli import Parser, run
from trainers.action.correction import supervised_pass
from trainers.action.interface import Inputs, TrainView
from trainers.action.methods.ntl import NTL, NTLHyperparameters
from trainers.fitting import FitState
from trainers.random import RandomState
from trainers.training import adam

CLIPS, CLASSES, VISUAL, AUDIO = 10, 50, 512, 2048
STRIP = 2048
GOAL_BARE, GOAL_MEMORY = 1.2, 2.0


def make_view(videos: int, clips: int) -> TrainView:
    """Random features around classes, made in place."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (videos,), generator=g)
    features = []
    for width in (VISUAL, AUDIO):
        x = torch.empty(videos, clips, width).normal_(generator=g)
        centres = torch.randn(CLASSES, width, generator=g)
        for row, label in zip(x, labels.tolist(), strict=True):
            row += centres[label]
        features.append(x)
    valid = torch.ones(videos, clips, dtype=torch.bool)
    classes = tuple(f"class {c}" for c in range(CLASSES))
    return TrainView(Inputs(*features, valid), labels, torch.arange(videos), classes)


def products(videos: int, hp: NTLHyperparameters) -> Callable[[], None]:
    """The products of N x N and searches of one round: sounds, pictures, and pairs."""
    g = torch.Generator().manual_seed(1)
    z = F.normalize(torch.randn(videos, hp.width, generator=g), dim=1)
    pair = torch.cat((z, z), dim=1)
    buffer = torch.empty(min(STRIP, videos) * videos)

    def search() -> None:
        for x in (z, z, pair):
            for rows in x.split(STRIP):
                scores = buffer[: len(rows) * videos].view(len(rows), videos)
                torch.mm(rows, x.T, out=scores)
                scores.topk(hp.neighbor_count, dim=1)

    return search


def peak_memory() -> float:
    """Most memory that this process has held, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def time_rounds(view: TrainView, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of rounds, epochs of CE and bare products, taken by turns."""
    hp = NTLHyperparameters(epochs=repeats + 1, warmup=0)
    search = products(len(view), hp)
    baseline = NTL().build(view.inputs.widths, view.classes, hp).net
    optimizer = adam(baseline.parameters(), hp.lr)
    rng = RandomState(0)
    times: dict[str, list[tuple[float, float]]] = {"ntl": [], "ce": [], "bare": []}

    def note(name: str, begin: tuple[float, float]) -> None:
        wall, cpu = begin
        times[name].append((time.perf_counter() - wall, time.process_time() - cpu))

    def now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    begin = now()

    def on_epoch(phase: str, number: int, predictor: object, **log: float) -> bool:
        nonlocal begin
        note("ntl", begin)
        begin = now()
        supervised_pass(baseline, optimizer, view, hp, RandomState(number))
        note("ce", begin)
        begin = now()
        search()
        note("bare", begin)
        begin = now()
        return True

    with rng.scope():
        NTL().fit(view, hp, rng=rng, state=FitState(), on_epoch=on_epoch)
    # The first round also builds the network and takes the features' statistics.
    return {name: found[1:] for name, found in times.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the times, the ratio to the goal and the memory."""
    parser = Parser(prog="python -m tests.benchmarks.bench_ntl", description=__doc__)
    parser.add_argument("--videos", type=int, default=20000, help="N, training videos")
    parser.add_argument("--clips", type=int, default=CLIPS, help="clips of each")
    parser.add_argument("--repeats", type=int, default=3, help="rounds that count")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of all")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    view = make_view(args.videos, args.clips)
    before = peak_memory()
    times = time_rounds(view, args.repeats)
    for clock, name in enumerate(("wall", "CPU")):
        ntl, ce, bare = (
            statistics.median(t[clock] for t in times[part]) for part in ("ntl", "ce", "bare")
        )
        goal = 2 * ce + GOAL_BARE * bare
        print(
            f"{name}: NTL round {ntl:.2f} s, CE epoch {ce:.2f} s, bare products {bare:.2f} s; "
            f"{ntl / goal:.2f} of 2 CE + {GOAL_BARE} bare, "
            f"beside 2 CE {(ntl - 2 * ce) / bare:.2f} of bare (goal {GOAL_BARE})"
        )
    print(f"memory beside the features {peak_memory() - before:.2f} GiB (goal {GOAL_MEMORY})")
    return 0


if __name__ == "__main__":
    run(main)
