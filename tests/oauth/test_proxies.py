import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from refresher.demo.private_server import free_port
from refresher.domain.outcomes import (
    NotSent,
    Refreshed,
)
from tests.oauth.world import (
    PROXY_PASSWORD,
    REFRESH_TOKEN,
    TOKENS,
    RawServer,
    answering,
    http_answer,
    make_certificate,
    refreshed,
    server_context,
    serving,
)


@asynccontextmanager
async def proxying(*, refusal: bytes = b"") -> AsyncIterator[RawServer]:
    """A proxy that tunnels (CONNECT) or forwards, or refuses everything."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = await raw.read_request(reader)
        if refusal:
            writer.write(refusal)
            return
        method, target, _ = request.split(b" ", 2)
        place = target if method == b"CONNECT" else target.split(b"/")[2]
        host, _, port = place.decode().rpartition(":")
        upstream, out = await asyncio.open_connection(host, int(port))
        try:
            if method == b"CONNECT":
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                out.write(request)
            await asyncio.gather(pump(reader, out), pump(upstream, writer), return_exceptions=True)
        finally:
            out.transport.abort()

    async with serving(handle) as raw:
        yield raw


def through(proxy: RawServer, *, password: str = "") -> str:
    return f"http://{f'user:{password}@' if password else ''}127.0.0.1:{proxy.port}"


async def test_a_proxy_tunnels_to_tls(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path)
    async with (
        answering(http_answer(TOKENS), tls=server_context(pem)) as raw,
        proxying() as proxy,
    ):
        outcome = await refreshed(raw.url, ca_bundle=str(pem), proxy=through(proxy))

    assert isinstance(outcome, Refreshed)
    assert proxy.requests[0].startswith(b"CONNECT 127.0.0.1:")
    assert REFRESH_TOKEN.encode() not in b"".join(proxy.requests)


async def test_a_proxy_forwards_plain_requests() -> None:
    async with answering(http_answer(TOKENS)) as raw, proxying() as proxy:
        outcome = await refreshed(raw.url, proxy=through(proxy))

    assert isinstance(outcome, Refreshed)
    assert proxy.last[0] == f"POST {raw.url} HTTP/1.1"


async def test_the_proxy_gets_its_password() -> None:
    async with proxying(refusal=http_answer(b"", 407)) as proxy:
        url = through(proxy, password=PROXY_PASSWORD)
        tunnel = await refreshed("https://127.0.0.1:9/", proxy=url)
        _, headers, _ = proxy.last
        forward = await refreshed("http://127.0.0.1:9/", proxy=url)

    assert headers["proxy-authorization"].startswith("Basic ")
    assert proxy.last[1]["proxy-authorization"] == headers["proxy-authorization"]
    assert proxy.last[1]["authorization"] != headers["proxy-authorization"]
    assert tunnel == NotSent(reason="proxy")
    assert forward == NotSent(reason="proxy")


@pytest.mark.parametrize(
    "refusal",
    [http_answer(b"", 403), http_answer(b"", 502), b"nonsense\r\n\r\n", b" "],
    ids=["403", "502", "nonsense", "closed"],
)
async def test_a_refusing_proxy_sends_nothing(refusal: bytes) -> None:
    async with proxying(refusal=refusal) as proxy:
        outcome = await refreshed("https://127.0.0.1:9/", proxy=through(proxy))

    assert outcome == NotSent(reason="proxy")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:{port}", "://", "http://[::1"])
async def test_an_unreachable_proxy_sends_nothing(proxy: str) -> None:
    outcome = await refreshed("https://127.0.0.1:9/", proxy=proxy.format(port=free_port()))

    assert outcome == NotSent(reason="proxy")


async def test_a_silent_proxy_sends_nothing() -> None:
    async def handle(raw: RawServer, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await raw.read_request(reader)
        await reader.read()

    async with serving(handle) as proxy:
        outcome = await refreshed("https://127.0.0.1:9/", deadline=0.1, proxy=through(proxy))

    assert outcome == NotSent(reason="connect_timeout")


async def test_an_untrusted_server_behind_a_proxy(tmp_path: Path) -> None:
    context: ssl.SSLContext = server_context(make_certificate(tmp_path))
    async with answering(http_answer(TOKENS), tls=context) as raw, proxying() as proxy:
        outcome = await refreshed(raw.url, proxy=through(proxy))

    assert outcome == NotSent(reason="tls_certificate_self_signed")
    assert raw.requests == []
