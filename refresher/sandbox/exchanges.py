"""Carries token requests through faults, latency and the log.

A request that has arrived is processed in a task of its own, whatever becomes of the
client: as at a real server, a client that dies while it waits has still spent its refresh
token. The handler only waits for that task and delivers; aiohttp cancels it the moment
the connection ends, which is how ``gone_at`` is known.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Callable
from urllib.parse import parse_qsl

import anyio
from aiohttp import web
from anyio.abc import TaskGroup

from refresher.sandbox.answers import Answer, Refused
from refresher.sandbox.authorization_server import AuthorizationServer
from refresher.sandbox.exchange_log import ExchangeRecord
from refresher.sandbox.faults import (
    DropAfter,
    DropBefore,
    Fault,
    FaultPlan,
    disguise,
    is_processed,
    waits,
)
from refresher.sandbox.machines import JWT_BEARER
from refresher.sandbox.messages import TokenRequest
from refresher.sandbox.options import SandboxOptions

_FORM = "application/x-www-form-urlencoded"

# struct linger: on, zero seconds. Closing the socket then sends a TCP RST.
_LINGER_NOTHING = struct.pack("ii", 1, 0)


class _Exchange:
    """One token request under way; ``delivery`` is set when the work is done."""

    def __init__(self, record: ExchangeRecord, request: TokenRequest, fault: Fault | None) -> None:
        self.record = record
        self.request = request
        self.fault = fault
        self.done = anyio.Event()
        self.delivery: Answer | DropBefore | DropAfter = DropBefore()


class TokenExchanges:
    """The token endpoint's HTTP side.

    Args:
        tasks: outlives the connections; its end drops what is still unanswered.
    """

    def __init__(
        self,
        *,
        server: AuthorizationServer,
        plan: FaultPlan,
        log: list[ExchangeRecord],
        tasks: TaskGroup,
        clock: Callable[[], float],
    ) -> None:
        self._server = server
        self._plan = plan
        self._log = log
        self._tasks = tasks
        self._clock = clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one token request, or the way its fault wants it."""
        token_request = await read_token_request(request, self._server.options)
        exchange = self._open(request, token_request)
        self._tasks.start_soon(self._work, exchange, str(request.url.with_query(None)))
        record = exchange.record
        try:
            await exchange.done.wait()
        except asyncio.CancelledError:
            record.gone_at, record.client_gone = self._clock(), True
            raise
        return self._deliver(request, exchange)

    def _open(self, request: web.Request, token_request: TokenRequest) -> _Exchange:
        parameters = token_request.parameters
        presented = self._server.families.locate(parameters.get("refresh_token", ""))
        family = presented.family if presented else None
        fault = self._plan.next_for(family.family_id if family else None)
        peer = request.transport.get_extra_info("peername") if request.transport else None
        record = ExchangeRecord(
            sequence=len(self._log) + 1,
            family_id=family.family_id if family else None,
            subject=family.subject if family else None,
            client_id=family.client_id if family else parameters.get("client_id"),
            grant_type=parameters.get("grant_type"),
            generation=presented.generation if presented else None,
            arrived_at=self._clock(),
            peer=(peer[0], peer[1]) if peer else None,
            user_agent=request.headers.get("User-Agent"),
            fault=fault.kind if fault else None,
        )
        self._log.append(record)
        return _Exchange(record, token_request, fault)

    async def _work(self, exchange: _Exchange, token_endpoint: str) -> None:
        latency_before, latency_after = self._plan.draw_waits()
        fault_before, fault_after = waits(exchange.fault)
        try:
            await _wait(latency_before + fault_before)
            answer = self._process(exchange) if is_processed(exchange.fault) else None
            await _wait(latency_after + fault_after)
            exchange.delivery = disguise(
                exchange.fault,
                answer,
                token_endpoint=token_endpoint,
                presented=exchange.request.parameters.get("refresh_token", ""),
                now=self._clock(),
            )
            if isinstance(exchange.delivery, Answer):
                exchange.record.status = exchange.delivery.status
        finally:
            exchange.done.set()

    def _process(self, exchange: _Exchange) -> Answer:
        processed = self._server.token(exchange.request)
        answer = self._server.options.manners.write(processed.answer, self._clock())
        record = exchange.record
        record.processed_at = self._clock()
        record.error = processed.answer.error
        record.generation_issued = processed.generation
        if processed.family is not None:
            record.family_id = processed.family.family_id
            record.subject = processed.family.subject
            record.client_id = processed.family.client_id
        return answer

    def _deliver(self, request: web.Request, exchange: _Exchange) -> web.StreamResponse:
        record, delivery = exchange.record, exchange.delivery
        transport = request.transport
        if transport is None or transport.is_closing():
            record.gone_at, record.client_gone = self._clock(), True
            return web.Response()
        if isinstance(delivery, Answer):
            # Taken before the bytes leave: what the client sends next arrives later.
            record.answered_at = self._clock()
            return http_response(delivery)
        record.gone_at = self._clock()
        if delivery.reset:
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOTHING)
        transport.abort()
        # aiohttp wants a response; on the closed transport it sends nothing.
        return web.Response()


def http_response(answer: Answer) -> web.Response:
    """The answer as aiohttp sends it."""
    if answer.cut_after is None:
        return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
    headers = {**answer.headers, "Content-Length": str(len(answer.body))}
    body = answer.body[: answer.cut_after]
    response = web.Response(status=answer.status, headers=headers, body=body)
    response.force_close()
    return response


async def read_token_request(request: web.Request, options: SandboxOptions) -> TokenRequest:
    """Read the parameters from where they may be, with the form's own errors."""
    parameters_in = options.parameters_in
    pairs: list[tuple[str, str]] = []
    problem: Refused | None = None
    if parameters_in in {"query", "get", "either"}:
        pairs += request.query.items()
    body = await request.read()
    if parameters_in in {"form", "either"} and body:
        if request.content_type == _FORM:
            pairs += parse_qsl(body.decode(errors="replace"), keep_blank_values=True)
        else:
            problem = Refused("invalid_request", "the body is not a form")
    if parameters_in == "json":
        if request.content_type == "application/json":
            pairs += json.loads(body).items()
        else:
            problem = Refused("invalid_request", "the body is not JSON")
    if (request.method == "GET") != (parameters_in == "get"):
        problem = Refused("invalid_request", "that is another method's place")
    parameters = dict(pairs)
    for name in ("audience", "resource"):  # RFC 8693 section 2.1: as often as there are some
        if name in parameters:
            parameters[name] = " ".join(value for key, value in pairs if key == name)
    single = [key for key, _ in pairs if key not in {"audience", "resource"}]
    if len(set(single)) < len(single):
        # RFC 6749 section 3.2: parameters must not be included more than once.
        problem = Refused("invalid_request", "a parameter is repeated")
    parameters = options.manners.read(parameters) | _installation(request)
    try:
        options.manners.check(parameters, request.headers, request.path)
    except Refused as refused:
        problem = problem or refused
    return TokenRequest(
        parameters=parameters,
        authorization=request.headers.get("Authorization"),
        problem=problem,
    )


def _installation(request: web.Request) -> dict[str, str]:
    """What a request for an installation's token says in its address and header, as a grant."""
    installation = request.match_info.get("installation")
    if installation is None:
        return {}
    assertion = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return {"grant_type": JWT_BEARER, "assertion": assertion, "installation": installation}


async def _wait(seconds: float) -> None:
    if seconds > 0:
        await anyio.sleep(seconds)
