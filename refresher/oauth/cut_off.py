"""What can still be read of a JSON object that was cut off: its complete members.

A string counts once its closing quote is there, and the comma, brace or cut behind it:
never half a token. Nothing is guessed, nothing is repaired.
"""

import re
from typing import Any

from refresher.oauth.compression import decompressed
from refresher.oauth.documents import DECODER, WRAPPERS, Fields, has_tokens, merged, text_of

_SPACE = re.compile(r"[ \t\r\n]*")
_REFRESH_TOKEN = re.compile(r'"refresh_token"\s*:\s*"[^"]')


def read_members(body: bytes) -> Fields | None:
    """The complete members of the object that BODY begins with, as far as it is intact.

    Where they hold no token, those of a wrapper that many vendors put the answer into. None
    where it is no object, where it closes all the same, and where behind the damage another
    refresh token is told.
    """
    text = text_of(body)
    if not text.startswith("{") and (content := decompressed(body, is_whole=False)) is not None:
        text = text_of(content.body)
    if not text.startswith("{"):
        return None
    members, end = _members(text, 1, may_enter=True)
    if end is None or _REFRESH_TOKEN.search(text, end):
        return None
    fields = merged(members)
    if has_tokens(fields):
        return fields
    wrapped: list[Fields] = [
        fields[name] for name in WRAPPERS if isinstance(fields.get(name), dict)
    ]
    return merged([*wrapped[0].items(), *members]) if wrapped else fields


def _members(
    text: str, position: int, *, may_enter: bool
) -> tuple[list[tuple[str, Any]], int | None]:
    """Name and value of each complete member from POSITION on, and where the rest begins.

    The rest is None for an object that closes.
    """
    found: list[tuple[str, Any]] = []
    while True:
        start = _after_space(text, position)
        name, colon = _value(text, start)
        if not isinstance(name, str) or not text.startswith(":", colon):
            return found, start
        opening = _after_space(text, colon + 1)
        value, position = _value(text, opening)
        if position < 0:
            if may_enter and name in WRAPPERS and text.startswith("{", opening):
                inner, end = _members(text, opening + 1, may_enter=False)
                return [*found, (name, merged(inner))], start if end is None else end
            return found, start
        is_last = position == len(text)
        if not is_last and text[position] not in ",}":
            return found, start
        if not is_last or isinstance(value, str):  # a number may go on behind the cut
            found.append((name, value))
        if text.startswith("}", position):
            return found, None
        position += 1


def _value(text: str, position: int) -> tuple[Any, int]:
    """The value at POSITION and where what follows it begins; -1 where it is not complete."""
    try:
        value, end = DECODER.raw_decode(text, position)
    except (ValueError, RecursionError):
        return None, -1
    return value, _after_space(text, end)


def _after_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return position if space is None else space.end()
