"""Connections that keep every byte below the HTTP library, and the pool they wait in.

The library refuses an answer for reasons that browsers and curl read past, and closes the
connection at once: the rest of the only good refresh token would be lost on its way. So a
refusal ends nothing here. The bytes that came are kept, more are read until the exchange
lets go, and the second reader looks at them.
"""

import asyncio
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, cast

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage

from refresher.oauth.transport.replies import LARGEST_ANSWER
from refresher.oauth.transport.second_reader import EMPTY_STATUSES

MOST_RECEIVED = LARGEST_ANSWER + 128 * 1024
"""Bytes of every kind for one exchange: interim answers, head, framing and body."""

MOST_INTERIM = 8
"""Interim answers (1xx) for one exchange; real servers send one or two."""

KEEP_ALIVE = 4.0
"""Seconds an idle connection may be used again. A server that closes it just then leaves an
unknown outcome, so it ends before the usual 5 s of Node, Apache and uvicorn do; where speed
counts, a connection is not idle for a second."""

LONGEST_LINE = 64 * 1024
"""Bytes of one header line; company networks add lines of 10,000."""

PIECE = 4096
"""Bytes the library parses at a time: a flood is refused after the first, not after 256 KiB."""

SILENCE = 10.0
"""Seconds without a byte after which a connection that was used before counts as dead."""

NO_REUSE = 3600.0
"""Seconds for which no connection to a server is used again after one of them was dead: what
dropped it without a word (a box on the way, the server itself) will do it again, and each
time costs an exchange its whole deadline."""

MALFORMED = "malformed"
TOO_LARGE = "too_large"
INTERIM = "interim_answers"


@dataclass(slots=True, eq=False)
class Kept:
    """What came over one connection for one exchange, and how far the library got."""

    since: float
    """When the exchange began, in the loop's time."""
    received: bytearray = field(default_factory=bytearray, repr=False)
    message: RawResponseMessage | None = None
    """The head of the answer, once the library has read it."""
    interim: int = 0
    refusal: str | None = None
    """Why the library reads no further: ``malformed``, ``too_large``, ``interim_answers``."""
    has_ended: bool = False
    """The connection is closed: nothing more will come."""
    news: asyncio.Event | None = None
    """Set when something came, and when the connection ended; made by whoever waits."""

    def tell(self) -> None:
        """Wake whoever waits for news."""
        if self.news is not None:
            self.news.set()

    def is_sound(self) -> bool:
        """Whether the library's answer is exactly what came, with JSON that closes.

        Anything else closes the connection: bytes left over could be read as the answer to
        another grant's request. Doubt is cheap here, since it costs a connection only.
        """
        message, received = self.message, self.received
        head = received.find(b"\r\n\r\n") + 4
        if message is None or self.refusal is not None or head < 4:  # noqa: PLR2004
            return False
        if message.chunked:
            ends_here = received.endswith(b"\r\n0\r\n\r\n")
        elif "Content-Length" in message.headers:
            ends_here = len(received) == head + int(message.headers["Content-Length"])
        else:
            ends_here = message.code not in EMPTY_STATUSES or len(received) == head
        if not ends_here or message.compression is not None:
            return ends_here
        is_empty = len(received) == head or received.startswith(b"0\r", head)
        if is_empty and message.code == 200:  # noqa: PLR2004  a length short of everything
            return False
        return received.count(b"{", head) == received.count(b"}", head)


class Wire(ResponseHandler):
    """One connection: hands the library every byte, and keeps it as well."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.made_at = loop.time()
        self.place: tuple[str, int | None] = ("", None)
        self._kept: Kept | None = None
        self._is_held = False
        self._is_closing = False
        """The library is done with this connection, and the exchange is not."""
        self._is_soiled = False
        """Something came, or the end, while no exchange had this connection."""
        self.exchanges = 0
        """How many had this connection so far."""
        self._poll: select.poll | None = None
        """Looks into the kernel for what the loop has not seen; made once."""

    def hold(self) -> Kept:
        """Begin an exchange: from now on what comes is kept, and no end closes it."""
        self._kept, self._is_held = Kept(self._loop.time()), True
        self.exchanges += 1
        return self._kept

    def let_go(self, kept: Kept) -> None:
        """End the exchange of KEPT; another one may have this connection already."""
        if self._kept is not kept:
            return
        self._kept, self._is_held = None, False
        if self._is_closing:
            super().close()

    def is_fit(self) -> bool:
        """Whether a request may be sent: nothing came that nobody had asked for.

        An idle connection may have been closed, or written to, without the loop having
        looked. On a new one only TLS lets the server speak first (its session tickets).
        """
        transport = self.transport
        if transport is None or transport.is_closing() or self._is_soiled:
            return False
        if self._kept is not None and not self._kept.is_sound():
            return False
        is_quiet = self.exchanges > 0 or transport.get_extra_info("sslcontext") is None
        return not (is_quiet and self._is_readable(transport))

    def _is_readable(self, transport: asyncio.Transport) -> bool:
        """Whether bytes or the end wait in the kernel for the loop to look."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    @property
    def should_close(self) -> bool:
        """Asked by the pool when the library has read its answer."""
        return super().should_close or (self._kept is not None and not self._kept.is_sound())

    def close(self) -> None:
        """Close the connection, once the exchange that holds it lets go."""
        if self._is_held:
            self._is_closing = True
        else:
            super().close()

    def listen(self) -> None:
        """The next thing that comes is the answer to a request of ours."""
        self.set_response_params(
            read_until_eof=True,
            auto_decompress=False,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )

    def send(self, request: bytes) -> None:
        """Write a whole REQUEST.

        Raises:
            aiohttp.ClientConnectionResetError: the connection has ended.
        """
        if self.transport is None or self.transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection has ended")
        self.transport.write(request)

    def set_response_params(self, **params: Any) -> None:
        """Called before the answer to a request is read, a CONNECT to a proxy included."""
        if self._kept is None:
            self._kept = Kept(self._loop.time())
        super().set_response_params(**params)
        assert self._parser is not None
        self._parser = cast("Any", _Parser(self._parser, self._read, self.refuse))

    def data_received(self, data: bytes) -> None:
        """Keep DATA, then let the library read it."""
        kept = self._kept
        if kept is None:
            if data:  # could be the answer to another grant's request
                self._is_soiled = True
                self.abort()
            return
        kept.received += data
        kept.tell()
        if len(kept.received) > MOST_RECEIVED:
            self.refuse(TOO_LARGE)
            if self.transport is not None:
                self.transport.abort()
            return
        for start in range(0, len(data), PIECE):
            if self._is_closing or kept.refusal is not None:
                return
            super().data_received(data[start : start + PIECE])

    def eof_received(self) -> None:
        """The server sends no more, over TLS a turn before the connection is lost."""
        self._is_soiled = True
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        if self._kept is not None:
            self._kept.has_ended = True
            self._kept.tell()

    def refuse(self, reason: str) -> None:
        """Tell the library that this answer cannot be read; the connection stays open."""
        assert self._kept is not None
        self._kept.refusal = self._kept.refusal or reason
        error = HttpProcessingError(message=reason)
        self.set_exception(error)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(error)

    def _read(self, message: RawResponseMessage) -> None:
        """The library has read the head of an answer."""
        assert self._kept is not None
        if message.code >= 200 or message.code == 101:  # noqa: PLR2004  the final ones
            self._kept.message = self._kept.message or message
        else:
            self._kept.interim += 1
            if self._kept.interim > MOST_INTERIM:
                self.refuse(INTERIM)


