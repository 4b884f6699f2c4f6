"""What carries out flows and shards: Prefect and Dask."""

from __future__ import annotations

import asyncio
import importlib.metadata
import time

from flows.checks.finding import Finding
from flows.environment import prepare_prefect

__all__ = ["check_dask", "check_plugin", "check_prefect"]


def check_prefect() -> Finding:
    """Imports the server, and sees whether FastAPI takes the nulls that Prefect's client sends."""
    prepare_prefect()
    import fastapi
    import httpx
    import prefect.server.api.server

    app = fastapi.FastAPI()

    @app.post("/")
    async def echo(limit: int = fastapi.Body(200, embed=True)) -> int:
        return limit

    async def ask() -> int:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return (await client.post("/", json={"limit": None})).status_code

    text = f"Prefect {prefect.__version__}, FastAPI {fastapi.__version__}"
    if asyncio.run(ask()) != 200:
        return Finding(
            "warn",
            f"{text}: runs work, but Prefect's listing commands fail with status 422",
            "Install fastapi>=0.139,<0.151.",
        )
    return Finding("ok", text)


def check_plugin() -> Finding:
    """Whether ``prefect deployment run NAME`` will work without a slash, from this folder."""
    prepare_prefect()
    from prefect.settings import get_current_settings

    bearing = [
        entry
        for entry in importlib.metadata.entry_points(group="prefect.plugins")
        if entry.value == "flows.bare_names"
    ]
    if not bearing:
        return Finding("warn", "not installed", "Run 'uv pip install -e .' in the project.")
    bearing[0].load()
    settings = get_current_settings().plugins
    name = bearing[0].name
    denied = name in (settings.deny or ()) or (settings.allow and name not in settings.allow)
    if not settings.enabled or denied:
        return Finding(
            "warn",
            "switched off here, so deployments need their full names",
            f"Work in the project's folder, or set PREFECT_PLUGINS_ENABLED=1 and "
            f"PREFECT_PLUGINS_ALLOW={name}.",
        )
    return Finding("ok", f"{name} resolves deployment names without a slash")


def check_dask() -> Finding:
    """Starts a cluster of one worker process, computes on it, and stops it."""
    import distributed

    from flows.cluster import LOCAL, connected

    began = time.monotonic()
    with connected(LOCAL, 1) as client:
        total = client.submit(sum, range(10)).result(timeout=60)
    if total != 45:
        return Finding("fail", f"a worker added 0 to 9 to {total}", "Reinstall distributed.")
    text = f"distributed {distributed.__version__}, a cluster started, used and stopped"
    return Finding("ok", f"{text} in {time.monotonic() - began:.1f} s")
