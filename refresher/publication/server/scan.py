"""Which keys there are."""

from collections.abc import Sequence

from refresher.publication.server.connection import Argument
from refresher.publication.server.masters import Masters

GLOB = str.maketrans({sign: f"\\{sign}" for sign in "*?[]\\^"})
"""A prefix may hold what SCAN takes for a pattern."""


Cursor = tuple[int, int]
"""How far a walk over all keys has come: which of the masters, and its own cursor."""

START: Cursor = (0, 0)
"""Where a walk begins, and where it has come to after the last key."""


async def scan(
    server: Masters, cursor: Cursor, beginning: str, count: int
) -> tuple[Cursor, list[str]]:
    """Some keys that begin with BEGINNING, and the cursor for the next; ``START`` after the last.

    Raises:
        PublicationUnavailable: when Redis cannot be asked.
    """
    pattern = f"{beginning.translate(GLOB)}*"
    masters = server.masters
    number, at = cursor if cursor[0] < len(masters) else START  # there may be fewer than before
    scanned: list[Argument] = ["SCAN", at, "MATCH", pattern, "COUNT", count]
    after, keys = await masters[number].execute(*scanned)
    following = (number, int(after)) if int(after) else ((number + 1) % len(masters), 0)
    return following, [key.decode(errors="replace") for key in keys]


async def missing_of(server: Masters, keys: Sequence[str]) -> list[str]:
    """Those of KEYS that do not exist: one command if that is none, and one server has all.

    Raises:
        PublicationUnavailable: when Redis cannot be asked.
    """
    if not server.is_divided and await server.execute("EXISTS", *keys) == len(keys):
        return []
    present = await server.pipeline([("EXISTS", key) for key in keys])
    return [key for key, is_there in zip(keys, present, strict=True) if is_there == 0]