class _Parser:
    """The library's parser, except that its refusal reaches us instead of the connection."""

    def __init__(
        self,
        parser: Any,
        read: Callable[[RawResponseMessage], None],
        refuse: Callable[[str], None],
    ) -> None:
        self._parser = parser
        self._read = read
        self._refuse = refuse
        self._has_refused = False

    def feed_data(self, data: bytes) -> tuple[Any, bool, bytes]:
        if self._has_refused:
            return (), False, b""
        try:
            messages, upgraded, tail = self._parser.feed_data(data)
        except Exception:  # noqa: BLE001  whatever it is, the bytes are kept
            self._has_refused = True
            self._refuse(MALFORMED)
            return (), False, b""
        for message, _ in messages:
            self._read(message)
        return messages, upgraded, tail

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)


class Way(aiohttp.ClientRequest):
    """The way to one server: all that the pool asks of a request, made once for many.

    Its headers are those that all of them have, a proxy's credentials included.
    """

    @cached_property
    def place(self) -> tuple[str, int | None]:
        """Host and port of the server."""
        return self.url.raw_host or "", self.url.port

    @cached_property
    def connection_key(self) -> ConnectionKey:
        """By what the pool knows its connections."""
        return super().connection_key


class Pool(aiohttp.TCPConnector):
    """Connections that wait for the next exchange with their server."""

    def __init__(self, resolver: AbstractResolver, *, connect_within: float) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEP_ALIVE, resolver=resolver)
        self._within = aiohttp.ClientTimeout(total=None, connect=connect_within)
        self._factory = cast("partial[ResponseHandler]", partial(Wire, loop=self._loop))
        self._reused_from: dict[tuple[str, int | None], float] = {}
        """Of each server: connections made before this instant are not used again."""
        self._held: dict[Kept, Wire] = {}
        """What exchanges wait for, the one that began first at the front."""

    def distrust(self, wire: Wire) -> None:
        """Use no connection again that was made to the same server up to now.

        An exchange over WIRE met silence. If an earlier one had been answered over it, the
        connection is dead, and others are or will be: none is used again for a while.
        """
        pause = NO_REUSE if wire.exchanges > 1 else 0.0
        self._reused_from[wire.place] = self._loop.time() + pause

    async def lend(self, way: Way) -> tuple[Connection, Wire, Kept]:
        """A connection by WAY that nothing came over unasked, held until ``let_go``.

        Raises:
            aiohttp.ServerDisconnectedError: a new connection was closed, or spoken on, by
                the server before anything was sent.
        """
        self._look_for_silence()
        while True:
            connection = await self.connect(way, [], self._within)
            wire = connection.protocol
            assert isinstance(wire, Wire)
            is_new = wire.exchanges == 0
            is_trusted = is_new or wire.made_at > self._reused_from.get(way.place, -1.0)
            if is_trusted and wire.is_fit():
                break
            connection.close()
            if is_new:
                raise aiohttp.ServerDisconnectedError
        wire.place = way.place
        kept = wire.hold()
        self._held[kept] = wire
        return connection, wire, kept

    def let_go(self, wire: Wire, kept: Kept) -> None:
        """End the exchange of KEPT over WIRE."""
        del self._held[kept]
        wire.let_go(kept)

    def _look_for_silence(self) -> None:
        """Hear of dead connections before the deadline of whoever waits for their answer."""
        for kept, wire in self._held.items():
            if self._loop.time() - kept.since < SILENCE:
                return
            if not kept.received and wire.exchanges > 1:
                self.distrust(wire)
