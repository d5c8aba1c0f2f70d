"""What a look at a client's servers finds, against real ones, and that it spends nothing."""

import asyncio
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from refresher.clock import SystemClock
from refresher.demo.private_server import free_port
from refresher.domain.discovery import Discovery
from refresher.domain.findings import Finding, Level
from refresher.oauth.probing import probe
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.test_proxies import proxying, through
from tests.oauth.world import (
    CANARIES,
    PROXY_PASSWORD,
    RawServer,
    answering,
    http_answer,
    make_certificate,
    make_client,
    server_context,
    serving,
)

REFUSED = http_answer(b"", 405)


async def found(url: str, *, ahead: float = 0.0, **parts: Any) -> list[Finding]:
    """What is found of a client with this token endpoint, our clock AHEAD seconds."""

    class Clock(SystemClock):
        def now(self) -> float:
            return super().now() + ahead

    async with TokenEndpoint() as endpoint:
        findings = await probe(endpoint, make_client(url, **parts), Clock())
    assert all((one.mend is None) is (one.level is Level.GOOD) for one in findings)
    told = str(findings)
    assert not [canary for canary in CANARIES if canary in told]
    return findings


def bad(findings: list[Finding]) -> Finding:
    [one] = [one for one in findings if one.level is not Level.GOOD]
    return one


def nothing_was_spent(raw: RawServer) -> None:
    assert raw.requests
    for request in raw.requests:
        assert request.startswith(b"GET ")
        assert b"authorization:" not in request.lower()
        assert not [canary for canary in CANARIES if canary.encode() in request]


async def test_a_server_that_refuses_a_get_is_reached() -> None:
    dated = http_answer(b"", 405, {"Date": formatdate(time.time(), usegmt=True)})
    async with answering(dated) as raw:
        findings = await found(raw.url, authorization_endpoint=raw.url)
    assert [one.text for one in findings] == [
        f"its token_endpoint at {raw.url} answers with 405",
        "the clock of its server and ours agree",
        f"its authorization_endpoint at {raw.url} answers with 405",
    ]
    nothing_was_spent(raw)


@pytest.mark.parametrize(
    ("certificate", "trusted", "told", "mend"),
    [
        ({"host": "other.example"}, True, "is for another host", "check its token_endpoint"),
        ({}, False, "is self-signed", "set ca_bundle"),
        ({"days": -1}, True, "has expired", "only the server can mend that"),
    ],
    ids=["another name", "self-signed", "expired"],
)
async def test_a_certificate_that_is_not_accepted(
    tmp_path: Path, certificate: dict[str, Any], trusted: bool, told: str, mend: str  # noqa: FBT001  parametrized
) -> None:  # fmt: skip
    pem = make_certificate(tmp_path, **certificate)
    bundle: dict[str, Any] = {"ca_bundle": str(pem)} if trusted else {}
    async with answering(REFUSED, tls=server_context(pem)) as raw:
        one = bad(await found(raw.url, **bundle))
    assert one.level is Level.PROBLEM
    assert one.text.endswith(f"cannot be reached: its TLS certificate {told}")
    assert mend in str(one.mend)


async def test_a_certificate_that_is_accepted(tmp_path: Path) -> None:
    pem = make_certificate(tmp_path)
    async with answering(REFUSED, tls=server_context(pem)) as raw:
        [one] = await found(raw.url, ca_bundle=str(pem))
    assert one.level is Level.GOOD


