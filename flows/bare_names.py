"""A Prefect plugin: ``prefect deployment run extract-features`` needs no ``<flow>/`` before it.

Stock Prefect answers a name without a slash with a traceback. This plugin resolves such a name when
exactly one deployment bears it. Prefect loads it through its plugin interface (entry-point group
``prefect.plugins``, hook ``setup_environment``), which the table ``[tool.prefect.plugins]`` of
pyproject.toml switches on in the project's folder; elsewhere set ``PREFECT_PLUGINS_ENABLED=1``.
Names with a slash and all other commands behave as before.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

# Prefect imports this module each time it starts, so it must stay cheap: nothing of ours here.
from prefect.plugins import register_hook

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.plugins import HookContext

__all__ = ["is_deployment_run", "setup_environment"]

_SHOWN = 20
_PAGE = 200


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Prefect's start-up hook: teaches this process to resolve bare names, if it will meet one."""
    if not is_deployment_run(sys.argv):
        return
    problem = _install()
    if problem:
        ctx.logger_factory("prefect.plugins").warning(
            "Bare deployment names are not resolved (%s); use <flow>/<deployment>.", problem
        )


def is_deployment_run(argv: Sequence[str]) -> bool:
    """Whether ``argv`` (program first) is ``prefect [options] deployment run ...``."""
    words = []
    takes_value = False
    for word in argv[1:]:
        if takes_value:
            takes_value = False
        elif word in ("--profile", "-p"):
            takes_value = True
        elif not word.startswith("-"):
            words.append(word)
        if len(words) == 2:
            break
    return words in (["deployment", "run"], ["deployments", "run"])


def _install() -> str:
    """Wraps the client's look-up by name; returns why not, or an empty string."""
    try:
        from prefect.client.orchestration import PrefectClient

        # What resolving will need is looked up now, where it can still be left to Prefect.
        from prefect.client.schemas.filters import DeploymentFilterName  # noqa: F401
        from prefect.client.schemas.sorting import DeploymentSort  # noqa: F401

        _ = PrefectClient.read_deployments, PrefectClient.read_flow
        original = PrefectClient.read_deployment_by_name
    except (ImportError, AttributeError) as error:
        return str(error)
    if getattr(original, "_resolves_bare_names", False):
        return ""
    if not inspect.iscoroutinefunction(original):
        return "PrefectClient.read_deployment_by_name is no coroutine function"
    if list(inspect.signature(original).parameters) != ["self", "name"]:
        return "PrefectClient.read_deployment_by_name takes other arguments than a name"

    @functools.wraps(original)
    async def read_deployment_by_name(self: PrefectClient, name: str) -> Any:
        full = name if "/" in name else await _resolve(self, name)
        return await original(self, full)

    read_deployment_by_name._resolves_bare_names = True  # type: ignore[attr-defined]
    PrefectClient.read_deployment_by_name = read_deployment_by_name  # type: ignore[method-assign]
    return ""


async def _resolve(client: PrefectClient, name: str) -> str:
    """The full name ``<flow>/<deployment>`` of the one deployment called ``name``.

    Raises:
        SystemExit: With one sentence for stderr (exit code 1), where it is not exactly one.
    """
    import httpx
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    bearing = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    try:
        found = await _full_names(client, bearing)
    except httpx.TransportError as error:
        raise _failure(
            f"no Prefect server answers at {client.api_url}; start one with "
            "'prefect server start', or correct PREFECT_API_URL."
        ) from error
    if len(found) == 1:
        return found[0]
    if found:
        raise _failure(f"the deployment name {name!r} is ambiguous; give one of: {_listed(found)}.")
    known = await _full_names(client, None)
    if not known:
        raise _failure(
            f"there is no deployment {name!r}, nor any other on this server; "
            "start 'python -m flows.serve' in another terminal."
        )
    close = difflib.get_close_matches(name, known, n=len(known), cutoff=0)
    raise _failure(f"there is no deployment {name!r}; this server has: {_listed(close)}.")


async def _full_names(client: PrefectClient, bearing: Any) -> list[str]:
    """All names ``<flow>/<deployment>`` that pass a deployment filter, sorted."""
    from prefect.client.schemas.sorting import DeploymentSort

    # FastAPI 0.151 and later refuse the nulls that a missing sort order or `read_flows` would send.
    deployments = []
    while page := await client.read_deployments(
        deployment_filter=bearing,
        limit=_PAGE,
        offset=len(deployments),
        sort=DeploymentSort.NAME_ASC,
    ):
        deployments.extend(page)
    flows = {i: await client.read_flow(i) for i in {d.flow_id for d in deployments}}
    return sorted(f"{flows[d.flow_id].name}/{d.name}" for d in deployments)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _failure(sentence: str) -> SystemExit:
    # Prefect turns other exceptions into tracebacks; of this one Python prints the text alone.
    return SystemExit(f"error: {sentence}")
