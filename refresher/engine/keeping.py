"""Answers that found no grant: looked at, adopted and dropped on an operator's word, or in time."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import anyio

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.grants import Grant
from refresher.engine.records import read_record
from refresher.engine.recovery import read_again
from refresher.errors import GrantConflict, UnknownAnswer, VaultUnavailable
from refresher.logs import Event, emit
from refresher.vault.kept import ORPHAN, RESCUED, Entry
from refresher.vault.vault import Vault

SWEEP = 3_600.0
"""Seconds between two looks for what was kept long enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An answer in the rescue file that waits for its row, or for its key."""

    id: str
    name: str | None
    """None: no key opens it."""


class Keeping:
    """What becomes of kept answers."""

    def __init__(
        self,
        *,
        vault: Vault,
        clients: Mapping[str, Client],
        publish: Callable[[str], None],
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._vault, self._clients, self._clock = vault, clients, clock
        self._publish, self._wake = publish, wake

    async def run(self, keep: float) -> None:
        """Drop what is older than KEEP seconds, for ever."""
        while True:
            # Told as an outage; what is left is dropped next time.
            with suppress(VaultUnavailable):
                await self.drop_old(keep)
            await anyio.sleep(SWEEP)

    async def drop_old(self, keep: float) -> None:
        """Drop what is older than KEEP seconds, and logins that are over.

        Raises:
            VaultUnavailable: what is left can be dropped later.
        """
        while dropped := await self._vault.kept.drop_old(keep):
            for entry in dropped:
                emit(Event.ANSWER_DROPPED, grant=entry.name, reason=f"{entry.kind}: old")
        while await self._vault.changes.drop_old(keep):
            pass
        await self._vault.logins.drop_ended()

    async def adopt(self, kept_id: str, name: str | None) -> Grant:
        """Let the kept answer KEPT_ID count for the grant NAME, if it may.

        Args:
            name: None takes the grant that it came for.

        Raises:
            UnknownAnswer: there is no such kept answer.
            GrantConflict: it may not count there, or nobody understands it; it stays kept.
            DuplicateRefreshToken: another grant has its refresh token.
            VaultKeyError: no key opens it.
        """
        number = self._number(kept_id)
        for kept in await self._vault.kept.unreadable():
            if kept.id == number:
                if name not in {None, kept.name}:
                    raise GrantConflict(f"kept answer {kept_id} counts for {kept.name} alone")
                if await read_again(self._vault, self._clients, self._clock, kept) is None:
                    raise GrantConflict(f"nobody understands kept answer {kept_id} yet")
                return await self._told(kept.name)
        draw = self._clock.draw()
        grant = await self._vault.kept.adopt(number, name, draw)
        emit(Event.ANSWER_ADOPTED, grant=grant.name, client=grant.client, outcome=ORPHAN)
        return await self._told(grant.name)

    async def drop(self, kept_id: str) -> Entry | Waiting:
        """Forget the kept answer KEPT_ID, whatever is in it.

        Raises:
            UnknownAnswer: there is no such kept answer.
        """
        slot = kept_id.removeprefix(RESCUED)
        if slot != kept_id:
            found = {one.id: one for one in waiting(self._vault)}
            if kept_id not in found:
                raise UnknownAnswer(kept_id)
            await self._vault.kept.note_rescued_dropped(int(slot))
            self._vault.rescued.drop(int(slot))
            emit(Event.ANSWER_DROPPED, grant=found[kept_id].name, reason="rescued: operator")
            return found[kept_id]
        entry = await self._vault.kept.drop(int(kept_id))
        emit(Event.ANSWER_DROPPED, grant=entry.name, reason=f"{entry.kind}: operator")
        return entry

    async def _told(self, name: str) -> Grant:
        self._publish(name)
        self._wake()
        grant = await self._vault.find(name)
        if grant is None:
            raise GrantConflict(f"it counts for no grant: {name} was removed")
        return grant

    def _number(self, kept_id: str) -> int:
        if kept_id.startswith(RESCUED):
            raise GrantConflict(
                f"kept answer {kept_id} is in the rescue file: it is adopted by itself once its "
                "row is sound again, or its key is back"
            )
        return int(kept_id)


def waiting(vault: Vault) -> list[Waiting]:
    """The answers in the rescue file that no daemon could take up."""
    left = [
        Waiting(id=f"{RESCUED}{slot}", name=read_record(record).name)
        for slot, record in vault.rescued.left.items()
    ]
    return left + [Waiting(id=f"{RESCUED}{slot}", name=None) for slot in vault.rescued.unopened]
