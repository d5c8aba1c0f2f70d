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
from refresher.ops.problems import MEDIA_TYPE, PROBLEMS, problem, type_of
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


def problem_answer(kind: str, detail: str, *, parameter: str | None = None) -> web.Response:
    """A problem as both ends agreed on; see ``problem``."""
    response = json_answer(
        problem(kind, detail, parameter=parameter), HTTPStatus(PROBLEMS[kind].status)
    )
    response.content_type = MEDIA_TYPE
    return response


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer that shows no more than is fit.

    Only a ``RefresherError`` is told by its text. Any other may quote what it failed on,
    so neither the answer nor the log has more of it than its class and its frames.
    """
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _protocol_fault(HTTPStatus(error.status), error.headers.get("Allow"))
    except ParameterRefused as error:
        return problem_answer(type_of(error), str(error), parameter=error.parameter)
    except RefresherError as error:
        return problem_answer(type_of(error), str(error))
    except Exception as error:  # noqa: BLE001  the supervision point of operations: a bug in one must not end the daemon
        emit(
            Event.OPERATION_FAILED,
            task=request.path,
            error=type(error).__name__,
            traceback=frames(error),
        )
        return problem_answer(Fault.INTERNAL_ERROR, "the daemon met a bug; its log says where")


def _protocol_fault(status: HTTPStatus, allowed: str | None) -> web.Response:
    match status:
        case HTTPStatus.NOT_FOUND:
            return problem_answer(Fault.UNKNOWN_OPERATION, "there is no such operation")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            response = problem_answer(Fault.WRONG_METHOD, f"this takes {allowed}")
            response.headers["Allow"] = allowed or ""
            return response
        case HTTPStatus.REQUEST_TIMEOUT:
            return problem_answer(Fault.REQUEST_TIMEOUT, "the body did not come in time")
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            detail = f"a request may have {MAX_BODY} bytes; send more in several"
            return problem_answer(Fault.REQUEST_TOO_LARGE, detail)
        case _:
            return problem_answer(Fault.MALFORMED_REQUEST, status.phrase)
