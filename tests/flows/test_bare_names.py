"""The Prefect plugin, against the pinned Prefect and a real server."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient

from flows import bare_names


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("prefect deployment run x", True),
        ("prefect deployments run x -p a=1", True),
        ("prefect --profile local deployment run x", True),
        ("prefect -p local --no-prompt deployment run x", True),
        ("prefect --profile=local deployment run x", True),
        ("prefect deployment ls", False),
        ("prefect deployment", False),
        ("prefect flow-run ls", False),
        ("prefect --profile deployment run x", False),
        ("python -m flows.serve", False),
        ("prefect", False),
    ],
)
def test_which_commands_it_concerns(command: str, expected: bool) -> None:
    assert bare_names.is_deployment_run(command.split()) is expected


@pytest.fixture
def stock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client's own look-up, put back after the test."""
    original = PrefectClient.read_deployment_by_name
    monkeypatch.setattr(PrefectClient, "read_deployment_by_name", original)
    return original


def start_up(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    monkeypatch.setattr("sys.argv", command.split())
    bare_names.setup_environment(ctx=SimpleNamespace(logger_factory=logging.getLogger))


def test_other_commands_are_left_alone(stock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start_up(monkeypatch, "prefect deployment ls")
    assert PrefectClient.read_deployment_by_name is stock


def test_it_wraps_once(stock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start_up(monkeypatch, "prefect deployment run x")
    wrapped = PrefectClient.read_deployment_by_name
    assert wrapped is not stock
    start_up(monkeypatch, "prefect deployment run x")
    assert PrefectClient.read_deployment_by_name is wrapped


async def _other_arguments(self: Any, name: str, version: str) -> None:
    """A look-up as no Prefect has it."""


@pytest.mark.parametrize("changed", [_other_arguments, lambda self, name: None])
def test_an_unknown_prefect_is_left_alone_with_a_warning(
    changed: Any,
    stock: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(PrefectClient, "read_deployment_by_name", changed)
    with caplog.at_level(logging.WARNING):
        start_up(monkeypatch, "prefect deployment run x")
    assert PrefectClient.read_deployment_by_name is changed
    assert "use <flow>/<deployment>" in caplog.text


def test_a_prefect_without_the_method_is_left_alone(
    stock: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner = next(base for base in PrefectClient.__mro__ if "read_flow" in vars(base))
    monkeypatch.delattr(owner, "read_flow")
    with caplog.at_level(logging.WARNING):
        start_up(monkeypatch, "prefect deployment run x")
    assert PrefectClient.read_deployment_by_name is stock
    assert "read_flow" in caplog.text


class Server:
    """The two questions that resolving asks of Prefect's client, answered from a list."""

    api_url = "http://here/api"

    def __init__(self, *names: str) -> None:
        pairs = [name.split("/") for name in names]
        self.deployments = [SimpleNamespace(flow_id=flow, name=name) for flow, name in pairs]

    async def read_deployments(
        self, *, deployment_filter: Any, limit: int, offset: int, sort: Any
    ) -> list[SimpleNamespace]:
        wanted = deployment_filter and deployment_filter.name.any_
        found = [d for d in self.deployments if not wanted or d.name in wanted]
        return found[offset : offset + min(limit, 3)]

    async def read_flow(self, flow_id: str) -> SimpleNamespace:
        return SimpleNamespace(name=flow_id)


MANY = [f"f{n}/d{n}" for n in range(30)]


def test_the_one_deployment_that_bears_a_name() -> None:
    assert asyncio.run(bare_names._resolve(Server("a/x", "b/y", "c/x2"), "x")) == "a/x"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (
            ["a/x", "b/y", "b/x"],
            "error: the deployment name 'x' is ambiguous; give one of: a/x, b/x.",
        ),
        (["a/y"], "error: there is no deployment 'x'; this server has: a/y."),
        ([], "nor any other on this server; start 'python -m flows.serve'"),
        (MANY, "and 10 more."),
    ],
)
def test_a_name_that_does_not_mean_one_deployment(names: list[str], sentence: str) -> None:
    with pytest.raises(SystemExit) as caught:
        asyncio.run(bare_names._resolve(Server(*names), "x"))
    assert sentence in str(caught.value)


@pytest.mark.slow
def test_bare_names_on_a_server(prefect_server: Any) -> None:
    """One server start and one command a case: each takes seconds."""
    prefect_server.deploy("one", "only")
    prefect_server.deploy("one", "twice")
    prefect_server.deploy("two", "twice")

    found = prefect_server.run("prefect", "deployment", "run", "only")
    assert found.returncode == 0, found.stderr
    assert "'one/only'" in found.stdout

    ambiguous = prefect_server.run("prefect", "deployment", "run", "twice")
    assert ambiguous.returncode == 1
    assert ambiguous.stderr.strip() == (
        "error: the deployment name 'twice' is ambiguous; give one of: one/twice, two/twice."
    )

    unknown = prefect_server.run("prefect", "deployment", "run", "onli")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("error: there is no deployment 'onli'; this server has: ")
    assert all(name in unknown.stderr for name in ("one/only", "one/twice", "two/twice"))
    assert "Traceback" not in unknown.stderr + unknown.stdout


@pytest.mark.slow
def test_full_names_and_other_commands_on_a_server(prefect_server: Any) -> None:
    prefect_server.deploy("three", "full")
    full = prefect_server.run("prefect", "deployment", "run", "three/full")
    assert full.returncode == 0, full.stderr
    assert "'three/full'" in full.stdout

    wrong = prefect_server.run("prefect", "deployment", "run", "three/none")
    assert wrong.returncode == 1
    assert "'three/none' not found" in wrong.stdout

    inspected = prefect_server.run("prefect", "deployment", "inspect", "full")
    assert inspected.returncode == 1
    assert "Invalid deployment name" in inspected.stdout


@pytest.mark.slow
def test_an_unreachable_server_is_one_sentence(prefect_server: Any) -> None:
    environment = {**prefect_server.environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    answer = type(prefect_server)(environment).run("prefect", "deployment", "run", "only")
    assert answer.returncode == 1
    assert answer.stderr.strip() == (
        "error: no Prefect server answers at http://127.0.0.1:9/api/; start one with "
        "'prefect server start', or correct PREFECT_API_URL."
    )
