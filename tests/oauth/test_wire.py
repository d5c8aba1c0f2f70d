"""Answers in HTTP that breaks its own rules: read, or at the least kept."""

import asyncio
import gzip
import json
import re
from contextlib import AsyncExitStack
from typing import Self

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refresher.domain.outcomes import (
    GrantRejected,
    Misconfigured,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    Transient,
)
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.oauth.transport import LARGEST_ANSWER
from refresher.oauth.transport.connections import MOST_INTERIM, MOST_RECEIVED
from tests.oauth.world import (
    TOKENS,
    RawServer,
    http_answer,
    make_client,
    refreshed,
    replying,
    serving,
)

JSON = json.dumps(TOKENS).encode()
PRETTY = json.dumps(TOKENS, indent=2).encode()
TYPE = b"Content-Type: application/json\r\n"


def head(*fields: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"".join(line + b"\r\n" for line in (status, *fields)) + b"\r\n"


def length_of(body: bytes, *, short_by: int = 0) -> bytes:
    return b"Content-Length: %d" % (len(body) - short_by)


def chunked(body: bytes, *, size: int = 1000) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


GOOD = head(length_of(JSON)) + JSON
CHUNKED = b"Transfer-Encoding: chunked"

ODD_ANSWERS = {
    "length beside chunked": head(length_of(JSON), CHUNKED) + chunked(JSON),
    "length beside chunked, other order": head(CHUNKED, length_of(JSON)) + chunked(JSON),
    "a wrong length beside chunked": head(b"Content-Length: 5", CHUNKED) + chunked(JSON),
    "chunked twice": head(CHUNKED, CHUNKED) + chunked(JSON),
    "said to be chunked and not": head(CHUNKED, length_of(JSON)) + JSON,
    "said to be chunked, without a length": head(CHUNKED) + JSON,
    "equal lengths": head(length_of(JSON), length_of(JSON)) + JSON,
    "equal lengths in one field": head(b"Content-Length: %d, %d" % (len(JSON), len(JSON))) + JSON,
    "different lengths": head(length_of(JSON), b"Content-Length: 7") + JSON,
    "a length with a plus": head(b"Content-Length: +%d" % len(JSON)) + JSON,
    "a length that is no number": head(b"Content-Length: many") + JSON,
    "an empty length": head(b"Content-Length:") + JSON,
    "a negative length": head(b"Content-Length: -1") + JSON,
    "a length in a folded line": head(b"Content-Length:\r\n %d" % len(JSON)) + JSON,
    "a folded field": head(b"X-Trace: a\r\n b\r\n\tc", length_of(JSON)) + JSON,
    "a bare CR in a value": head(b"X-Trace: a\rb", length_of(JSON)) + JSON,
    "a bare CR after a value": head(b"X-Trace: a\r\r\nX-B: c", length_of(JSON)) + JSON,
    "CR CR LF everywhere": GOOD.replace(b"\r\n", b"\r\r\n"),
    "CR alone everywhere": GOOD.replace(b"\r\n", b"\r"),
    "LF alone everywhere": GOOD.replace(b"\r\n", b"\n"),
    "NUL in a value": head(b"X-Trace: a\0b", length_of(JSON)) + JSON,
    "NUL in a name": head(b"X-\0Trace: ab", length_of(JSON)) + JSON,
    "a space in a name": head(b"X Trace: ab", length_of(JSON)) + JSON,
    "a space before the colon": head(b"Content-Length : %d" % len(JSON)) + JSON,
    "a bracket in a name": head(b"X[0]: ab", length_of(JSON)) + JSON,
    "a name of letters that are not ASCII": head("Größe: 1".encode(), length_of(JSON)) + JSON,
    "no name": head(b": ab", length_of(JSON)) + JSON,
    "a line without a colon": head(b"nonsense", length_of(JSON)) + JSON,
    "a line without a colon first": head(b"HTTP/1.1 200 OK", length_of(JSON)) + JSON,
    "a header line of 10,000": head(b"X-Trace: " + b"t" * 9960, length_of(JSON)) + JSON,
    "a header line of 64 KiB": head(b"X-Trace: " + b"t" * 65000, length_of(JSON)) + JSON,
    "a header line of 100 KiB": head(b"X-Trace: " + b"t" * 102_400, length_of(JSON)) + JSON,
    "200 header fields": head(*[b"X-%d: a" % n for n in range(200)], length_of(JSON)) + JSON,
    "ten cookies of 4 kB": head(*[b"Set-Cookie: a=" + b"v" * 3900] * 10, length_of(JSON)) + JSON,
    "two content types": head(TYPE.strip(), b"Content-Type: text/html", length_of(JSON)) + JSON,
    "no reason": head(length_of(JSON), status=b"HTTP/1.1 200") + JSON,
    "no reason but a space": head(length_of(JSON), status=b"HTTP/1.1 200 ") + JSON,
    "a reason in Latin-1": head(length_of(JSON), status=b"HTTP/1.1 200 Gr\xfc\xdfe") + JSON,
    "two spaces before the status": head(length_of(JSON), status=b"HTTP/1.1  200 OK") + JSON,
    "a tab before the status": head(length_of(JSON), status=b"HTTP/1.1\t200 OK") + JSON,
    "an odd version": head(length_of(JSON), status=b"HTTP/1.10 200 OK") + JSON,
    "version 2": head(length_of(JSON), status=b"HTTP/2 200") + JSON,
    "no version": head(length_of(JSON), status=b"HTTP 200 OK") + JSON,
    "lower case": head(length_of(JSON), status=b"http/1.1 200 ok") + JSON,
    "another protocol's name": head(length_of(JSON), status=b"ICY 200 OK") + JSON,
    "empty lines first": b"\r\n\r\n" + GOOD,
    "a tail of another answer first": b"0}\r\n" + GOOD,
    "no empty line before the body": head(length_of(JSON))[:-2] + JSON,
    "no empty line before a pretty body": head(length_of(PRETTY))[:-2] + PRETTY,
    "a head of a status line alone": b"HTTP/1.1 200 OK\r\n\r\n" + JSON,
    "a length too long": head(length_of(JSON, short_by=-9)) + JSON,
    "a length too short by one": head(length_of(JSON, short_by=1)) + JSON,
    "a length too short by many": head(length_of(JSON, short_by=40)) + JSON,
    "a length of nothing": head(b"Content-Length: 0") + JSON,
    "no content, they say": head(status=b"HTTP/1.1 204 No Content") + JSON,
    "a length and a close": head(length_of(JSON, short_by=3), b"Connection: close") + JSON,
    "a letter after the body": GOOD + b"}",
    "two letters after the body": GOOD + b"0}",
    "NUL after the body": GOOD + b"\0",
    "a page after the body": GOOD + b"<!-- cached -->\n",
    "white space after the body": GOOD + b"\r\n\r\n",
    "another answer after the body": GOOD + http_answer(b"slow", 408),
    "half an answer after the body": GOOD + b"HTTP/1.1 40",
    "a chunk size that is no number": head(CHUNKED) + b"zz\r\n" + JSON + b"\r\n0\r\n\r\n",
    "a chunk size too long": head(CHUNKED) + b"ff\r\n" + JSON + b"\r\n0\r\n\r\n",
    "a chunk size too short": head(CHUNKED) + b"5\r\n" + JSON + b"\r\n0\r\n\r\n",
    "a chunk size of 20 digits": head(CHUNKED) + b"f" * 20 + b"\r\n" + JSON + b"\r\n0\r\n\r\n",
    "a chunk size with 0x": head(CHUNKED) + b"0x%x\r\n" % len(JSON) + JSON + b"\r\n0\r\n\r\n",
    "an empty chunk size": head(CHUNKED) + b"\r\n" + JSON + b"\r\n0\r\n\r\n",
    "a wrong size between chunks": head(CHUNKED)
    + b"10\r\n" + JSON[:16] + b"\r\n9999\r\n" + JSON[16:] + b"\r\n0\r\n\r\n",
    "chunks without an end of line": head(CHUNKED)
    + b"10\r\n" + JSON[:16] + b"%x\r\n" % (len(JSON) - 16) + JSON[16:] + b"0\r\n\r\n",
    "chunks that end their lines with LF": head(CHUNKED)
    + chunked(JSON, size=20).replace(b"\r\n", b"\n"),
    "no last chunk": head(CHUNKED) + chunked(JSON)[:-5],
    "a last chunk without an empty line": head(CHUNKED) + chunked(JSON)[:-2],
    "the last chunk first": head(CHUNKED) + b"0\r\n\r\n" + chunked(JSON),
    "something after the last chunk": head(CHUNKED) + chunked(JSON) + b"}",
    "chunk extensions": head(CHUNKED) + b"%x;a=b;c\r\n%s\r\n0;d\r\n\r\n" % (len(JSON), JSON),
    "broken trailers": head(CHUNKED) + chunked(JSON)[:-2] + b"no colon\r\n\r\n",
    "identity and chunked": head(b"Transfer-Encoding: identity, chunked") + chunked(JSON),
    "identity": head(b"Transfer-Encoding: identity", length_of(JSON)) + JSON,
    "chunked in HTTP/1.0": head(CHUNKED, status=b"HTTP/1.0 200 OK") + chunked(JSON),
    "HTTP/1.0 without a length": head(status=b"HTTP/1.0 200 OK") + JSON,
    "100 first": b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD,
    "100 with fields first": b"HTTP/1.1 100 Continue\r\nX-Y: z\r\n\r\n" + GOOD,
    "100 with an odd field first": b"HTTP/1.1 100 Continue\r\nX\0: z\r\n\r\n" + GOOD,
    "102, 103 first": b"HTTP/1.1 102 P\r\n\r\nHTTP/1.1 103 E\r\nLink: </x>\r\n\r\n" + GOOD,
    "gzip with a length too long": head(b"Content-Encoding: gzip", b"Content-Length: 9000")
    + gzip.compress(JSON),
    "gzip with a length too short": head(b"Content-Encoding: gzip", b"Content-Length: 50")
    + gzip.compress(JSON),
    "gzip with an odd field": head(b"X Y: z", b"Content-Encoding: gzip") + gzip.compress(JSON),
    "JSON in a field before": head(b'Report-To: {"group": "error"}', b"X Y: z", length_of(JSON))
    + JSON,
}  # fmt: skip


def is_adopted(outcome: Outcome) -> bool:
    return (
        isinstance(outcome, Refreshed)
        and outcome.answer.refresh_token == Secret("RT2")
        and outcome.answer.access_token == Secret("AT2")
    )


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS.keys())
async def test_an_odd_answer_is_adopted(answer: bytes) -> None:
    async with replying(answer) as raw:
        assert is_adopted(await refreshed(raw.url))


