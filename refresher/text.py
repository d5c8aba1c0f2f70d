"""Text from outside: what may be taken in, and how anything is shown as one plain line.

Terminals obey control characters, and bidirectional ones let a line read otherwise than it
is written. Log lines and messages show neither.
"""

import unicodedata

CONTROL_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""C0 and C1, halves of surrogate pairs, and the line and paragraph separators."""

BIDIRECTIONAL = frozenset(
    map(chr, (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)))
)
"""Marks, embeddings, overrides and isolates (UAX 9)."""


def is_plain(text: str) -> bool:
    """Whether TEXT holds nothing that a terminal, or a reader, would take for something else."""
    if text.isprintable():
        return True  # none of them is; a token of a thousand letters need not be gone through
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
