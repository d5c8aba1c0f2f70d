import asyncio
import socket
from pathlib import Path

import pytest

from refresher.demo.private_server import free_port
from refresher.domain.outcomes import (
    NotSent,
    OutcomeUnknown,
    Refreshed,
)
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import (
    TOKENS,
    RawServer,
    answering,
    http_answer,
    make_certificate,
    make_client,
    refreshed,
    replying,
    server_context,
    serving,
    without_descriptors,
)


async def test_a_refused_connection_sends_nothing() -> None:
    assert await refreshed(f"http://127.0.0.1:{free_port()}/") == NotSent(reason="refused")


async def test_an_unknown_host_sends_nothing() -> None:
    assert await refreshed("http://no-such-host.invalid/") == NotSent(reason="dns")


@pytest.mark.parametrize("url", ["ftp://h/", "token", "", "http://", "http://[::1", "http://h:x/"])
async def test_an_endpoint_that_is_no_url(url: str) -> None:
    assert await refreshed(url) == NotSent(reason="invalid_url")


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0"])
async def test_a_header_that_would_end_its_line_sends_nothing(end: str) -> None:
    async with answering(http_answer(TOKENS)) as raw:
        outcome = await refreshed(raw.url, refresh_headers={"X-Api": f"1{end}X-Other: 2"})
        assert outcome == NotSent(reason="invalid_url")
        assert raw.requests == []


async def test_a_connection_never_accepted_sends_nothing() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:  # a full backlog drops further SYNs
            filler.setblocking(False)
            filler.connect_ex(address)
        outcome = await refreshed(f"http://127.0.0.1:{address[1]}/", deadline=0.1)
        for filler in fillers:
            filler.close()

    assert outcome == NotSent(reason="connect_timeout")


@pytest.mark.parametrize(
    "banner", [http_answer(b"speak HTTP", 400), b"220 smtp ready\r\n", b"-ERR unknown\r\n"]
)
async def test_tls_to_a_plain_port_sends_nothing(banner: bytes) -> None:
    async def handle(
        _: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(1024)
        writer.write(banner)

    async with serving(handle) as raw:
        outcome = await refreshed(raw.url.replace("http:", "https:"))

    assert outcome == NotSent(reason="tls_to_plain_port")


async def test_a_hanging_handshake_sends_nothing() -> None:
    async def handle(_: RawServer, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        while await reader.read(1024):
            pass

    async with serving(handle) as raw:
        outcome = await refreshed(raw.url.replace("http:", "https:"), deadline=0.1)

    assert outcome == NotSent(reason="connect_timeout")


async def test_a_handshake_cut_off_sends_nothing() -> None:
    async def handle(_: RawServer, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async with serving(handle) as raw:
        outcome = await refreshed(raw.url.replace("http:", "https:"))

    assert isinstance(outcome, NotSent)
    assert outcome.reason in {"tls", "disconnected", "unreachable"}


@pytest.mark.parametrize(
    ("host", "days", "trusted", "reason"),
    [
        ("127.0.0.1", 1, False, "tls_certificate_self_signed"),
        ("127.0.0.1", -1, True, "tls_certificate_expired"),
        ("other.example", 1, True, "tls_certificate_hostname"),
    ],
    ids=["self-signed", "expired", "hostname"],
)
async def test_a_doubtful_certificate_sends_nothing(
    tmp_path: Path, *, host: str, days: int, trusted: bool, reason: str
) -> None:
    pem = make_certificate(tmp_path, host=host, days=days)
    async with answering(http_answer(TOKENS), tls=server_context(pem)) as raw:
        outcome = await refreshed(raw.url, ca_bundle=str(pem) if trusted else None)

    assert outcome == NotSent(reason=reason)
    assert raw.requests == []


async def test_a_client_may_bring_its_authority(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path)
    async with answering(http_answer(TOKENS), tls=server_context(pem)) as raw:
        assert isinstance(await refreshed(raw.url, ca_bundle=str(pem)), Refreshed)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"], ids=["none", "empty", "bad"])
async def test_an_unusable_bundle_sends_nothing(tmp_path: Path, content: bytes | None) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content)

    assert await refreshed("https://127.0.0.1:9/", ca_bundle=str(bundle)) == NotSent(
        reason="ca_bundle"
    )


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "https://localhost:9/"])
async def test_without_descriptors_nothing_is_sent(url: str) -> None:
    async with TokenEndpoint() as endpoint:
        client = make_client(url)
        await endpoint.refresh(
            client, RefreshToken(Secret("RT")), patience=Patience(5)
        )  # loads what it needs
        with without_descriptors():
            outcome = await endpoint.refresh(
                client, RefreshToken(Secret("RT")), patience=Patience(5)
            )

    assert outcome == NotSent(reason="no_descriptors")


async def test_a_bundle_that_cannot_be_opened_for_want_of_descriptors(tmp_path: Path) -> None:
    client = make_client("https://127.0.0.1:9/", ca_bundle=str(make_certificate(tmp_path)))
    async with TokenEndpoint() as endpoint:
        with without_descriptors():
            outcome = await endpoint.refresh(
                client, RefreshToken(Secret("RT")), patience=Patience(5)
            )

    assert outcome == NotSent(reason="no_descriptors")


@pytest.mark.parametrize(
    "answer",
    [
        b"\x15\x03\x01\x00\x02\x02\x46",
        http_answer(b"<h1>The plain HTTP request was sent to HTTPS port</h1>", 400),
        http_answer(b"Client sent an HTTP request to an HTTPS server.\n", 400),
    ],
    ids=["an alert", "nginx", "Go"],
)
async def test_plain_http_to_a_tls_port_has_its_own_word(answer: bytes) -> None:
    async with replying(answer) as raw:
        outcome = await refreshed(raw.url)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.reason == "plain_to_tls_port"


async def test_plain_http_to_pythons_own_tls_has_its_own_word(tmp_path: Path) -> None:
    context = server_context(make_certificate(tmp_path))
    async with answering(http_answer(TOKENS), tls=context) as raw:
        outcome = await refreshed(raw.url.replace("https:", "http:"))

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.reason in {"plain_to_tls_port", "disconnected"}