@pytest.mark.parametrize("answer", ODD_ANSWERS.values(), ids=ODD_ANSWERS.keys())
async def test_an_odd_answer_in_pieces_is_adopted(answer: bytes) -> None:
    """The library refuses an early piece; the rest is on its way."""
    size = len(answer) // 3 + 1
    pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
    async with replying(*pieces) as raw:
        assert is_adopted(await refreshed(raw.url))


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


@pytest.mark.parametrize(
    "name",
    [
        "length beside chunked",
        "NUL in a value",
        "a letter after the body",
        "a wrong size between chunks",
        "a length too short by one",
        "a header line of 100 KiB",
    ],
)
async def test_what_the_second_reader_found_is_on_probation(name: str) -> None:
    async with replying(ODD_ANSWERS[name]) as raw:
        outcome = await refreshed(raw.url)

    assert isinstance(outcome, Refreshed)
    assert outcome.answer.is_searched


async def test_an_odd_answer_is_not_waited_out() -> None:
    """The connection stays open, and only the content says that all is there."""
    async with replying(ODD_ANSWERS["a length that is no number"], hang=True) as raw:
        with anyio.fail_after(10):
            assert is_adopted(await refreshed(raw.url, deadline=60))


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
        with anyio.fail_after(20):
            outcome = await refreshed(raw.url, deadline=60)

    assert isinstance(outcome, OutcomeUnknown)
    assert outcome.reason in {"too_large", "malformed"}
    assert outcome.body is None or len(outcome.body) <= MOST_RECEIVED + 300_000
    assert sent < 20 * MOST_RECEIVED


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


