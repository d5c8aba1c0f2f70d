"""Compression that no header declared: gzip, zlib and raw deflate, undone within bounds."""

import json
import zlib
from dataclasses import dataclass, field

LARGEST_CONTENT = 256 * 1024
"""Bytes that come out at most, however many a bomb holds: as many as an answer may have."""

MOST_LAYERS = 2
"""A server compresses, and a proxy in front of it once more."""

GZIP = b"\x1f\x8b"
"""What every gzip begins with (RFC 1952 2.3.1), and no text."""

_GZIP, _ZLIB, _RAW = 31, 15, -15
"""Window sizes, by which zlib is told what to expect."""


@dataclass(frozen=True, slots=True)
class Content:
    """What was in a compressed body, and whether that is all of it."""

    body: bytes = field(repr=False)
    is_whole: bool


def decompressed(body: bytes, *, is_whole: bool) -> Content | None:
    """The content of BODY, layer by layer; None where it is not compressed, or damaged.

    Args:
        is_whole: False when BODY was cut off: what came out before the cut is given.
    """
    content: Content | None = None
    for _ in range(MOST_LAYERS):
        inner = _layer(body, may_be_cut=not is_whole)
        if inner is None:
            break
        content, body, is_whole = inner, inner.body, inner.is_whole
    return content


def _layer(body: bytes, *, may_be_cut: bool) -> Content | None:
    for window in _windows(body):
        inflater = zlib.decompressobj(window)
        try:
            inner = inflater.decompress(body, LARGEST_CONTENT + 1)
        except zlib.error:
            continue
        # The checksum at the end vouches for the content; raw deflate has none.
        if inner and (inflater.eof or may_be_cut or len(inner) > LARGEST_CONTENT):
            is_whole = inflater.eof and len(inner) <= LARGEST_CONTENT
            return Content(inner[:LARGEST_CONTENT], is_whole)
    return None


def _windows(body: bytes) -> tuple[int, ...]:
    """What BODY can be compressed with. No text starts like gzip; a text may like the others."""
    if body.startswith(GZIP):
        return (_GZIP,)
    if len(body) < 2 or _is_text(body):  # noqa: PLR2004  the length of zlib's header
        return ()
    is_zlib = body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    return (_ZLIB, _RAW) if is_zlib else (_RAW,)


def _is_text(body: bytes) -> bool:
    try:
        text = body.decode(json.detect_encoding(body))
    except UnicodeDecodeError:
        return False
    return not any(character < " " and character not in "\0\t\r\n" for character in text[:64])
