"""A second, lenient reader of HTTP answers, for those that the library refuses.

Servers and the boxes before them break RFC 9112 in ways that curl and Python's http.client
read past: a length beside chunked, a length that counts characters, bare CR, odd header
names. The refresh token in such an answer is the only good one, so reading it too kindly
costs less than refusing it. Where framing and content disagree, the content decides: a
JSON object that closes is all there. Pure; nothing here raises.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDict

from refresher.oauth.transport.replies import decompressed

MOST_INTERIM = 64
"""Interim answers before the real one; the transport counts more strictly while it waits."""

MOST_LINES = 1000
"""Lines of one head. Each costs a turn of a loop, and a hostile head could hold 100,000."""

MOST_OBJECTS = 8
"""How many ``{`` are tried where the framing leads to no content at all."""

MOST_TRIED = 512 * 1024
"""Bytes of all those tries together: JSON that never closes is read to its end by each."""

EMPTY_STATUSES = frozenset({204, 304})
"""No Content, Not Modified: what should have no body (RFC 9112 6.3)."""

_STATUS_LINE = re.compile(
    rb"[\s\0\xef\xbb\xbf]*(HTTP/)?[^\s{\[<]{0,16}[ \t]*([1-5]\d\d)(?!\d)[^\r\n]*", re.IGNORECASE
)
"""``HTTP/1.1 200 OK``, without a reason, without a version, even without ``HTTP/``."""

_LATER_STATUS_LINE = re.compile(rb"HTTP/\d[.\d]*[ \t]+([1-5]\d\d)(?!\d)[^\r\n]*", re.IGNORECASE)
"""A status line after something else, such as the tail of an answer before."""

_LINE_END = re.compile(rb"\r*\n|\r")
"""CR LF, LF, the CR CR LF of a server that translates twice, or a CR alone."""

_CHUNK_SIZE = re.compile(
    rb"[ \t\r\n]*([0-9a-f]{1,8})[ \t]*(?:;[^\r\n]*)?(?:\r?\n|\r)", re.IGNORECASE
)

_CHUNK_LINE = re.compile(rb"\r?\n[0-9a-f]{1,8}[ \t]*(?:;[^\r\n]*)?\r?\n", re.IGNORECASE)
"""A line between two chunks, seen without believing any size."""

_TRAILER = re.compile(rb"(?:[^\r\n]+\r?\n)*\r?\n?")

_JSON = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
"""Strict about control characters: one within a string may be the line of a chunk's size."""

_TOKENS = (b'_token"',)
"""Within a head it must be these: ``Report-To`` and ``NEL`` hold JSON as well."""

_TELLING = (*_TOKENS, b"error")

_SPACE = b"\xef\xbb\xbf\0 \t\r\n"


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer, as far as it came."""

    status: int
    headers: CIMultiDict[str]
    body: bytes = field(repr=False)
    """Framing undone, compression not."""
    is_complete: bool
    """The framing says that nothing is missing."""
    closes: bool
    """The body is a JSON object that closes: nothing is missing, whatever the framing says."""
    is_left_over: bool
    """Something that is not white space came after the end that the framing tells."""
    is_http: bool
    """The status line has its ``HTTP/``: only then can a refusal be believed."""

    @property
    def may_go_on(self) -> bool:
        """Whether the content says that something is missing, whatever the framing says.

        JSON without its end, nothing at all, or something after the end that was told.
        """
        if self.closes or self.is_left_over:
            return not self.closes
        beginning = self.body.lstrip(_SPACE)[:1]
        return beginning in (b"{", b"[") or (not beginning and self.status not in EMPTY_STATUSES)


def read(received: bytes) -> Reading | None:
    """The answer in RECEIVED; None while no status and no end of a head is there."""
    position = 0
    for _ in range(MOST_INTERIM):
        line = _STATUS_LINE.match(received, position)
        is_http = line is not None and line[1] is not None
        if not is_http:
            later = _LATER_STATUS_LINE.search(received, position, position + 4096)
            line, is_http = (line, False) if later is None else (later, True)
        if line is None:
            return None
        status = int(line[line.lastindex or 0])
        head = _head(received, line.end())
        if head is None:
            return _found_without_head(received, status, line.end(), is_http=is_http)
        headers, position = head
        if status >= 200 or status == 101:  # noqa: PLR2004  interim answers end before 200
            reading = _read_body(received[position:], status, headers, is_http=is_http)
            if reading.closes:
                return reading
            return _found_without_head(received, status, line.end(), is_http=is_http) or reading
    return None


def find_status(received: bytes) -> int | None:
    """The status that an answer begins with, however little of it came."""
    line = _STATUS_LINE.match(received)
    return None if line is None else int(line[2])


def _head(received: bytes, position: int) -> tuple[CIMultiDict[str], int] | None:
    """The header fields after the status line and where the body begins; None before that."""
    fields: list[tuple[bytes, bytes]] = []
    first = _LINE_END.match(received, position)
    if first is None:
        return None
    position = first.end()
    for _ in range(MOST_LINES):
        end = _LINE_END.search(received, position)
        line = received[position : len(received) if end is None else end.start()]
        if line[:1] == b"{":  # the empty line before the body is missing
            return _headers(fields), position
        if end is None:
            return None
        position = end.end()
        if not line:
            return _headers(fields), position
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t") and fields:  # obsolete folding (RFC 9112 5.2)
            fields[-1] = (fields[-1][0], fields[-1][1] + b" " + line.strip())
        elif colon:
            fields.append((name, value))
    return None


def _headers(fields: list[tuple[bytes, bytes]]) -> CIMultiDict[str]:
    return CIMultiDict(
        (name.strip(_SPACE).decode("latin-1"), value.strip(_SPACE).decode("latin-1"))
        for name, value in fields
    )


def _read_body(rest: bytes, status: int, headers: CIMultiDict[str], *, is_http: bool) -> Reading:
    """The reading of REST, everything after the head."""
    framed, left_over, is_complete = _framed(rest, headers)
    is_complete = is_complete or status in EMPTY_STATUSES
    encoding = headers.get("Content-Encoding", "")
    for candidate in (framed, *_unframed(rest, _TELLING)):
        body = _closing(candidate, encoding)
        if body is not None:
            return Reading(
                status=status,
                headers=headers,
                body=body,
                is_complete=is_complete,
                closes=True,
                is_left_over=False,
                is_http=is_http,
            )
    is_left_over = bool(left_over.strip(_SPACE))
    return Reading(
        status=status,
        headers=headers,
        body=rest if is_left_over else framed,
        is_complete=is_complete,
        closes=False,
        is_left_over=is_left_over,
        is_http=is_http,
    )


def _framed(rest: bytes, headers: CIMultiDict[str]) -> tuple[bytes, bytes, bool]:
    """The body by its framing, what comes after it, and whether all of it is there."""
    codings = ",".join(headers.getall("Transfer-Encoding", ())).lower()
    if "chunked" in codings:
        body, position, is_complete = _dechunked(rest)
        return body, rest[position:], is_complete
    told = ",".join(headers.getall("Content-Length", ())).split(",")
    lengths = [int(text) for text in map(str.strip, told) if re.fullmatch(r"[0-9]{1,15}", text)]
    if lengths:
        length = max(lengths)
        return rest[:length], rest[length:], len(rest) >= length
    return rest, b"", False


def _dechunked(rest: bytes) -> tuple[bytes, int, bool]:
    """The chunks of REST, where the reading stopped, and whether the last one came."""
    body, position = bytearray(), 0
    while size := _CHUNK_SIZE.match(rest, position):
        length = int(size[1], 16)
        position = size.end()
        if length == 0:
            trailer = _TRAILER.match(rest, position)
            return bytes(body), position if trailer is None else trailer.end(), True
        body += rest[position : position + length]
        position = min(position + length, len(rest))
    return bytes(body), position, False


def _unframed(rest: bytes, words: tuple[bytes, ...]) -> Iterator[bytes]:
    """What the body may be if its framing is wrong: an object further on has one of WORDS."""
    yield rest
    joined = _CHUNK_LINE.sub(b"", b"\n" + rest)
    yield joined
    left = MOST_TRIED
    for text in (rest, joined):
        start, last = -1, max(0, *(text.rfind(word) for word in words))
        for _ in range(MOST_OBJECTS):
            start = text.find(b"{", start + 1, last)
            left -= len(text) - start
            if start < 0 or left < 0:
                break
            found = _closing(text[start:], "")
            if found is not None and any(word in found for word in words):
                yield found


def _closing(body: bytes, encoding: str) -> bytes | None:
    """BODY up to the end of the JSON object or array that it begins with; None if it has none.

    JSON's own characters are ASCII, so the text is read as Latin-1: a place in it is a place
    in the bytes, whatever the strings are encoded in.
    """
    if encoding.strip().lower() not in ("", "identity"):
        content, is_whole = decompressed(body, encoding)
        if content is not body:
            return body if is_whole and _closing(content, "") is not None else None
    start = len(body) - len(body.lstrip(_SPACE))
    end = {b"{": b"}", b"[": b"]"}.get(body[start : start + 1])
    if end is None or end not in body:
        return None
    try:
        content_end: tuple[Any, int] = _JSON.raw_decode(body.decode("latin-1"), start)
    except (ValueError, RecursionError):
        return None
    return body[: content_end[1]]


def _found_without_head(
    received: bytes, status: int, position: int, *, is_http: bool
) -> Reading | None:
    """An object with tokens somewhere after the status line, where no body leads to one."""
    for candidate in _unframed(received[position:], _TOKENS):
        body = _closing(candidate, "")
        if body is not None:
            return Reading(
                status=status,
                headers=CIMultiDict(),
                body=body,
                is_complete=False,
                closes=True,
                is_left_over=False,
                is_http=is_http,
            )
    return None
