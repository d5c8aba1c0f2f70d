"""Which keys one server holds."""

from collections.abc import Sequence

from refresher.publication.server.connection import Server

GLOB = str.maketrans({sign: f"\\{sign}" for sign in "*?[]\\^"})
"""A prefix may hold what SCAN takes for a pattern."""


async def scan(server: Server, cursor: int, beginning: str, count: int) -> tuple[int, list[str]]:
    """Some keys that begin with BEGINNING, and the cursor for the next; 0 after the last.

    Raises:
        PublicationUnavailable: when Redis cannot be asked.
    """
    pattern = f"{beginning.translate(GLOB)}*"
    after, keys = await server.execute("SCAN", cursor, "MATCH", pattern, "COUNT", count)
    return int(after), [key.decode(errors="replace") for key in keys]


async def missing_of(server: Server, keys: Sequence[str]) -> list[str]:
    """Those of KEYS that do not exist: one command if that is none.

    Raises:
        PublicationUnavailable: when Redis cannot be asked.
    """
    if await server.execute("EXISTS", *keys) == len(keys):
        return []
    present = await server.pipeline([("EXISTS", key) for key in keys])
    return [key for key, is_there in zip(keys, present, strict=True) if is_there == 0]
