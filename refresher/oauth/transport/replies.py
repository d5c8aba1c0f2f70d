"""A reply: what an exchange hands on, decompressed and capped."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

LARGEST_ANSWER = 256 * 1024
"""Bytes of an answer's body, before and after decompression; usual ones have a few thousand,
the largest known (Keycloak, with three tokens full of groups) about 100,000."""

_WINDOWS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, decompressed; it may be less than the server sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    broken: str | None = None
    """Why the body is not all of it: ``truncated``, ``timeout``, ``too_large``, or
    ``left_over`` when more came than the server had announced."""
    is_lenient: bool = False
    """The HTTP library refused the answer or read too little of it: the second reader read
    this. Tokens in it are on probation."""


def make_reply(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    broken: str | None,
    *,
    is_lenient: bool = False,
) -> Reply:
    """The reply with BODY as it came over the wire, compressed or not."""
    if len(body) <= LARGEST_ANSWER:
        body, is_whole = decompressed(body, headers.get("Content-Encoding", ""))
        broken = broken or (None if is_whole else "truncated")
    if len(body) > LARGEST_ANSWER:
        body, broken = body[:LARGEST_ANSWER], "too_large"
    return Reply(status, headers, body, broken, is_lenient)


def decompressed(body: bytes, encoding: str) -> tuple[bytes, bool]:
    """At most one byte more than the cap of BODY's content, and whether that is all of it.

    Compression was not asked for: what cannot be undone is handed on as it came.
    """
    for window in _WINDOWS.get(encoding.strip().lower(), ()) if encoding else ():
        inflater = zlib.decompressobj(wbits=window)
        try:
            content = inflater.decompress(body, LARGEST_ANSWER + 1)
        except zlib.error:
            continue
        return content, inflater.eof
    return body, True
