"""Writing what must not be lost: for ever, and safe beside the vault meanwhile."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import anyio

from refresher.domain.grants import Grant
from refresher.engine.supervision import report_bug
from refresher.errors import GrantSetAside, VaultUnavailable
from refresher.logs import Event, emit
from refresher.vault.rescue import Kept, Rescue
from refresher.vault.vault import Vault

T = TypeVar("T")

FIRST_RETRY = 0.1
LONGEST_RETRY = 5.0
"""Seconds between tries to write an answer the vault refuses."""

RESCUED_AFTER = 2.0
"""Seconds a commit may take before its answer is rescued beside it; it goes on."""

OFFERED_FOR, MOST_OFFERED = 60.0, 10_000
"""Seconds for which answers are kept in memory that a shared vault has taken, and how many."""


Record = Callable[[], bytes]


@dataclass(eq=False, slots=True)
class _InHand:
    """An outcome on its way into the vault."""

    grant: Grant
    record: Record | None
    """Makes what the rescue file is to keep; None when nothing came that could be lost."""
    since: float
    """When it came into our hands, in the loop's time."""
    rescue: Rescue | None = None
    kept: bytes = b""
    """What RESCUE keeps."""
    told: Kept | None = None

    @property
    def is_at_risk(self) -> bool:
        """Whether an answer would die with this process."""
        return self.record is not None and (self.rescue is None or not self.rescue.is_written)


class _Exchanges:
    """Counts those that are out: entered at the beginning of each, left at its end."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


class Durability:
    """Keeps trying to write, and keeps what it tries to write in the rescue file meanwhile."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self.on_written: Callable[[float], None] = lambda _: None
        """Is told the seconds that a write took until the vault had it."""
        self._in_hand: dict[_InHand, None] = {}
        """In the order in which they came."""
        self._late: asyncio.TimerHandle | None = None
        self._exchanges = _Exchanges()
        self._abandoned = anyio.Event()
        self._written = deque[tuple[float, Record]](maxlen=MOST_OFFERED)
        """Whence a database that others share may lose the last: it may fail over."""

    @property
    def at_risk(self) -> int:
        """Exchanges that are out, and answers that are in memory alone."""
        return self._exchanges.count + sum(hand.is_at_risk for hand in self._in_hand)

    @property
    def keeps_answers(self) -> bool:
        """Whether answers lie in the rescue file that the vault has not taken yet."""
        return any(hand.rescue is not None for hand in self._in_hand)

    def written_lately(self) -> list[bytes]:
        """The records of what a shared vault has taken lately, in that order."""
        since = asyncio.get_running_loop().time() - OFFERED_FOR
        while self._written and self._written[0][0] < since:
            self._written.popleft()
        return [record() for _, record in self._written]

    def exchange(self) -> AbstractContextManager[None]:
        """A request is out whose answer may be the only holder of a refresh token."""
        return self._exchanges

    def abandon(self) -> None:
        """Stop trying: the process ends, and what could be rescued is in the rescue file."""
        self._abandoned.set()

    async def until_written(
        self, write: Callable[[], Awaitable[T]], *, grant: Grant, record: Record | None = None
    ) -> T:
        """Call WRITE until the vault takes it; keep what RECORD makes in the rescue file meanwhile.

        RECORD is kept as soon as the vault refuses, and when it has not answered for
        ``RESCUED_AFTER``. Whoever calls this is shielded from cancellation: a commit that hangs
        may succeed.

        Raises:
            VaultUnavailable: abandoned at the end of the process.
            VaultUnavailable: also once the vault's file is gone, and RECORD is kept.
            GrantSetAside: the grant's row cannot be written, and RECORD waits for that in
                the rescue file.
        """
        loop = asyncio.get_running_loop()
        hand = _InHand(grant, record, loop.time())
        self._in_hand[hand] = None
        if self._late is None:
            self._late = loop.call_later(RESCUED_AFTER, self._rescue_late, loop)
        try:
            try:
                written = await write()
            except Exception as refusal:  # noqa: BLE001  raised again where there is no other try
                written = await self._again(refusal, write, hand)
            self._vault.outage.over(hand)
            self.on_written(loop.time() - hand.since)
        finally:
            self._vault.outage.forget(hand)
            del self._in_hand[hand]
        if hand.rescue is not None:
            self._vault.rescued.withdraw(hand.rescue)
        if record is not None and self._vault.leases.is_shared:
            self._written.append((loop.time(), record))
            if self._written[0][0] < loop.time() - OFFERED_FOR:
                self._written.popleft()
        return written

    async def _again(
        self, refusal: Exception, write: Callable[[], Awaitable[T]], hand: _InHand
    ) -> T:
        """Try again after a REFUSAL of what is in HAND, for as long as there is one."""
        wait = FIRST_RETRY
        while True:
            self._rescue(hand)  # after a bug, too: it waits there for the next process
            match refusal:
                case GrantSetAside():
                    if await self._is_left_for_later(hand):
                        raise refusal
                case VaultUnavailable():
                    self._vault.outage.met(hand, str(refusal))
                    if self._vault.files.is_vault_gone and await self._is_left_for_later(hand):
                        raise refusal  # it takes nothing any more; the next process adopts it
                case _:
                    raise refusal
            if self._abandoned.is_set():
                raise VaultUnavailable("the process ends while the vault refuses")
            with anyio.move_on_after(wait):
                await self._abandoned.wait()
            wait = min(wait * 2, LONGEST_RETRY)
            try:
                return await write()
            except Exception as error:  # noqa: BLE001  as above
                refusal = error

    def _rescue_late(self, loop: asyncio.AbstractEventLoop) -> None:
        """Rescue what has not been written for long: one timer, for whoever came first."""
        self._late, now = None, loop.time()
        for hand in self._in_hand:
            if hand.since + RESCUED_AFTER > now:
                self._late = loop.call_at(hand.since + RESCUED_AFTER, self._rescue_late, loop)
                return
            try:
                self._rescue(hand)
            except Exception as error:  # noqa: BLE001  supervision: the next answer waits behind it
                report_bug("rescue", error, grant=hand.grant.name)
        if self._in_hand:  # where there was no room for one, there may be later
            self._late = loop.call_later(RESCUED_AFTER, self._rescue_late, loop)

    def _rescue(self, hand: _InHand) -> None:
        """Put the record into the rescue file, unless it is there or on its way."""
        if hand.record is None or (hand.rescue is not None and hand.rescue.slot is not None):
            return

        def tell(kept: Kept) -> None:
            if kept is not hand.told:
                hand.told = kept
                emit(Event.ANSWER_RESCUED, grant=hand.grant.name, outcome=kept.value)

        hand.kept = hand.record()
        hand.rescue = self._vault.rescued.put(hand.kept, tell)

    async def _is_left_for_later(self, hand: _InHand) -> bool:
        """Whether nothing of an outcome that cannot be written now has to be held in memory."""
        if hand.rescue is None:
            return True
        await hand.rescue.is_settled.wait()
        if hand.rescue.slot is None:
            return False
        self._vault.rescued.left[hand.rescue.slot] = hand.kept
        return True
