"""The one definition of a version or revision in Redis, pure; ``publish.lua`` has the same.

Anybody who may write a key can put any text there. What one reader takes for a number and
another does not would win for one and be invisible to the other, so everything but plain
decimal digits counts as no version at all: it never wins, and is repaired.
"""

import re

HIGHEST = 2**53
"""Lua and JavaScript hold integers as doubles: above this they are no longer exact."""

_PLAIN = re.compile(r"0|[1-9][0-9]{0,15}")


def read_version(text: str) -> int | None:
    """The integer TEXT stands for; None unless plain digits up to ``HIGHEST``."""
    if _PLAIN.fullmatch(text) is None:
        return None
    number = int(text)
    return number if number <= HIGHEST else None
