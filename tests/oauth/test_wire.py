"""What comes over the wire beside the answer: too early, too late, too much, for ever."""

import asyncio
import json

import anyio
import pytest

from refresher.domain.outcomes import (
    GrantRejected,
    Misconfigured,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    Transient,
)
from refresher.oauth.transport import LARGEST_ANSWER
from refresher.oauth.transport.connections import MOST_INTERIM, MOST_RECEIVED
from tests.oauth.framing import CHUNKED, GOOD, JSON, TYPE, chunked, head, is_adopted, length_of
from tests.oauth.world import TOKENS, RawServer, refreshed, replying, serving
from tests.support.waiting import PATIENCE


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        GOOD,
        GOOD + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD,
        head(length_of(JSON, short_by=-9)) + JSON,
    ],
    ids=["closed", "plain", "end of line after it", "100 first", "length too long"],
)
async def test_what_the_library_reads_is_not_on_probation(answer: bytes) -> None:
    async with replying(answer or head(status=b"HTTP/1.0 200 OK") + JSON) as raw:
        outcome = await refreshed(raw.url)

    assert isinstance(outcome, Refreshed)
    assert not outcome.answer.is_searched


@pytest.mark.parametrize("short_by", [1, 30, len(JSON)])
async def test_what_follows_a_short_length_later_is_waited_for(short_by: int) -> None:
    beginning = head(length_of(JSON, short_by=short_by)) + JSON[: len(JSON) - short_by]
    async with replying(beginning, JSON[len(JSON) - short_by :], hang=True) as raw:
        assert is_adopted(await refreshed(raw.url))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (b"HTTP/1.1 400 Bad", GrantRejected(error="invalid_grant", status=400)),
        (b"HTTP/1.1 302 Found", Misconfigured(error="redirected", status=302)),
        (b"HTTP/1.1 429 Slow down", Transient(reason="http_429", status=429)),
    ],
)
async def test_a_refusal_in_odd_http_is_heard(status: bytes, outcome: Outcome) -> None:
    body = b'{"error": "invalid_grant"}'
    async with replying(head(CHUNKED, length_of(body), status=status) + chunked(body)) as raw:
        assert await refreshed(raw.url) == outcome


async def test_a_refusal_without_http_ends_no_grant() -> None:
    answer = head(status=b"FTP 400 no") + b'{"error": "invalid_grant"}'
    async with replying(answer) as raw:
        assert await refreshed(raw.url) == OutcomeUnknown(reason="malformed", body=answer)


KEPT_ANSWERS = {
    "no status line": head(TYPE.strip(), status=b"") + JSON,
    "nothing but JSON": JSON,
    "a status of two digits": head(length_of(JSON), status=b"HTTP/1.1 20 OK") + JSON,
    "the head of a form never ends": b"HTTP/1.1 200 OK\r\n\0\r\naccess_token=a&refresh_token=b",
    "a form with a letter after it": head(b"Content-Length: 30", b"X Y: z")
    + b"access_token=a&refresh_token=b}",
    "a form longer than its length": head(b"Content-Length: 25")
    + b"access_token=a&refresh_token=b",
    "a quoted chunked": head(b'Transfer-Encoding: "chunked"') + b"access_token=",
    "cut within a token": head(length_of(JSON), CHUNKED) + chunked(JSON)[:40],
}


@pytest.mark.parametrize("answer", KEPT_ANSWERS.values(), ids=KEPT_ANSWERS.keys())
async def test_what_cannot_be_read_is_kept(answer: bytes) -> None:
    async with replying(answer) as raw:
        outcome = await refreshed(raw.url)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.body
    assert outcome.body in answer
    assert b"_token" in outcome.body
    assert outcome.may_hold_tokens or outcome.status == 200


async def test_interim_answers_are_few() -> None:
    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        while not writer.is_closing():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await writer.drain()

    async with serving(handle) as raw:
        assert await refreshed(raw.url, deadline=30) == OutcomeUnknown(reason="interim_answers")


async def test_some_interim_answers_are_read_past() -> None:
    interim = [b"HTTP/1.1 102 Processing\r\n\r\n"] * MOST_INTERIM
    async with replying(*interim, GOOD) as raw:
        assert is_adopted(await refreshed(raw.url))


async def test_an_answer_behind_many_interim_ones_is_read_if_it_is_there() -> None:
    async with replying(b"HTTP/1.1 100 Continue\r\n\r\n" * 20 + GOOD) as raw:
        assert is_adopted(await refreshed(raw.url))


@pytest.mark.parametrize(
    ("beginning", "endless"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-Padding: 0123456789\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Padding: ", b"0123456789abcdef"),
        (b"HTTP/1.1 200 ", b"OK"),
        (b"", b"\r\n"),
        (b"", b"garbage "),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"extension"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: a\r\n"),
        (b"HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n{", b'"a": "b",'),
    ],
    ids=["fields", "a field", "a reason", "empty lines", "garbage", "chunks", "an extension",
         "trailers", "an odd body", "JSON"],
)  # fmt: skip
async def test_what_never_ends_is_cut_at_the_cap(beginning: bytes, endless: bytes) -> None:
    sent = 0

    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal sent
        await raw.read_request(reader)
        writer.write(beginning)
        while not writer.is_closing():
            writer.write(endless * 100)
            sent += len(endless) * 100
            await writer.drain()

    async with serving(handle) as raw:
        with anyio.fail_after(PATIENCE):
            outcome = await refreshed(raw.url, deadline=60)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.reason in {"too_large", "malformed", "unreadable"}
    assert outcome.body is None or len(outcome.body) <= MOST_RECEIVED + 300_000
    assert sent < 200 * MOST_RECEIVED  # the system's buffers, and a loop that is slow to look


@pytest.mark.parametrize("odd", [b"X-A: b", b"X A: b"], ids=["the library", "the second reader"])
async def test_an_answer_of_the_largest_size_is_read(odd: bytes) -> None:
    tokens = TOKENS | {"id_token": "i" * (LARGEST_ANSWER - 200)}
    body = json.dumps(tokens).encode()
    async with replying(head(odd, length_of(body)) + body) as raw:
        assert is_adopted(await refreshed(raw.url))


@pytest.mark.parametrize(
    "trickled",
    [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n{", b"HTTP/1.1 100 Continue"],
)
async def test_a_server_that_trickles_is_bounded_by_the_deadline(trickled: bytes) -> None:
    async def handle(
        raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await raw.read_request(reader)
        for byte in trickled:
            writer.write(bytes([byte]))
        while not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.002)

    async with serving(handle) as raw:
        with anyio.fail_after(10):
            outcome = await refreshed(raw.url, deadline=0.5)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.reason in {"timeout", "malformed"}
