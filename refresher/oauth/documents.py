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

_TOKENS = frozenset({"access_token", "refresh_token"})

_FORM = re.compile(r"""[^\s<>{}"'=]+=[^\s<>{}"']*""")
"""What form encoding can look like: a page that mentions ``error=`` in a link does not.

The name holds no ``=``, so that there is one way only to match: 64 KiB of ``=`` took this
18 s when there were as many ways as characters.
"""

_MOST_DIGITS = 400
"""Longer integers are read as infinite: int() refuses to read them (CVE-2020-10735), and a
refused number must not cost the refresh token beside it."""


def read_fields(body: bytes, *, is_whole: bool = True) -> Fields | None:
    """The fields of a JSON object or a form; None for anything else.

    Args:
        is_whole: False when the transport broke off. A JSON object that closes is whole all
            the same; a form's last value may be half a token, so none is read.
    """
    text = body.decode(json.detect_encoding(body), errors="replace").strip("\ufeff\0 \t\r\n")
    if text.startswith("{"):
        fields = _json_object(text)
        return None if fields is None else _unwrapped(fields)
    if is_whole and _FORM.fullmatch(text):
        return _form(text)
    return None


def is_there(value: object) -> bool:
    """Whether a field holds more than the usual ways to say nothing."""
    return value is not None and not (isinstance(value, str) and not value.strip())


def _json_object(text: str) -> Fields | None:
    try:
        content = json.loads(text, parse_int=_integer, object_pairs_hook=_merged)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _merged(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
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


def _unwrapped(fields: Fields) -> Fields:
    """FIELDS with the tokens of a wrapper beside its own; its own words stand."""
    if _has_tokens(fields):
        return fields
    for name in WRAPPERS:
        inner = fields.get(name)
        if isinstance(inner, dict) and _has_tokens(inner):
            return _merged([*inner.items(), *fields.items()])
    return fields


def _has_tokens(fields: Fields) -> bool:
    return any(is_there(fields.get(name)) for name in _TOKENS)


def _form(text: str) -> Fields | None:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return None
    fields = _merged(pairs)
    return fields if {*_TOKENS, "error"} & fields.keys() else None
