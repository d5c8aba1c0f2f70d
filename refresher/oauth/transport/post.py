"""One request over a shared pool of connections, and whether it left this machine.

No redirects, no retries, no cookies, no ``.netrc``, no proxy from the environment; what
comes back is capped, received bytes of every kind and the content after decompression. The
HTTP library reads first. What it refuses, or reads too little of, the second reader reads.
"""

import asyncio
import re
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import anyio
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader
from yarl import URL

from refresher import __version__
from refresher.domain.clients import Client, Route
from refresher.domain.outcomes import NotSent, OutcomeUnknown
from refresher.oauth.patience import Patience
from refresher.oauth.requests import Head, WireRequest
from refresher.oauth.transport.connections import (
    MALFORMED,
    TOO_LARGE,
    Kept,
    Pool,
    Way,
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
from refresher.oauth.transport.trust import CertificateUnusable, Shown, Trust, identity_of

CONNECT_WITHIN = 5.0
"""Seconds for name, connection, proxy and TLS; failing there is harmless, so it is short."""

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

_LINE_END = re.compile(r"[\r\n\0]")


@dataclass(slots=True)
class _Exchange:
    """How far one request got; outlives its cancellation by the deadline."""

    patience: Patience
    has_left: bool = False
    wire: Wire | None = None
    kept: Kept | None = None
    message: RawResponseMessage | None = None
    """The head of the answer, as the library has read it."""
    body: bytearray = field(default_factory=bytearray, repr=False)
    is_whole: bool = False
    """The library has read its answer to the end."""
    is_sound: bool = False
    """And that answer is all that came."""

    def leaves(self) -> None:
        """The first byte of the request is about to be written."""
        self.has_left = True
        self.patience.left()

    def judge(self) -> None:
        """Look at what came, once nothing more is expected or wanted."""
        self.is_sound = self.is_whole and self.kept is not None and self.kept.is_sound()


class Transport:
    """A pool of connections for every client; an async context manager.

    It goes below the library's session, whose redirects, cookies, retries, timers and
    middlewares take half of the time of an exchange and are all switched off here.
    """

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._trust = Trust()
        self._ways: dict[tuple[URL, Route, Shown | None], Way] = {}
        """The way of each client to each server: as many as there are in the settings."""

    async def __aenter__(self) -> Self:
        resolver = Resolver()
        self._stack.push_async_callback(resolver.close)
        self._pool = Pool(resolver, connect_within=CONNECT_WITHIN)
        self._stack.push_async_callback(self._pool.close)
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
        if patience.is_given_up:
            return NotSent(reason="connect_timeout")
        exchange = _Exchange(patience)
        fault, timed_out = await self._exchange(client, request, context, exchange)
        if not exchange.has_left:
            if fault is None:
                return NotSent(reason="connect_timeout")
            return NotSent(reason=reason_not_sent(fault, client.route.proxy))
        if timed_out and exchange.wire is not None and exchange.kept and not exchange.kept.received:
            self._pool.distrust(exchange.wire)
        reply = _answer(exchange, fault, timed_out=timed_out)
        if reply is None:
            return unanswered(exchange.kept, fault, timed_out=timed_out)
        if request.head.url.scheme == "http" and speaks_of_tls(reply):
            return OutcomeUnknown(reason=PLAIN_TO_TLS, status=reply.status)
        return reply

    def _way(self, client: Client, origin: URL, context: ssl.SSLContext) -> Way:
        """The way of CLIENT to ORIGIN; made anew with CONTEXT when one of its files is replaced."""
        which = (origin, client.route, identity_of(client))
        way = self._ways.get(which)
        if way is None or way.ssl is not context:
            proxy = None if client.route.proxy is None else URL(client.route.proxy)
            way = Way("GET", origin, headers=HEADERS, proxy=proxy, ssl=context)
            self._ways[which] = way
        return way

    async def _exchange(
        self,
        client: Client,
        request: WireRequest,
        context: ssl.SSLContext,
        exchange: _Exchange,
    ) -> tuple[Exception | None, bool]:
        """Send REQUEST and receive what comes; what went wrong, and whether patience ended."""
        fault: Exception | None = None
        timed_out = False
        try:
            async with exchange.patience.limit():
                try:
                    await self._send(client, request, context, exchange)
                except TRANSPORT_FAULTS as error:
                    fault = error
                exchange.judge()
                if exchange.kept is not None and exchange.has_left and not exchange.is_sound:
                    await _receive_the_rest(exchange.kept)
                    exchange.judge()
        except TimeoutError:
            timed_out = True
            exchange.judge()
        finally:
            if exchange.wire is not None and exchange.kept is not None:
                self._pool.let_go(exchange.wire, exchange.kept)
        return fault, timed_out

    async def _send(
        self,
        client: Client,
        request: WireRequest,
        context: ssl.SSLContext,
        exchange: _Exchange,
    ) -> None:
        way = self._way(client, request.head.url.origin(), context)
        connection, wire, kept = await self._pool.lend(way)
        exchange.wire, exchange.kept = wire, kept
        try:
            wire.listen()
            _write(wire, way, request, exchange)
            exchange.message, content = await _head_of_answer(wire)
            while chunk := await content.readany():
                exchange.body += chunk
                if len(exchange.body) > LARGEST_ANSWER:
                    return
            exchange.is_whole = True
        finally:
            if exchange.is_whole:
                connection.release()
            else:
                connection.close()


def _write(wire: Wire, way: Way, request: WireRequest, exchange: _Exchange) -> None:
    """Write REQUEST in one piece; nobody waits for the server to take it before it answers."""
    head, body = request.head, request.body
    if head.written is None or head.written[0] is not way:
        head.written = way, _written(way, head)
    written, ends = head.written[1], b"\r\n"
    if body is not None:
        ends = b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    exchange.leaves()
    wire.send(written + ends)


def _written(way: Way, head: Head) -> bytes:
    """HEAD as it goes by WAY, up to the length of the body.

    Raises:
        ValueError: something in it would end a line.
    """
    is_forwarded = way.proxy is not None and not way.is_ssl()
    target = str(head.url) if is_forwarded else head.url.raw_path_qs
    headers = way.headers.copy()
    headers.update(head.headers)
    lines = [f"{head.method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if any(_LINE_END.search(line) for line in lines):
        raise ValueError("a header of a request would end a line")
    return "".join(f"{line}\r\n" for line in lines).encode()


async def _head_of_answer(wire: Wire) -> tuple[RawResponseMessage, StreamReader]:
    """The head of the final answer (RFC 9110 15.2), and what its body is read from."""
    while True:
        message, content = await wire.read()
        if not 100 <= message.code < 200 or message.code == 101:  # noqa: PLR2004
            return message, content


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
    kept, message = exchange.kept, exchange.message
    assert kept is not None
    broken = "timeout" if timed_out else None if fault is None else "truncated"
    if kept.refusal == TOO_LARGE or len(exchange.body) > LARGEST_ANSWER:
        broken = TOO_LARGE
    body = bytes(exchange.body)
    reading = None if exchange.is_sound else read(bytes(kept.received))
    if message is not None and (reading is None or _is_enough(body, reading)):
        return make_reply(message.code, message.headers, body, broken)
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
