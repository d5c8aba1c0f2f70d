"""One request over a shared pool of connections, and whether it left this machine.

No redirects, no retries, no cookies, no ``.netrc``, no proxy from the environment; what
comes back is capped, received bytes of every kind and the content after decompression. The
HTTP library reads first. What it refuses, or reads too little of, the second reader reads.
"""

import asyncio
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import SimpleNamespace, TracebackType
from typing import Self

import aiohttp
import anyio
from yarl import URL

from refresher import __version__
from refresher.domain.clients import Client
from refresher.domain.outcomes import NotSent, OutcomeUnknown
from refresher.oauth.patience import Patience
from refresher.oauth.requests import WireRequest
from refresher.oauth.transport.connections import (
    HOLDER,
    MALFORMED,
    TOO_LARGE,
    Kept,
    Pool,
    Wire,
)
from refresher.oauth.transport.faults import (
    NO_DESCRIPTORS,
    PLAIN_TO_TLS,
    TRANSPORT_FAULTS,
    is_out_of_descriptors,
    reason_not_sent,
    speaks_of_tls,
    unanswered,
)
from refresher.oauth.transport.names import Resolver
from refresher.oauth.transport.replies import LARGEST_ANSWER, Reply, make_reply
from refresher.oauth.transport.second_reader import Reading, read
from refresher.oauth.transport.trust import CertificateUnusable, Trust, identity_of

CONNECT_WITHIN = 5.0
"""Seconds for name, connection, proxy and TLS; failing there is harmless, so it is short."""

LONGEST_LINE = 64 * 1024
"""Bytes of one header line; company networks add lines of 10,000."""

LINGER = 0.5
"""Seconds without a byte after which an answer whose framing and content disagree is over."""

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds between two looks of the second reader, twice as long each time: a server that
sends byte by byte must not cost the loop a whole reading for each."""

CHEAP_LOOK = 16 * 1024
"""Bytes that the second reader reads in no time. Of more it looks again only at twice as many,
or when nothing comes for a while: a server that sends byte by byte after a flood must not
cost the loop all of its time."""

HEADERS = {
    "Accept": "application/json",  # without it GitHub answers in form encoding (FAILURES 40)
    "Accept-Encoding": "identity",  # a few kilobytes of random characters do not compress
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": f"refresher/{__version__}",
}


@dataclass(slots=True)
class _Exchange:
    """How far one request got; outlives its cancellation by the deadline."""

    patience: Patience
    has_left: bool = False
    wire: Wire | None = None
    kept: Kept | None = None
    response: aiohttp.ClientResponse | None = None
    body: bytearray = field(default_factory=bytearray, repr=False)
    is_whole: bool = False
    """The library has read its answer to the end."""

    def hold(self, wire: Wire, kept: Kept) -> None:
        """Take WIRE for this exchange."""
        self.wire, self.kept = wire, kept

    @property
    def is_sound(self) -> bool:
        """Whether the library's answer is all that came."""
        return self.is_whole and self.kept is not None and self.kept.is_sound()


class Transport:
    """A pool of connections for every client; an async context manager."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._trust = Trust()

    async def __aenter__(self) -> Self:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_mark_left)
        resolver = Resolver()
        self._stack.push_async_callback(resolver.close)
        self._pool = Pool(resolver)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=self._pool,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=HEADERS,
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_WITHIN),
                trace_configs=[trace],
                max_line_size=LONGEST_LINE,
                max_field_size=LONGEST_LINE,
            )
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def send(
        self, client: Client, request: WireRequest, *, patience: Patience
    ) -> Reply | NotSent | OutcomeUnknown:
        """Send REQUEST the way CLIENT goes out (proxy, CA bundle).

        Args:
            patience: how long it may take once the request has left, the body included.
        """
        try:
            context = self._trust.context(client.route.ca_bundle, identity_of(client))
        except CertificateUnusable:
            return NotSent(reason="client_certificate")
        except (OSError, ValueError) as error:
            is_out = is_out_of_descriptors(error)
            return NotSent(reason=NO_DESCRIPTORS if is_out else "ca_bundle")
        exchange = _Exchange(patience)
        fault: Exception | None = None
        try:
            with patience.scope() as scope:
                try:
                    await self._send(client.route.proxy, request, context, exchange)
                except TRANSPORT_FAULTS as error:
                    fault = error
                if exchange.kept is not None and exchange.has_left and not exchange.is_sound:
                    await _receive_the_rest(exchange.kept)
        finally:
            if exchange.wire is not None and exchange.kept is not None:
                self._pool.let_go(exchange.wire, exchange.kept)
        timed_out = scope.cancelled_caught
        if not exchange.has_left:
            if fault is None:
                return NotSent(reason="connect_timeout")
            return NotSent(reason=reason_not_sent(fault, client.route.proxy))
        if timed_out and exchange.wire is not None and exchange.kept and not exchange.kept.received:
            self._pool.distrust(exchange.wire)
        reply = _answer(exchange, fault, timed_out=timed_out)
        if reply is None:
            return unanswered(exchange.kept, fault, timed_out=timed_out)
        if request.url.scheme == "http" and speaks_of_tls(reply):
            return OutcomeUnknown(reason=PLAIN_TO_TLS, status=reply.status)
        return reply

    async def _send(
        self,
        proxy: str | None,
        request: WireRequest,
        context: ssl.SSLContext,
        exchange: _Exchange,
    ) -> None:
        holder = HOLDER.set(exchange)
        try:
            async with self._session.request(
                request.method,
                request.url,
                data=request.body,
                headers=request.headers,
                allow_redirects=False,
                proxy=None if proxy is None else URL(proxy),
                ssl=context,
                trace_request_ctx=exchange,
            ) as response:
                exchange.response = response
                async for chunk in response.content.iter_any():
                    exchange.body += chunk
                    if len(exchange.body) > LARGEST_ANSWER:
                        response.close()
                        return
                exchange.is_whole = True
        finally:
            HOLDER.reset(holder)


async def _mark_left(
    _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceRequestHeadersSentParams
) -> None:
    """Called just before the first byte is written, never for a proxy's CONNECT."""
    context.trace_request_ctx.has_left = True
    context.trace_request_ctx.patience.left()


