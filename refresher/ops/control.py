"""The control socket: how commands reach a running daemon.

Its file mode is the whole of its access control (see ``socket_file``): whoever runs as
the daemon's user, and root. Secrets travel over it (a pasted authorization code, a
static token), so nothing of a request is ever logged.
"""

import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from aiohttp import web

from refresher.acting import Actor, acting, operator
from refresher.logs import Event, emit
from refresher.ops.health import Judge
from refresher.ops.http_listener import probe_routes
from refresher.ops.protocol import JSON, Fault, Operation
from refresher.ops.serving import json_answer, problem_answer, serving
from refresher.ops.socket_file import bind_socket_file
from refresher.threads import in_thread_of_its_own

BODY_WITHIN = 10.0
"""Seconds for the body of a request to come."""

FINISH_WITHIN = 30.0
"""Seconds for operations in flight at shutdown: the longest exchange takes as many."""


DESCRIPTION = Path(__file__).parent / "openapi.json"
"""What the socket offers, in OpenAPI 3.1; made by ``python -m tests.openapi``."""

_PEER = struct.Struct("3i")
"""``struct ucred`` of unix(7): process, user and group."""


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """An operation in flight."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class ControlServer:
    """Answers operations on a Unix socket.

    A command that goes away does not cancel its operation: the exchange of a pasted
    authorization code must be committed whoever still listens.
    """

    def __init__(
        self,
        path: Path,
        *,
        operations: Mapping[str, Operation],
        is_ready: Judge,
        finish_within: float = FINISH_WITHIN,
    ) -> None:
        self._path = path
        self._operations = operations
        self._is_ready = is_ready
        self._finish_within = finish_within
        self._in_flight: set[_Call] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer until the block ends; then see those in flight through.

        Operations still in flight after ``finish_within`` seconds are cancelled, and the
        block ends only once they have.

        Raises:
            ListenerRefused: the socket cannot be opened, or another daemon listens there.
        """
        file = bind_socket_file(self._path)
        routes = [
            web.post("/v1/{operation}", self._answer),
            web.get("/openapi.json", _describe),
            *probe_routes(self._is_ready),
        ]
        try:
            async with serving(routes, [file.socket]) as connections:
                emit(Event.CONTROL_OPENED, path=str(self._path))
                try:
                    yield
                finally:
                    with anyio.CancelScope(shield=True):
                        await connections.stop_accepting()
                        await self._see_through()
        finally:
            file.socket.close()
            file.unlink()

    async def _see_through(self) -> None:
        with anyio.move_on_after(self._finish_within):
            while self._in_flight:
                await next(iter(self._in_flight)).ended.wait()
        while self._in_flight:
            for call in self._in_flight:
                call.scope.cancel()
            await next(iter(self._in_flight)).ended.wait()

    async def _answer(self, request: web.Request) -> web.Response:
        operation = self._operations.get(request.match_info["operation"])
        if operation is None:
            raise web.HTTPNotFound
        try:
            with anyio.fail_after(BODY_WITHIN):
                parameters = await _read_parameters(request)
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        if parameters is None:
            return problem_answer(Fault.MALFORMED_REQUEST, "the body must be one JSON object")
        with acting(_peer(request)):
            return await self._run(operation, parameters)

    async def _run(self, operation: Operation, parameters: Mapping[str, JSON]) -> web.Response:
        call = _Call()
        self._in_flight.add(call)
        try:
            with call.scope:
                return json_answer(await operation(parameters))
        finally:
            self._in_flight.discard(call)
            call.ended.set()
        return problem_answer(
            Fault.STOPPED,
            "the daemon stopped before this ended; it may have been carried out in part",
        )


async def _describe(_: web.Request) -> web.Response:
    """What the socket offers."""
    text = await in_thread_of_its_own(DESCRIPTION.read_text)
    return web.Response(text=text, content_type="application/json")


def _peer(request: web.Request) -> Actor:
    """Whose process asks, as the kernel knows it."""
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    pid, uid, _ = _PEER.unpack(
        connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    )
    return operator(uid, pid)


async def _read_parameters(request: web.Request) -> Mapping[str, JSON] | None:
    """The JSON object of the body, or None; what could not be read is nobody's to see."""
    try:
        parameters = json.loads(await request.read())
    except (ValueError, RecursionError, ConnectionError, web.RequestPayloadError):
        return None
    return parameters if isinstance(parameters, dict) else None
