"""Answers in HTTP that breaks its own rules, as curl and browsers read it."""

import gzip

import anyio
import pytest

from refresher.domain.outcomes import Refreshed
from tests.oauth.framing import (
    CHUNKED,
    GOOD,
    JSON,
    PRETTY,
    TYPE,
    chunked,
    head,
    is_adopted,
    length_of,
)
from tests.oauth.world import http_answer, refreshed, replying

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
    "a wrong size within a token": head(CHUNKED)
    + b"22\r\n" + JSON[:19] + b"\r\n7\r\n" + JSON[19:] + b"\r\n0\r\n\r\n",
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