async def _receive_the_rest(kept: Kept) -> None:
    """Wait until the second reader finds an answer that nothing is missing of.

    Where framing and content agree it is over at once. Where one of them says that
    something is missing, it is over when nothing comes for a while; where both do, when
    the connection ends. The caller's deadline ends it in any case.
    """
    pause, news = FIRST_PAUSE, asyncio.Event()
    kept.news = news
    while not kept.has_ended and kept.refusal in (None, MALFORMED):
        news.clear()
        looked_at = len(kept.received)
        reading = read(bytes(kept.received))
        is_complete = reading is not None and reading.is_complete
        if reading is not None and is_complete and not reading.may_go_on:
            return
        waits = LINGER if is_complete or (reading is not None and reading.closes) else None
        with anyio.move_on_after(waits) as quiet:
            await news.wait()
        if quiet.cancelled_caught:
            return
        await anyio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
        if looked_at > CHEAP_LOOK:
            await _receive_or_linger(kept, 2 * looked_at, news)


async def _receive_or_linger(kept: Kept, size: int, news: asyncio.Event) -> None:
    """Wait until KEPT has SIZE bytes or its end, or nothing comes for a while."""
    while len(kept.received) < size and not kept.has_ended and kept.refusal in (None, MALFORMED):
        news.clear()
        with anyio.move_on_after(LINGER) as quiet:
            await news.wait()
        if quiet.cancelled_caught:
            return


def _answer(exchange: _Exchange, fault: Exception | None, *, timed_out: bool) -> Reply | None:
    """What came back, read by the library or else by the second reader; None for nothing."""
    kept, response = exchange.kept, exchange.response
    assert kept is not None
    broken = "timeout" if timed_out else None if fault is None else "truncated"
    if kept.refusal == TOO_LARGE or len(exchange.body) > LARGEST_ANSWER:
        broken = TOO_LARGE
    body = bytes(exchange.body)
    reading = None if exchange.is_sound else read(bytes(kept.received))
    if response is not None and (reading is None or _is_enough(body, reading)):
        return make_reply(response.status, response.headers, body, broken)
    if reading is None:
        return None
    if reading.status >= 300 and not reading.is_http:  # noqa: PLR2004  what is no success
        return None
    if b"_token" in kept.received and b"_token" not in reading.body:
        return None  # whatever tore the body away from its tokens: all bytes are kept
    return make_reply(
        reading.status, reading.headers, reading.body, _missing(reading, kept, broken),
        is_lenient=True,
    )  # fmt: skip


def _is_enough(body: bytes, reading: Reading) -> bool:
    """Whether the library read as much of an answer as the second reader did."""
    if reading.closes:
        return body.strip() == reading.body.strip()
    return len(body) >= len(reading.body.strip())


def _missing(reading: Reading, kept: Kept, broken: str | None) -> str | None:
    """Why the second reader's body may not be all of the answer; None when it is."""
    if reading.closes:
        return None
    if reading.is_left_over:
        return broken if broken == TOO_LARGE else "left_over"
    is_whole = reading.is_complete or (kept.has_ended and not _is_framed(reading))
    return broken if broken == TOO_LARGE else None if is_whole else (broken or "truncated")


def _is_framed(reading: Reading) -> bool:
    return "Content-Length" in reading.headers or "Transfer-Encoding" in reading.headers
