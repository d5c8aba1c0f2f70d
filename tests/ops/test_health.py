"""Liveness and readiness on both listeners, and the container's check."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import anyio
import pytest
from anyio.abc import SocketStream

from refresher.ops.control import ControlServer
from refresher.ops.health import Judge, Probe, Verdict, check_health
from refresher.ops.http_listener import _split, probe_routes, serving_http
from refresher.ops.socket_file import ListenerRefused
from tests.ops.conftest import CANARY

VAULT_FAILS = Verdict(("the vault cannot be written: disk full",))


def broken() -> Verdict:
    raise RuntimeError(CANARY)


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "control.sock"


async def get(port: int, route: str) -> tuple[int, dict[str, object]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}{route}") as response,
    ):
        return response.status, json.loads(await response.text())


async def test_a_failing_vault_is_unready_not_dead(path: Path) -> None:
    async with (
        ControlServer(path, operations={}, is_ready=lambda: VAULT_FAILS).serving(),
        serving_http("127.0.0.1:0", probe_routes(lambda: VAULT_FAILS)) as port,
    ):
        assert await get(port, "/livez") == (200, {"ok": True, "reasons": []})
        assert await get(port, "/readyz") == (
            503,
            {"ok": False, "reasons": list(VAULT_FAILS.reasons)},
        )
        assert await check_health(path) == Verdict()
        assert await check_health(path, probe=Probe.READY) == VAULT_FAILS


async def test_a_standing_loop_is_dead(path: Path) -> None:
    """Nobody answers in its stead."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    with listener:
        verdict = await check_health(path, answer_within=0.05)
    assert verdict.reasons == (f"the daemon on {path} did not answer within 0.05 s",)


async def test_the_control_socket_answers_503_too(path: Path) -> None:
    async with (
        ControlServer(path, operations={}, is_ready=lambda: VAULT_FAILS).serving(),
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.get("http://localhost/readyz") as response,
    ):
        assert response.status == 503


@pytest.mark.parametrize("route", ["/v1/echo", "/", "/health/live", "/livez/x"])
async def test_tcp_has_the_probes_and_nothing_else(healthy: Judge, route: str) -> None:
    async with (
        serving_http("127.0.0.1:0", probe_routes(healthy)) as port,
        aiohttp.ClientSession() as session,
    ):
        for method in ("GET", "POST"):
            async with session.request(method, f"http://127.0.0.1:{port}{route}") as response:
                assert response.status == 404


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert _split("[::1]:9464") == ("::1", 9464)


async def test_a_judge_that_fails_is_not_ready(path: Path, no_canary_anywhere: None) -> None:
    async with (
        ControlServer(path, operations={}, is_ready=broken).serving(),
        serving_http("127.0.0.1:0", probe_routes(broken)) as port,
    ):
        status, answer = await get(port, "/readyz")
        assert status == 500
        assert CANARY not in str(answer)
        verdict = await check_health(path, probe=Probe.READY)
    assert verdict.reasons == ("the daemon could not tell how it is; its log says why",)


@pytest.mark.parametrize(
    "address", ["8080", ":8080", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "127.0.0.1:-1"]
)
async def test_a_malformed_address_is_refused(healthy: Judge, address: str) -> None:
    with pytest.raises(ListenerRefused, match="is not host:port"):
        async with serving_http(address, probe_routes(healthy)):
            pass


async def test_a_taken_port_is_named(healthy: Judge) -> None:
    async with serving_http("127.0.0.1:0", probe_routes(healthy)) as port:
        with pytest.raises(ListenerRefused, match=f"cannot listen on .*:{port}"):
            async with serving_http(f"127.0.0.1:{port}", probe_routes(healthy)):
                pass


async def test_errors_of_the_caller_pass_unchanged(healthy: Judge) -> None:
    with pytest.raises(OSError, match="mine"):
        async with serving_http("127.0.0.1:0", probe_routes(healthy)):
            raise OSError("mine")


async def test_no_daemon_is_a_verdict(path: Path) -> None:
    verdict = await check_health(path)
    assert verdict.reasons == (f"no daemon answers on {path}: No such file or directory",)


async def say_nothing(stream: SocketStream) -> None:
    async with stream:
        await anyio.sleep_forever()


async def hang_up(stream: SocketStream) -> None:
    await stream.aclose()


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [(say_nothing, "did not answer within"), (hang_up, "could not tell|closed the connection")],
    ids=["silent", "hanging up"],
)
async def test_an_odd_listener_is_not_healthy(
    path: Path, behaviour: Callable[[SocketStream], Awaitable[None]], reason: str
) -> None:
    async with anyio.create_task_group() as tasks, await anyio.create_unix_listener(path) as server:
        tasks.start_soon(server.serve, behaviour)
        verdict = await check_health(path, answer_within=0.05)
        tasks.cancel_scope.cancel()
    (only,) = verdict.reasons
    assert re.search(reason, only)


def test_the_check_starts_without_heavy_libraries() -> None:
    script = (
        "import sys, refresher.ops.health\n"
        "print(sorted({'aiohttp', 'structlog', 'sqlalchemy', 'pydantic'} & sys.modules.keys()))"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert ended.stdout == b"[]\n"
