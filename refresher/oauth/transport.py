"""One POST over a shared pool of connections, and whether it left this machine.

No redirects, no retries, no cookies, no ``.netrc``, no proxy from the environment; the
answer is capped before and after decompression. What broke is told in a word of a closed
vocabulary: the exceptions of the library may quote the URL, and none gets out of here.
"""

import ssl
import zlib
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Self

import aiohttp
import anyio
import anyio.lowlevel
from aiohttp.http import HttpProcessingError
from yarl import URL

from refresher import __version__
from refresher.domain.clients import Client
from refresher.domain.outcomes import NotSent, OutcomeUnknown
from refresher.oauth.patience import Patience
from refresher.oauth.requests import WireRequest

LARGEST_ANSWER = 64 * 1024
"""Bytes of a token response, before and after decompression; usual ones have a few thousand."""

CONNECT_WITHIN = 5.0
"""Seconds for name, connection, proxy and TLS; failing there is harmless, so it is short."""

KEEP_ALIVE = 4.0
"""Seconds an idle connection may be used again. A server that closes it just then leaves an
unknown outcome, so it ends before the usual 5 s of Node, Apache and uvicorn do; where speed
counts, a connection is not idle for a second."""

HEADERS = {
    "Accept": "application/json",  # without it GitHub answers in form encoding (FAILURES 40)
    "Accept-Encoding": "identity",  # a few kilobytes of random characters do not compress
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": f"refresher/{__version__}",
}

TRANSPORT_FAULTS = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError, EOFError)
"""All that networks and servers can make the library raise; time-outs are OSErrors. Anything
else is a bug, and the engine's supervision treats it as an unknown outcome."""

CERTIFICATE_FAULTS = {
    10: "tls_certificate_expired",
    18: "tls_certificate_self_signed",
    19: "tls_certificate_self_signed",
    20: "tls_certificate_untrusted",
    62: "tls_certificate_hostname",
    64: "tls_certificate_hostname",
}
"""OpenSSL's X509_V_ERR numbers that tell an operator what to mend."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, decompressed; it may be less than the server sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    broken: str | None = None
    """Why the body is not all of it: ``truncated``, ``timeout`` or ``too_large``."""


@dataclass(slots=True)
class _Progress:
    """How far one request got; outlives its cancellation by the deadline."""

    patience: Patience
    has_left: bool = False
    response: aiohttp.ClientResponse | None = None
    body: bytearray = field(default_factory=bytearray, repr=False)


class Transport:
    """A pool of connections for every client; an async context manager."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._contexts: dict[tuple[str | None, int], ssl.SSLContext] = {}

    async def __aenter__(self) -> Self:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_mark_left)
        self._session = await self._stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers=HEADERS,
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_WITHIN),
                trace_configs=[trace],
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

    async def post(
        self, client: Client, request: WireRequest, *, patience: Patience
    ) -> Reply | NotSent | OutcomeUnknown:
        """Send REQUEST the way CLIENT goes out (proxy, CA bundle).

        Args:
            patience: how long it may take once the request has left, the body included.
        """
        try:
            context = self._context(client.ca_bundle)
        except (OSError, ValueError):
            return NotSent(reason="ca_bundle")
        progress = _Progress(patience)
        broken: str | None = None
        with patience.scope() as scope:
            try:
                await self._send(client.proxy, request, context, progress)
            except TRANSPORT_FAULTS as error:
                if progress.response is None:
                    return _fault(error, has_left=progress.has_left, proxied=client.proxy)
                broken = "truncated"
        if progress.response is None:
            late = OutcomeUnknown(reason="timeout")
            return late if progress.has_left else NotSent(reason="connect_timeout")
        return _reply(progress, "timeout" if scope.cancelled_caught else broken)

    async def _send(
        self,
        proxy: str | None,
        request: WireRequest,
        context: ssl.SSLContext,
        progress: _Progress,
    ) -> None:
        # An idle connection may have been closed without the loop having looked: one turn
        # finds its end, the next one hears of it. Sending into it would leave the outcome open.
        for _ in range(2):
            await anyio.lowlevel.checkpoint()
        async with self._session.post(
            request.url,
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
            proxy=None if proxy is None else URL(proxy),
            ssl=context,
            trace_request_ctx=progress,
        ) as response:
            progress.response = response
            async for chunk in response.content.iter_any():
                progress.body += chunk
                if len(progress.body) > LARGEST_ANSWER:
                    response.close()
                    break

    def _context(self, ca_bundle: str | None) -> ssl.SSLContext:
        """Whom to trust; a bundle replaced on disk counts from the next connection."""
        replaced_at = 0 if ca_bundle is None else Path(ca_bundle).stat().st_mtime_ns
        key = (ca_bundle, replaced_at)
        if key not in self._contexts:
            context = ssl.create_default_context(cafile=ca_bundle)
            context.set_alpn_protocols(["http/1.1"])
            self._contexts[key] = context
        return self._contexts[key]


async def _mark_left(
    _: aiohttp.ClientSession, context: SimpleNamespace, __: aiohttp.TraceRequestHeadersSentParams
) -> None:
    """Called just before the first byte is written, never for a proxy's CONNECT."""
    context.trace_request_ctx.has_left = True
    context.trace_request_ctx.patience.left()


def _reply(progress: _Progress, broken: str | None) -> Reply:
    response, body = progress.response, bytes(progress.body)
    assert response is not None
    if len(body) <= LARGEST_ANSWER:
        body, is_whole = _decompressed(body, response.headers.get("Content-Encoding", ""))
        broken = broken or (None if is_whole else "truncated")
    if len(body) > LARGEST_ANSWER:
        body, broken = body[:LARGEST_ANSWER], "too_large"
    return Reply(response.status, response.headers, body, broken)


def _decompressed(body: bytes, encoding: str) -> tuple[bytes, bool]:
    """At most one byte more than the cap of BODY's content, and whether that is all of it.

    Compression was not asked for: what cannot be undone is handed on as it came.
    """
    windows = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}
    for window in windows.get(encoding.strip().lower(), ()):
        inflater = zlib.decompressobj(wbits=window)
        try:
            content = inflater.decompress(body, LARGEST_ANSWER + 1)
        except zlib.error:
            continue
        return content, inflater.eof
    return body, True


def _fault(error: Exception, *, has_left: bool, proxied: str | None) -> NotSent | OutcomeUnknown:
    """What an exchange without an answer means (FAILURES 1.4)."""
    if not has_left:
        return NotSent(reason=_reason_not_sent(error, proxied))
    if isinstance(error, aiohttp.ClientResponseError | HttpProcessingError | ValueError):
        return OutcomeUnknown(reason="malformed")
    return OutcomeUnknown(reason="timeout" if isinstance(error, TimeoutError) else "disconnected")


def _reason_not_sent(error: Exception, proxied: str | None) -> str:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "dns"
        case aiohttp.ClientConnectorCertificateError(certificate_error=cause):
            number = getattr(cause, "verify_code", 0)
            return CERTIFICATE_FAULTS.get(number, "tls_certificate")
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return "tls"
        case TimeoutError():
            return "connect_timeout"
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
            return "proxy"
        case _ if proxied is not None:
            return "proxy"
        case aiohttp.InvalidURL() | ValueError():
            return "invalid_url"
        case aiohttp.ClientConnectorError(os_error=ConnectionRefusedError()):
            return "refused"
        case aiohttp.ClientConnectorError(os_error=ConnectionResetError()):
            return "disconnected"
        case _:
            return "unreachable"