def _damaged(answer: bytes, damages: list[tuple[int, int, bytes]]) -> bytes:
    """ANSWER with its framing damaged: the JSON in it stays whole."""
    begin = answer.index(JSON)
    ends = [answer[:begin], answer[begin + len(JSON) :]]
    for place, cut, extra in damages:
        at = place % (len(ends[0]) + len(ends[1]) + 1)
        part = 0 if at <= len(ends[0]) else 1
        at -= part * len(ends[0])
        ends[part] = ends[part][:at] + extra + ends[part][at + cut :]
    return ends[0] + JSON + ends[1]


damage = st.tuples(
    st.integers(0, 400),
    st.integers(0, 12),
    st.one_of(
        st.binary(max_size=4),
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b":", b" ", b"0\r\n", b"ff\r\n", b"\t",
             b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"X" * 70_000, b"<"]
        ),
    ),
)  # fmt: skip
frames = st.sampled_from(
    [
        GOOD,
        head(TYPE.strip(), length_of(JSON), b"Connection: keep-alive", b"X-A: b") + JSON,
        head(CHUNKED) + chunked(JSON),
        head(CHUNKED, TYPE.strip()) + chunked(JSON) + b"X-Trailer: a\r\n\r\n",
        head(b"Connection: close") + JSON,
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + GOOD,
    ]
)
STATUS = re.compile(rb"[\s\0]*HTTP/1\.1 200 ")


