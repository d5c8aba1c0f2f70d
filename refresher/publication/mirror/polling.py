"""Notices lost tokens where tracking is refused: asks for them every second.

It sees that keys are gone or that the server is another one, not that a value changed:
that waits for the slow walk.
"""

import anyio

from refresher.clock import Clock
from refresher.publication.mirror.observation import BRIEF
from refresher.publication.mirror.reconciler import Reconciler
from refresher.publication.mirror.worklist import Worklist
from refresher.publication.publisher import Publisher
from refresher.publication.server.faults import Refused
from refresher.publication.server.info import identity_of
from refresher.publication.server.scan import missing_of

POLL_EVERY = 1.0
"""Seconds between two looks."""

AT_ONCE = 4_000
"""Keys in one EXISTS; it counts, so a batch that falls short is looked at one by one."""


async def poll(
    *, publisher: Publisher, reconciler: Reconciler, worklist: Worklist, clock: Clock
) -> None:
    """Look for lost tokens until Redis is.

    Raises:
        PublicationUnavailable: when Redis cannot be asked.
    """
    identity = await identity_of(publisher.server)
    while True:
        await anyio.sleep(POLL_EVERY)
        if (now_is := await identity_of(publisher.server)) != identity:
            identity = now_is
            worklist.rebuild("server_changed")
        ends_after = clock.now() + BRIEF
        expected = reconciler.expected or {}
        names = [name for name, ends_at in expected.items() if ends_at > ends_after]
        try:
            for start in range(0, len(names), AT_ONCE):
                keys = {publisher.keys.token(name): name for name in names[start : start + AT_ONCE]}
                for key in await missing_of(publisher.server, list(keys)):
                    worklist.suspect(keys[key])
        except Refused as refusal:
            publisher.rights.note(refusal)
