"""Write features as .npy files, one a clip; exit code 2 if a row has none.

python -m features export STORE --manifest M --features vggish --out DIR
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from features.commands.options import add_media_root, add_store, read_manifests
from features.export import LAYOUTS, export_features
from features.store import Store
from pipeline.cli import DONE, PARTIAL
from pipeline.progress import Progress

__all__ = ["add", "run"]


def add(parser: ArgumentParser) -> None:
    """Adds the command's options."""
    add_store(parser)
    option = parser.add_argument
    option("--manifest", required=True, type=Path, metavar="FILE", help="the rows")
    option("--features", nargs="+", required=True, metavar="NAME", help="NAME or NAME-SPECID")
    option("--out", required=True, type=Path, metavar="DIR", help="where the files go")
    option(
        "--layout",
        choices=LAYOUTS,
        default="npy",
        help="npy: <feature>/<row id>.npy; llp: the official vggish/, res152/ and r2plus1d_18/",
    )
    add_media_root(parser)


def run(options: Namespace) -> int:
    """Exports the rows of a manifest."""
    store = Store(options.store)
    infos = [store.find(name) for name in dict.fromkeys(options.features)]
    (manifest,) = read_manifests([options.manifest], options.media_root)
    with Progress(len(infos) * len(manifest.rows), "export", unit="files") as progress:
        report = export_features(
            store, manifest, infos, options.out, layout=options.layout, progress=progress
        )
    for row, feature, problem in report.failed:
        print(f"{row}: no {feature}, {problem}")
    print(f"{report.written} files in {options.out}, {len(report.failed)} rows without")
    return PARTIAL if report.failed else DONE
