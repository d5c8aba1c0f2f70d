"""Text from outside: what may be taken in, and how anything is shown as one plain line.

Terminals obey control characters, and bidirectional ones let a line read otherwise than it
is written. Log lines and messages show neither.
"""

import math
import re
import unicodedata
from typing import Any

CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""C0 and C1, halves of surrogate pairs, and the line and paragraph separators."""

BIDIRECTIONAL = frozenset(
    map(chr, (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)
"""Marks, embeddings, overrides and isolates (UAX 9)."""

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds in each unit a duration may be written in."""


def is_plain(text: str) -> bool:
    """Whether TEXT holds nothing that a terminal, or a reader, would take for something else."""
    return not any(
        each in BIDIRECTIONAL or unicodedata.category(each) in CONTROL_CATEGORIES for each in text
    )


def plain(text: str) -> str:
    """TEXT as one line that any terminal can show: the rest becomes escapes."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def plain_value(value: object) -> object:
    """VALUE with every text in it plain: a text, or a list of them; anything else as it is."""
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list | tuple):
        return [plain_value(each) for each in value]
    return value


def read_duration(value: Any) -> float:
    """Seconds from a number, or from a text such as ``90s``, ``15m``, ``8h`` or ``60d``.

    Raises:
        ValueError: for anything else.
    """
    seconds: float | None = None
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", value.strip())
        seconds = float(match[1]) * UNITS[match[2]] if match else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = to_float(value)
    if seconds is not None and math.isfinite(seconds):
        return seconds
    raise ValueError('is not a duration: write seconds or a text such as "90s", "15m", "8h", "60d"')


def to_float(number: float) -> float:
    """NUMBER, which may be a whole one too large for a float."""
    try:
        return float(number)
    except OverflowError:
        return math.inf