async def test_https_to_a_plain_port_and_back() -> None:
    async def refuse(
        _: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(1)
        writer.write(http_answer(b"", 400))

    async with serving(refuse) as raw:
        one = bad(await found(raw.url.replace("http:", "https:")))
    assert one.text.endswith("cannot be reached: the port speaks plain HTTP")
    assert "correct the scheme or the port" in str(one.mend)
    nginx = b"400 The plain HTTP request was sent to HTTPS port"
    async with answering(http_answer(nginx, 400)) as raw:
        one = bad(await found(raw.url))
    assert one.level is Level.PROBLEM
    assert "write https" in str(one.mend)


async def test_names_and_ports_where_nobody_is() -> None:
    one = bad(await found("https://nobody.invalid/token"))
    assert one.text.endswith("its host name is not found")
    assert "check the host name in its token_endpoint" in str(one.mend)
    one = bad(await found(f"http://127.0.0.1:{free_port()}/token"))
    assert one.text.endswith("nothing listens there")
    assert "check host and port" in str(one.mend)


@pytest.mark.parametrize(
    ("ahead", "told"),
    [(600, "our clock is 10 min ahead of its server's"), (-600, "10 min behind its server's")],
)
async def test_a_clock_that_is_off(ahead: float, told: str) -> None:
    dated = http_answer(b"", 405, {"Date": formatdate(time.time(), usegmt=True)})
    async with answering(dated) as raw:
        one = bad(await found(raw.url, ahead=ahead))
    assert one.level is Level.PROBLEM
    assert told in one.text
    assert "timedatectl" in str(one.mend)


@pytest.mark.parametrize(
    ("status", "told"),
    [(404, "there may be nothing at this path"), (302, "it redirects"), (503, "the server fails")],
)
async def test_an_answer_that_may_be_wrong_is_doubted(status: int, told: str) -> None:
    async with answering(http_answer(b"", status)) as raw:
        one = bad(await found(f"{raw.url}?key=canary-secret"))
    assert one.level is Level.DOUBT
    assert told in one.text


@pytest.mark.parametrize("refusal", [b"", http_answer(b"", 407)], ids=["tunnels", "refuses"])
async def test_a_proxy(refusal: bytes) -> None:
    async with answering(REFUSED) as raw, proxying(refusal=refusal) as proxy:
        [one] = await found(raw.url, proxy=through(proxy, password=PROXY_PASSWORD))
    assert "through its proxy" in one.text
    assert bool(raw.requests) is not bool(refusal)


async def test_a_proxy_that_is_away() -> None:
    async with answering(REFUSED) as raw:
        one = bad(await found(raw.url, proxy=f"http://127.0.0.1:{free_port()}"))
    assert one.text.endswith("through its proxy: the proxy does not let it through")
    assert one.mend == "check its proxy"


@pytest.mark.parametrize(
    ("named", "told"),
    [
        (None, {Level.GOOD: "shows no metadata", Level.DOUBT: "nothing at this path"}),
        # What the metadata name is there, whatever it says to a GET.
        ({}, {Level.GOOD: "name the same endpoints"}),
        (
            {"token_endpoint": "https://else.example/t"},
            {Level.DOUBT: "name another token_endpoint: https://else.example/t"},
        ),
        ({"issuer": "https://else.example"}, {Level.PROBLEM: "name another issuer"}),
    ],
    ids=["none", "the same", "another endpoint", "another issuer"],
)
async def test_metadata_are_compared(named: dict[str, str] | None, told: dict[Level, str]) -> None:
    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        request = await raw.read_request(reader)
        issuer = raw.url.removesuffix("/token")
        if named is None or b"/.well-known/oauth-authorization-server " not in request:
            writer.write(http_answer(b"", 404))
            return
        writer.write(http_answer({"issuer": issuer, "token_endpoint": raw.url, **named}))

    async with serving(handle) as raw:
        issuer = raw.url.removesuffix("/token")
        wanted = Discovery(issuer=issuer, told=frozenset({"token_endpoint", "client_id"}))
        findings = await found(raw.url, issuer=issuer, discovery=wanted)
    nothing_was_spent(raw)
    said = {one.level: one.text for one in reversed(findings)}
    for level, text in told.items():
        assert text in said[level]
    if named == {}:
        assert {one.level for one in findings} == {Level.GOOD}
