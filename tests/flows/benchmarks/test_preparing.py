"""What a sweep is planned to be: its jobs and its noisy manifests."""

from __future__ import annotations

import json
from pathlib import Path

from flows.benchmarks.jobs import Job
from flows.benchmarks.preparing import prepare, worker_count
from pipeline.manifest import read_manifest
from tests.flows.small_sweeps import HAN, plan_jobs, written


def test_jobs_say_what_any_process_needs(corpus: list[str], tmp_path: Path) -> None:
    jobs = plan_jobs(corpus, tmp_path, HAN, "nothing", seed=(0, 1))
    assert [(job.variant, job.seed) for job in jobs] == [
        (method, seed) for seed in (0, 1) for method in (written(HAN), "nothing")
    ]
    assert Job(**json.loads(json.dumps(jobs[0].to_json()))) == jobs[0]
    assert jobs[0].threads == 1
    assert worker_count(3, jobs) == 3
    assert worker_count(9, jobs) == len(jobs)


def test_a_noisy_manifest_finds_the_same_media_and_is_made_once(
    corpus: list[str], tmp_path: Path
) -> None:
    named = dict(word[2:].split("=", 1) for word in corpus[:3])
    asked = {**named, "method": ["nothing"], "noise": ["drop:0.3"], "seed": [0]}
    _, (job,) = prepare(**asked, runs=tmp_path / "a")
    made = Path(job.manifest)
    stamp = made.stat().st_mtime_ns
    assert made.parent == tmp_path / "a/noise"
    noisy, clean = read_manifest(made), read_manifest(named["manifest"])
    assert noisy.media_root.resolve() == clean.media_root.resolve()
    assert noisy.header.noise[-1]["id"] in made.name
    _, (again,) = prepare(**asked, runs=tmp_path / "a")
    assert again == job
    assert made.stat().st_mtime_ns == stamp
    _, (other,) = prepare(**{**asked, "noise_seed": [1]}, runs=tmp_path / "a")
    assert other.manifest != job.manifest
