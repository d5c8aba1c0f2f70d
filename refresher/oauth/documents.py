"""From the bytes of an answer to fields: JSON or form encoding, judged by the content.

Servers mislabel both, so Content-Type is not asked. Nothing here raises.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl

Fields = Mapping[str, Any]

WRAPPERS = ("body", "data")
"""Fields some vendors put the whole answer into (Withings, TikTok Business)."""

TOKENS = ("access_token", "refresh_token")
"""The only names that a token is looked for under, wherever it is looked for."""

NOTHING = frozenset({
    "", "null", "undefined", "none", "nil", "nan", "false", "true", "n/a", "(null)", "<null>",
    "[object object]", "[object undefined]", "[object null]", "[]", "{}", '""', "''",
})  # fmt: skip
"""What programs write, in some case or other, that have no value and print it all the same."""

_LONGEST_NOTHING = max(map(len, NOTHING))

_MASK = re.compile(r"[*\u2022]{3,}")
"""What a gateway writes over a value that it keeps to itself."""

_FORM = re.compile(r"""[^\s<>{}"'=]+=[^\s<>{}"']*""")
"""What form encoding can look like: a page that mentions ``error=`` in a link does not.

The name holds no ``=``, so that there is one way only to match: 64 KiB of ``=`` took this
18 s when there were as many ways as characters.
"""

_CONTROL = re.compile(r"[\x00-\x1f]")

_MOST_DIGITS = 400
"""Longer integers are read as infinite: int() refuses to read them (CVE-2020-10735), and a
refused number must not cost the refresh token beside it."""


def read_fields(body: bytes, *, is_whole: bool = True) -> Fields | None:
    """The fields of a JSON object or a form; None for anything else.

    Args:
        is_whole: False when the transport broke off. A JSON object that closes is whole all
            the same; a form's last value may be half a token, so none is read.
    """
    return fields_in(text_of(body), is_whole=is_whole)


def fields_in(text: str, *, is_whole: bool = True) -> Fields | None:
    """The same for TEXT that is decoded already."""
    if text.startswith("{"):
        try:
            content = _decoded(text)
        except (ValueError, RecursionError):
            return None
        return _unwrapped(content)
    if is_whole and _FORM.fullmatch(text):
        return _form(text)
    return None


def text_of(body: bytes) -> str:
    """BODY decoded by its byte order mark or its NUL bytes, else as UTF-8; never raises."""
    return body.decode(json.detect_encoding(body), errors="replace").strip("\ufeff\0 \t\r\n")


def is_there(value: object) -> bool:
    """Whether a field holds more than one of the many ways to say nothing."""
    if not isinstance(value, str):
        return value is not None
    text = value.strip()
    if _MASK.fullmatch(text):
        return False
    return len(text) > _LONGEST_NOTHING or text.lower() not in NOTHING


def has_tokens(fields: Fields) -> bool:
    """Whether FIELDS hold something under the name of a token."""
    return any(is_there(fields.get(name)) for name in TOKENS)


def merged(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """PAIRS as fields: of a name that comes twice the last value that says something."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name not in fields or is_there(value):
            fields[name] = value
    return fields


def _integer(digits: str) -> int | float:
    if len(digits) <= _MOST_DIGITS:
        return int(digits)
    return -math.inf if digits.startswith("-") else math.inf


DECODER = json.JSONDecoder(parse_int=_integer, object_pairs_hook=merged)
"""Reads JSON as every reader of an answer here does; raises ValueError or RecursionError."""


def _sound(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """PAIRS as fields, unless a name or a token in them has a control character within.

    It may be the line of a chunk's size, and what is around it half of a token.
    """
    for name, value in pairs:
        told = f"{name}{value}" if name in TOKENS else name
        if _CONTROL.search(told):
            raise ValueError
    return merged(pairs)


_LENIENT = json.JSONDecoder(strict=False, parse_int=_integer, object_pairs_hook=_sound)
"""Takes the line ends and tabs that servers paste into descriptions as they are."""


def _decoded(text: str) -> Any:
    try:
        return DECODER.decode(text)
    except ValueError:
        if _CONTROL.search(text) is None:
            raise
        return _LENIENT.decode(text)


def _unwrapped(fields: Fields) -> Fields:
    """FIELDS with the tokens of a wrapper beside its own; its own words stand."""
    if has_tokens(fields):
        return fields
    for name in WRAPPERS:
        inner = fields.get(name)
        if isinstance(inner, dict) and has_tokens(inner):
            return merged([*inner.items(), *fields.items()])
    return fields


def _form(text: str) -> Fields | None:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return None
    fields = merged(pairs)
    return fields if {*TOKENS, "error"} & fields.keys() else None
