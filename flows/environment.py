"""Settings that Prefect reads when it is first imported, for commands of ours that import it."""

from __future__ import annotations

import os

from pipeline.errors import UserError

__all__ = ["prepare_prefect", "require_server"]

_DEFAULTS = {
    # Nothing here needs the network, so nothing should wait for it or call home either.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # Without PREFECT_API_URL Prefect starts a temporary server, whose first start makes a database;
    # on two busy cores that takes longer than the 20 seconds Prefect grants.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
}


def prepare_prefect() -> None:
    """Sets the defaults above for this process and its children; the user's own settings win."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def require_server() -> None:
    """Sees that a configured Prefect server answers; without one Prefect starts its own.

    Raises:
        UserError: If it does not.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if url is None:
        return
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise UserError(
            f"No Prefect server answers at {url}; start one with 'prefect server start', or "
            "correct PREFECT_API_URL."
        )
