"""aiohttp.web as this room uses it: no access log, no text of an exception anywhere."""

import json
import logging
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler

from refresher.errors import ParameterRefused, RefresherError
from refresher.listening import Connections
from refresher.logs import Event, emit, frames
from refresher.ops.protocol import JSON, MAX_BODY, Fault

SEND_TIMEOUT = 1.0
"""Seconds at the end to send the answers already made."""

LINGER = 1.0
"""Seconds to read on what a peer sends although it was answered."""

_LOGGER = logging.getLogger("refresher.ops.serving")
"""aiohttp tells it the head of a request that cannot be parsed; of that a line has no more
than its first words (``logs.libraries``)."""


@asynccontextmanager
async def serving(
    routes: Iterable[web.RouteDef], listeners: Sequence[socket.socket]
) -> AsyncIterator[Connections]:
    """Serve ROUTES on LISTENERS, which are bound, until the block ends; they are closed then.

    Handlers must have ended by then, or do so at once: aiohttp forgets a handler whose
    client went away, so only its owner can see it through.
    """

    @web.middleware
    async def at_work(request: web.Request, handler: Handler) -> web.StreamResponse:
        with connections.at_work(request.protocol):
            return await handler(request)

    app = web.Application(middlewares=[at_work, _answer_errors], client_max_size=MAX_BODY)
    app.add_routes(routes)
    runner = web.AppRunner(
        app,
        handle_signals=False,
        access_log=None,
        logger=_LOGGER,
        lingering_time=LINGER,
        shutdown_timeout=SEND_TIMEOUT,
    )
    await runner.setup()
    assert runner.server is not None
    connections = Connections(runner.server)
    try:
        async with connections.accepted(listeners):
            yield connections
    finally:
        with anyio.CancelScope(shield=True):
            await runner.cleanup()


def json_answer(content: JSON, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """CONTENT as a response.

    Raises:
        TypeError, ValueError: CONTENT is not JSON.
    """
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return web.Response(text=text, status=status, content_type="application/json")


def fault_answer(
    status: HTTPStatus, kind: str, message: str, *, parameter: str | None = None
) -> web.Response:
    """An error as both ends agreed on.

    Args:
        parameter: the first one that is missing, unknown or wrong.
    """
    named = {} if parameter is None else {"parameter": parameter}
    return json_answer({"error": {"kind": kind, "message": message, **named}}, status)


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer that shows no more than is fit.

    Only a ``RefresherError`` is told by its text. Any other may quote what it failed on,
    so neither the answer nor the log has more of it than its class and its frames.
    """
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _protocol_fault(HTTPStatus(error.status))
    except ParameterRefused as error:
        kind, text = type(error).__name__, str(error)
        return fault_answer(HTTPStatus.BAD_REQUEST, kind, text, parameter=error.parameter)
    except RefresherError as error:
        return fault_answer(HTTPStatus.UNPROCESSABLE_ENTITY, type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001  the supervision point of operations: a bug in one must not end the daemon
        emit(
            Event.OPERATION_FAILED,
            task=request.path,
            error=type(error).__name__,
            traceback=frames(error),
        )
        return fault_answer(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            Fault.INTERNAL_ERROR,
            "the daemon met a bug; its log says where",
        )


def _protocol_fault(status: HTTPStatus) -> web.Response:
    match status:
        case HTTPStatus.NOT_FOUND:
            kind, message = Fault.UNKNOWN_OPERATION, "there is no such operation"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            kind = Fault.REQUEST_TOO_LARGE
            message = f"a request may have {MAX_BODY} bytes; send more in several"
        case _:
            kind, message = Fault.MALFORMED_REQUEST, status.phrase
    return fault_answer(status, kind, message)
