"""Notices lost tokens where tracking is refused: asks for them every second.

It sees that keys are gone or that the server is another one, not that a value changed:
that waits for the slow walk.
"""

import anyio

from refresher.clock import Clock
from refresher.publication.doubts import read_info
from refresher.publication.observation import BRIEF
from refresher.publication.publisher import Publisher
from refresher.publication.reconciler import Reconciler
from refresher.publication.worklist import Worklist

POLL_EVERY = 1.0
"""Seconds between two looks."""

AT_ONCE = 500
"""Keys in one EXISTS; it counts, so a batch that falls short is looked at one by one."""


async def poll(
    *, publisher: Publisher, reconciler: Reconciler, worklist: Worklist, clock: Clock
) -> None:
    """Look for lost tokens until Redis is.

    Raises:
        PublicationUnavailable: when Redis cannot be asked.
    """
    identity = await _identity(publisher)
    while True:
        await anyio.sleep(POLL_EVERY)
        if (now_is := await _identity(publisher)) != identity:
            identity = now_is
            worklist.rebuild("server_changed")
        ends_after = clock.now() + BRIEF
        expected = reconciler.expected or {}
        names = [name for name, ends_at in expected.items() if ends_at > ends_after]
        for start in range(0, len(names), AT_ONCE):
            batch = names[start : start + AT_ONCE]
            for name in await _missing(publisher, batch):
                worklist.suspect(name)


async def _missing(publisher: Publisher, names: list[str]) -> list[str]:
    keys = [publisher.keys.token(name) for name in names]
    if await publisher.server.execute("EXISTS", *keys) == len(keys):
        return []
    present = await publisher.server.pipeline([("EXISTS", key) for key in keys])
    return [name for name, is_there in zip(names, present, strict=True) if is_there == 0]


async def _identity(publisher: Publisher) -> tuple[str, str]:
    """What changes when the server is replaced or restarted; empty where INFO is refused."""
    info = await read_info(publisher.server, "server", "replication")
    return info.get("run_id", ""), info.get("master_replid", "")
