"""The second reader: tokens in a 2xx whose standard place holds none.

It looks through what servers and gateways wrap around an answer: compression, notices,
guards against scripts, a callback, a page, an array, a string, other names. It knows the
exact names of the tokens only, and it never chooses: of several objects that hold
different tokens its caller takes none. Its work is bounded whatever comes.
"""

import html
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from refresher.oauth.compression import GZIP, decompressed
from refresher.oauth.documents import DECODER, TOKENS, Fields, fields_in, has_tokens, text_of

T = TypeVar("T")

DEEPEST = 2
"""Levels below the top at which an object that holds tokens is looked for."""

MOST_STRINGS = 3
"""How often JSON may have been put into a string of JSON."""

MOST_OPENINGS = 1000
"""Braces in a text that are tried as the start of an object."""

MOST_HOLDERS = 20
"""Objects with something under the name of a token, beyond which nobody can choose."""

MOST_AROUND = 100
"""Fields of an object that still counts for the objects in it."""

MOST_WORK = 2 * 1024 * 1024
"""Characters read on behalf of openings that were none."""

_OPENING = re.compile(r'\{\s*"')

_STRAY = re.compile(r"(?:access|refresh)_token[\"']?\s*[:=]")
"""A token that is told outside of every object that could be read: the text is damaged, and
an object inside may be half of the answer."""

_QUOTES = ("&quot;", "&#34;", "&#x22;")

_OPAQUE = re.compile(r"[A-Za-z0-9+/=_.-]{64,}")
"""One long run without a space: encoded or encrypted, whatever is in it."""

_PLAIN = re.compile(rb"[ -~\t\r\n]")
_MOSTLY = 0.8
"""Share of ASCII from which bytes in no known coding still count as a text in some other."""


Read = Callable[[Fields], T | None]
"""Reads the tokens in an object; None where it holds none."""


def search(body: bytes, read: Read[T]) -> list[T]:
    """What READ finds in each object in BODY, outermost first."""
    left = MOST_HOLDERS

    def bounded(fields: Fields) -> T | None:
        nonlocal left
        left -= 1
        return read(fields) if left >= 0 else None

    found: list[T] = []
    for each in _bodies(body):
        found += _in_text(text_of(each), MOST_STRINGS, bounded)
    return found if left >= 0 else []


def may_hold_tokens(body: bytes) -> bool:
    """Whether a 2xx that came whole and yielded no token may hold one all the same.

    It may when it cannot be decoded, and when the word ``token`` is in it.
    """
    bodies = list(_bodies(body))
    texts = [text_of(each) for each in bodies]
    return any("token" in text.lower() for text in texts) or _is_undecodable(bodies[-1], texts[-1])


def is_page(body: bytes) -> bool:
    """Whether BODY is a page for people."""
    return _PAGE.match(text_of(body[:4096])) is not None


_PAGE = re.compile(
    r"(?:<\?xml[^>]{0,200}>|<!--(?:(?!-->).){0,2000}-->|\s)*"
    r"<(?:!doctype\s+html|html|head|body|title|center|h1)\b",
    re.IGNORECASE | re.DOTALL,
)


def _bodies(body: bytes) -> Iterator[bytes]:
    """BODY, and what it is the compressed form of."""
    yield body
    content = decompressed(body, is_whole=True)
    if content is not None and content.is_whole:
        yield content.body


def _is_undecodable(body: bytes, text: str) -> bool:
    if body.startswith(GZIP):
        return True
    if not text:
        return False
    if "\ufffd" in text and not text.startswith("<"):
        return len(_PLAIN.findall(body)) < _MOSTLY * len(body)
    controls = any(character < " " and character not in "\t\r\n\f\x1b" for character in text)
    return controls or _OPAQUE.fullmatch(re.sub(r"[\r\n]", "", text)) is not None


def _in_text(text: str, strings: int, read: Read[T]) -> list[T]:
    """The objects with tokens in TEXT, which is JSON, a form, or has JSON somewhere in it."""
    fields = fields_in(text)
    answer = read(fields) if fields is not None and has_tokens(fields) else None
    if answer is not None:
        return [answer]
    try:
        value = DECODER.decode(text)
    except ValueError:
        return _embedded(text, read)
    except RecursionError:
        return []
    if isinstance(value, str):
        return _in_text(value.strip(), strings - 1, read) if strings > 0 else []
    return list(_found(value, {}, DEEPEST, read))


def _embedded(text: str, read: Read[T]) -> list[T]:
    found = _objects(text, read)
    if not found and any(quote in text for quote in _QUOTES):
        found = _objects(html.unescape(text), read)
    return found


def _objects(text: str, read: Read[T]) -> list[T]:
    """The objects with tokens among TEXT; none if a token is told outside of every object."""
    found: list[T] = []
    outside: list[str] = []
    position = end = work = 0
    for _ in range(MOST_OPENINGS):
        opening = _OPENING.search(text, position)
        if opening is None or work > MOST_WORK:
            break
        start = opening.start()
        try:
            value, position = DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            work += error.pos - start
            position = start + 1
        except (ValueError, RecursionError):
            return []
        else:
            outside.append(text[end:start])
            end = position
            found += _found(value, {}, DEEPEST, read)
    outside.append(text[end:])
    return [] if any(_STRAY.search(piece) for piece in outside) else found


def _found(value: object, around: Mapping[str, Any], deeper: int, read: Read[T]) -> Iterator[T]:
    """What READ finds in VALUE and below, the plain values AROUND an object beside its own."""
    if isinstance(value, list):
        for item in value:
            if not isinstance(item, list):
                yield from _found(item, around, deeper, read)
    elif isinstance(value, str):
        if (inner := _written_out(value)) is not None:
            yield from _found(inner, around, deeper, read)
    elif isinstance(value, dict):
        answer = read({**around, **value}) if has_tokens(value) else None
        if answer is not None:
            yield answer
        elif deeper > 0:
            plain = dict(around)
            if len(value) <= MOST_AROUND:
                plain |= {name: one for name, one in value.items() if _is_plain(name, one)}
            for name, inner in value.items():
                if name != "id_token":
                    yield from _found(inner, plain, deeper - 1, read)


def _is_plain(name: str, value: object) -> bool:
    return name not in TOKENS and not isinstance(value, dict | list)


def _written_out(text: str) -> object:
    """The value of a string that is JSON itself, as gateways put an answer into ``body``."""
    text = text.strip()
    if not text.startswith(("{", "[")):
        return None
    try:
        value: object = DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return value
