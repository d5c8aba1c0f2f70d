"""The two probes, on the control socket and, if wanted, on a TCP address beside the metrics.

The TCP listener has these routes and nothing else. They tell no secret and change nothing, so
an address beyond loopback (a kubelet's probe needs one) is the operator's choice.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import web

from refresher.ops.health import Judge, Probe, Verdict
from refresher.ops.serving import json_answer, serving
from refresher.ops.socket_file import ListenerRefused

MAX_PORT = 65535


def probe_routes(is_ready: Judge) -> list[web.RouteDef]:
    """``GET /livez``, a yes if it comes, and ``/readyz``: 200 or 503, with reasons."""
    return [
        web.get(f"/{Probe.LIVE}", _answering(Verdict)),
        web.get(f"/{Probe.READY}", _answering(is_ready)),
    ]


@asynccontextmanager
async def serving_http(address: str, routes: Iterable[web.RouteDef]) -> AsyncIterator[int]:
    """Serve ROUTES on ADDRESS until the block ends; gives the bound port.

    Args:
        address: ``host:port`` or ``[ipv6]:port``; port 0 takes a free one.

    Raises:
        ListenerRefused: the address is malformed, taken or not this machine's.
    """
    listeners = await _bind(*_split(address))
    bound_port: int = listeners[0].getsockname()[1]
    async with serving(routes, listeners):
        yield bound_port


def _answering(judge: Judge) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        verdict = judge()
        status = HTTPStatus.OK if verdict.passed else HTTPStatus.SERVICE_UNAVAILABLE
        return json_answer({"ok": verdict.passed, "reasons": verdict.reasons}, status)

    return answer


async def _bind(host: str, port: int) -> list[socket.socket]:
    """A listener for each address that HOST has."""
    listeners: list[socket.socket] = []
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, *_, where in dict.fromkeys(found):
            listeners.append(socket.create_server(where[:2], family=family))
    except OSError as error:
        for listener in listeners:
            listener.close()
        reason = error.strerror or type(error).__name__
        raise ListenerRefused(f"cannot listen on {host}:{port}: {reason}") from error
    return listeners


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise ListenerRefused(f"the address {address!r} of http.listen is not host:port")
    return host, int(port)
