"""A real Prefect server, and a manifest of three real clips."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from tests.corpora import write_corpus

PROJECT = Path(__file__).parents[2]
RATE = 16000


def write_clip(path: Path, *, seconds: int = 2, tone: float = 440.0) -> None:
    """An H.264 and AAC file of 128x96 at 12 frames a second, grey growing brighter, with a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(seconds * RATE) / RATE
    wave = (0.5 * np.sin(2 * np.pi * tone * times)).astype(np.float32)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=12)
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        for index in range(12 * seconds):
            picture = np.full((96, 128, 3), 20 + 4 * index, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        sound = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        sound.sample_rate = RATE
        container.mux(audio.encode(sound))
        container.mux(audio.encode())


def write_lines(path: Path, videos: list[str]) -> Path:
    """A manifest with one row of two seconds a video."""
    header = {"manifest": 1, "dataset": "tiny", "label_type": "multilabel", "classes": ["Speech"]}
    rows = [
        {
            "id": f"clip{n}",
            "video": video,
            "start": 0.0,
            "end": 2.0,
            "split": "train",
            "labels": ["Speech"],
            "audio_id": f"clip{n}",
        }
        for n, video in enumerate(videos)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in [header, *rows]))
    return path


@pytest.fixture(scope="session")
def tiny_manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips of two seconds and the manifest that names them."""
    folder = tmp_path_factory.mktemp("tiny")
    for n in range(3):
        write_clip(folder / f"videos/{n}.mp4", tone=300.0 + 200 * n)
    return write_lines(folder / "tiny.jsonl", [f"videos/{n}.mp4" for n in range(3)])


@pytest.fixture
def broken_manifest(tmp_path: Path) -> Path:
    """A clip that is right, a video that is not there and one that is no video."""
    write_clip(tmp_path / "media/good.mp4")
    (tmp_path / "media/bad.mp4").write_bytes(b"no video at all")
    videos = ["media/good.mp4", "media/gone.mp4", "media/bad.mp4"]
    return write_lines(tmp_path / "broken.jsonl", videos)


class Commands:
    """Runs commands in the project's folder against one Prefect server."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.url = environment["PREFECT_API_URL"]

    def run(self, *words: str, seconds: float = 180) -> subprocess.CompletedProcess[str]:
        """Runs ``python -m words`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=PROJECT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def get(self, path: str) -> object:
        """Asks the server."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, body: object) -> dict[str, str]:
        """Tells the server."""
        request = urllib.request.Request(
            f"{self.url}{path}",
            json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        for _ in range(20):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                # A server that has just started is still writing to its own database.
                if error.code != 503:
                    raise
                time.sleep(0.5)
        pytest.fail(f"the server stays busy: {path}")

    def deploy(self, flow: str, deployment: str) -> None:
        """Registers a deployment that nobody serves."""
        flow_id = self.post("/flows/", {"name": flow})["id"]
        schema = {"type": "object", "properties": {}}
        body = {"name": deployment, "flow_id": flow_id, "parameter_openapi_schema": schema}
        self.post("/deployments/", body)

    @contextmanager
    def served(self, *words: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Keeps ``python -m words`` running for a while, its output in a file."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=PROJECT,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            try:
                yield process
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def wait_until(ready: object, process: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    """Polls until ``ready()`` is true; shows the log where it never is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if ready():
            return
        time.sleep(0.3)
    pytest.fail(f"not ready within {seconds} s:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """A Prefect server of its own with an empty database, for the whole test run."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_RUNNER_POLL_FREQUENCY": "1",
        "AVNOISE_DATA": str(home / "data"),
        "AVNOISE_STORE": str(home / "store"),
        "AVNOISE_RUNS": str(home / "runs"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }
    commands = Commands(environment)
    log = home / "server.log"
    start = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with commands.served(*start, log=log) as process:

        def healthy() -> bool:
            try:
                return commands.get("/health") is True
            except OSError:
                return False

        wait_until(healthy, process, log, 120)
        yield commands


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name a small corpus."""
    manifest, store = write_corpus(tmp_path_factory.mktemp("corpus"), sizes=(20, 6, 6))
    features = ["audio=sound", "visual=sight", "motion=moves"]
    return ["--task=avvp", f"--manifest={manifest}", f"--store={store}", "--features", *features]
