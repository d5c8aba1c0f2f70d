"""Whether a server's metadata promise that its redirects name it."""

from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from refresher.demo.private_server import free_port
from refresher.errors import AuthorizationFailed
from refresher.oauth.metadata import promises_issuer
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.oauth.world import (
    RawServer,
    answering,
    http_answer,
    make_client,
    serving,
)


async def asked(raw: RawServer, issuer: str | None) -> bool:
    async with TokenEndpoint() as endpoint:
        return await promises_issuer(endpoint, make_client(raw.url, issuer=issuer))


def base_of(raw: RawServer) -> str:
    return f"http://127.0.0.1:{raw.port}"


def metadata(issuer: str, promise: Any) -> bytes:
    return http_answer(
        {"issuer": issuer, "authorization_response_iss_parameter_supported": promise}
    )


@asynccontextmanager
async def about_itself(
    promise: Any, path: str = "", *, skipped: int = 0
) -> AsyncIterator[RawServer]:
    """A server whose issuer is its own address and PATH, after SKIPPED answers of 404."""

    async def handle(raw: RawServer, reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            await raw.read_request(reader)
            is_there = len(raw.requests) > skipped
            told = metadata(base_of(raw) + path, promise) if is_there else http_answer(status=404)
            writer.write(told)
            await writer.drain()

    async with serving(handle) as raw:
        yield raw


@pytest.mark.parametrize(
    ("promise", "counts"), [(True, True), (False, False), (None, False), ("true", False)]
)
async def test_a_promise_is_read(promise: Any, *, counts: bool) -> None:
    async with about_itself(promise) as raw:
        assert await asked(raw, base_of(raw)) is counts
        line, headers, body = raw.last
    assert line == "GET /.well-known/oauth-authorization-server HTTP/1.1"
    assert "authorization" not in headers
    assert body == ""


async def test_a_path_of_the_issuer_goes_behind_the_well_known_part() -> None:
    async with about_itself(True, "/tenant", skipped=1) as raw:
        assert await asked(raw, f"{base_of(raw)}/tenant")
        lines = [request.split(b" ")[1].decode() for request in raw.requests]
    assert lines == [
        "/.well-known/oauth-authorization-server/tenant",
        "/tenant/.well-known/openid-configuration",
    ]


@pytest.mark.parametrize(
    "answer",
    [http_answer(status=404), http_answer(b"<html>", 200), http_answer(b"", 302)],
    ids=["none", "a page", "a redirect"],
)
async def test_a_server_without_metadata_promises_nothing(answer: bytes) -> None:
    async with answering(answer) as raw:
        assert not await asked(raw, base_of(raw))
        assert len(raw.requests) == 2


async def test_without_an_issuer_nobody_is_asked() -> None:
    async with answering(http_answer(status=404)) as raw:
        assert not await asked(raw, None)
        assert raw.requests == []


@pytest.mark.parametrize(
    "answer", [http_answer(status=503), http_answer(b"{", 200, length=9)], ids=["503", "cut off"]
)
async def test_a_promise_that_cannot_be_read_is_not_assumed_away(answer: bytes) -> None:
    async def cut_off(raw: RawServer, reader: StreamReader, writer: StreamWriter) -> None:
        await raw.read_request(reader)
        writer.write(answer)

    async with serving(cut_off) as raw:
        with pytest.raises(AuthorizationFailed, match="cannot be read now"):
            await asked(raw, base_of(raw))


async def test_a_server_that_is_away_promises_nothing_that_counts() -> None:
    async with TokenEndpoint() as endpoint:
        client = make_client(issuer=f"http://127.0.0.1:{free_port()}")
        with pytest.raises(AuthorizationFailed, match="cannot be read now"):
            await promises_issuer(endpoint, client)


async def test_the_metadata_of_another_issuer_are_refused() -> None:
    async with answering(metadata("https://other.example", True)) as raw:
        with pytest.raises(AuthorizationFailed, match="name another issuer: write `issuer` of"):
            await asked(raw, base_of(raw))
