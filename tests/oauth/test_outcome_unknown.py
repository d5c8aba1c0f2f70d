import asyncio
import gzip
import json
import zlib

import pytest

from refresher.domain.outcomes import (
    OutcomeUnknown,
    Refreshed,
    Transient,
)
from refresher.oauth.transport import LARGEST_ANSWER
from refresher.oauth.transport.replies import decompressed
from tests.oauth.world import (
    TOKENS,
    RawServer,
    answering,
    http_answer,
    refreshed,
    replying,
    serving,
)


async def test_a_closed_connection_leaves_it_unknown() -> None:
    async with replying() as raw:
        assert await refreshed(raw.url) == OutcomeUnknown(reason="disconnected")


async def test_a_reset_connection_leaves_it_unknown() -> None:
    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        writer.transport.abort()

    async with serving(handle) as raw:
        assert await refreshed(raw.url) == OutcomeUnknown(reason="disconnected")


@pytest.mark.parametrize("came", [b"", b"HTTP/1.1 200 OK\r\nContent-"], ids=["none", "half"])
async def test_a_slow_server_leaves_it_unknown(came: bytes) -> None:
    async with replying(came, hang=True) as raw:
        assert await refreshed(raw.url, deadline=0.1) == OutcomeUnknown(
            reason="timeout", body=came or None
        )


@pytest.mark.parametrize(
    "answer",
    [b"garbage\r\n\r\n", b"SSH-2.0-OpenSSH_9.7\r\n", b"\x16\x03\x01\0"],
    ids=["garbage", "another protocol", "tls"],
)
async def test_a_malformed_answer_leaves_it_unknown(answer: bytes) -> None:
    async with replying(answer) as raw:
        outcome = await refreshed(raw.url)

    assert outcome == OutcomeUnknown(reason="malformed", body=answer)


async def test_a_cut_body_is_kept() -> None:
    async with replying(http_answer(b'{"access_token": "A', length=500)) as raw:
        assert await refreshed(raw.url) == OutcomeUnknown(
            reason="truncated", status=200, body=b'{"access_token": "A'
        )


async def test_a_cut_chunked_body_is_kept() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with replying(head, b'8\r\n{"refres\r\n', b"ff\r\nh_tok") as raw:
        outcome = await refreshed(raw.url)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.reason == "truncated"
    assert outcome.body is not None
    assert outcome.body.startswith(b'{"refres')


async def test_a_slow_body_is_kept() -> None:
    async with replying(http_answer(b'{"access', length=500), hang=True) as raw:
        assert await refreshed(raw.url, deadline=0.1) == OutcomeUnknown(
            reason="timeout", status=200, body=b'{"access'
        )


async def test_a_miscounted_body_loses_no_tokens() -> None:
    content = json.dumps(TOKENS).encode()
    async with replying(http_answer(content, length=len(content) + 7), hang=True) as raw:
        assert isinstance(await refreshed(raw.url, deadline=0.1), Refreshed)


async def test_a_cut_refusal_keeps_its_status() -> None:
    async with replying(http_answer(b"<html>", 429, {"Retry-After": "9"}, length=500)) as raw:
        assert await refreshed(raw.url) == Transient(reason="http_429", status=429, retry_after=9)


async def test_a_giant_body_is_cut_at_the_cap() -> None:
    async with answering(http_answer(b"x" * 10_000_000)) as raw:
        outcome = await refreshed(raw.url)

    assert outcome == OutcomeUnknown(reason="too_large", status=200, body=b"x" * LARGEST_ANSWER)


async def test_an_endless_body_is_cut_at_the_cap() -> None:
    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 8192)
            await writer.drain()

    async with serving(handle) as raw:
        outcome = await refreshed(raw.url)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.reason == "too_large"


@pytest.mark.parametrize(
    ("encoding", "content"),
    [
        ("gzip", gzip.compress(json.dumps(TOKENS).encode(), mtime=0)),
        ("GZip", gzip.compress(json.dumps(TOKENS).encode(), mtime=0)),
        ("deflate", zlib.compress(json.dumps(TOKENS).encode())),
        ("deflate", zlib.compress(json.dumps(TOKENS).encode(), wbits=-15)),
        ("gzip", json.dumps(TOKENS).encode()),
        ("identity", json.dumps(TOKENS).encode()),
    ],
    ids=["gzip", "case", "zlib", "raw deflate", "mislabelled", "identity"],
)
async def test_compressed_tokens_are_read(encoding: str, content: bytes) -> None:
    async with answering(http_answer(content, headers={"Content-Encoding": encoding})) as raw:
        assert isinstance(await refreshed(raw.url), Refreshed)


async def test_a_compression_bomb_is_defused() -> None:
    bomb = gzip.compress(b"x" * 50_000_000)
    assert len(bomb) < LARGEST_ANSWER
    assert len(decompressed(bomb, "gzip")[0]) == LARGEST_ANSWER + 1
    async with answering(http_answer(bomb, headers={"Content-Encoding": "gzip"})) as raw:
        outcome = await refreshed(raw.url)

    assert outcome == OutcomeUnknown(reason="too_large", status=200, body=b"x" * LARGEST_ANSWER)


async def test_cut_compression_yields_no_token() -> None:
    cut = gzip.compress(b"access_token=AT2&refresh_token=RT2" * 3)[:-12]
    async with answering(http_answer(cut, headers={"Content-Encoding": "gzip"})) as raw:
        outcome = await refreshed(raw.url)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.reason == "truncated"


async def test_unknown_compression_is_kept_as_it_came() -> None:
    async with answering(http_answer(b"\x1b\x03", headers={"Content-Encoding": "br"})) as raw:
        assert await refreshed(raw.url) == OutcomeUnknown(
            reason="unreadable", status=200, body=b"\x1b\x03", may_hold_tokens=True
        )