class Damager:
    """One server and one transport for many examples: each exchange gets a scripted answer."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._stack = AsyncExitStack()
        self._pieces: tuple[bytes, ...] = ()

    def __enter__(self) -> Self:
        self._runner.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._stack.aclose())

    async def _start(self) -> None:
        self._raw = await self._stack.enter_async_context(serving(self._handle))
        self._endpoint = await self._stack.enter_async_context(TokenEndpoint())

    async def _handle(
        self, raw: RawServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            await raw.read_request(reader)
            for piece in self._pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.001)  # so that pieces travel one by one
            writer.close()
            await writer.wait_closed()
        finally:
            self._is_done.set()

    def outcome_of(self, *pieces: bytes) -> Outcome:
        self._pieces = pieces
        return self._runner.run(self._refresh())

    async def _refresh(self) -> Outcome:
        self._is_done = asyncio.Event()
        client = make_client(self._raw.url)
        outcome = await self._endpoint.refresh(client, Secret("RT1"), patience=Patience(5))
        await self._is_done.wait()
        return outcome


def test_no_damage_to_the_framing_loses_a_token() -> None:
    with asyncio.Runner() as runner, Damager(runner) as damager:

        @settings(max_examples=250, deadline=None, database=None)
        @given(frames, st.lists(damage, min_size=1, max_size=3), st.integers(1, 200))
        def is_adopted_or_kept(
            answer: bytes, damages: list[tuple[int, int, bytes]], cut: int
        ) -> None:
            damaged = _damaged(answer, damages)
            outcome = damager.outcome_of(damaged[:cut], damaged[cut:])
            if not is_adopted(outcome) and STATUS.match(damaged):
                body = getattr(outcome, "body", None)
                assert body is not None
                assert JSON in body.replace(b"\r\n", b"")

        is_adopted_or_kept()
