"""The independent watch: what the clock does to grants, and what nobody works on.

It runs beside the scheduler and shares nothing with it, so that a stuck scheduler is
seen by something that is not stuck.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Sequence

import anyio

from refresher.clock import JUMP, Clock, Instant
from refresher.domain.grants import Grant
from refresher.domain.repairs import OVERDUE
from refresher.engine.announcements import announce, announce_ending, announce_incident
from refresher.errors import VaultUnavailable
from refresher.logs import Event, emit
from refresher.vault.vault import Vault

INTERVAL = 1.0
"""Seconds between looks: how late a status may say degraded or expired."""

PROVEN_EVERY = 2.0
"""Seconds between proofs that the vault takes a write: how early readiness knows of a disk
that is full while nothing is due."""

ASIDE_EVERY = 60.0
"""Seconds between two tries to read and write what was set aside."""

OVERDUE_AFTER = 120.0
"""Seconds past due with nobody at work before the watch says so, and seconds that somebody
must have had for it: after a start, a suspend or an outage of the vault everything is past due."""

OVERDUE_EVERY = 10.0
"""Seconds between two looks at what is overdue."""

PAUSES_EVERY = 10.0
"""Seconds between two looks for pauses that are over: most of them end with their next claim,
and these are of grants that cannot be claimed now."""

ENDINGS_EVERY = 60.0
"""Seconds between two looks for refresh tokens of which a person is told that they end."""


class Watch:
    """Looks once a second; a look that fails is followed by the next."""

    def __init__(
        self,
        *,
        vault: Vault,
        publish: Callable[[str], None],
        readmit: Callable[[Sequence[str]], Awaitable[None]],
        wake: Callable[[], None],
        held_back: Callable[[], Collection[str]],
        clock: Clock,
    ) -> None:
        """Look after VAULT.

        Args:
            held_back: the clients that wait for their endpoint or their server to be well again,
                which has a line of its own.
        """
        self._held_back = held_back
        self._vault = vault
        self._publish = publish
        self._readmit = readmit
        self._wake = wake
        self._clock = clock
        self._able_for = 0.0
        """Seconds for which whoever refreshes could do so without a break."""
        self._waiting: dict[str | None, int] = {}
        """How many grants of each client were overdue at the last look."""
        self._behind: set[str | None] = set()
        """Clients reported to be behind, until they no longer are."""
        self._next_proof = self._next_trial = self._next_overdue = -math.inf
        self._next_pauses = self._next_endings = -math.inf
        self._sound: set[str] = set()
        """Grants that were set aside, and what was left of them is not taken up yet."""

    async def run(self) -> None:
        """Look for ever."""
        before = Instant.of(self._clock)
        while True:
            await anyio.sleep(INTERVAL)
            before = await self._turn(before)

    async def _turn(self, before: Instant) -> Instant:
        """Look once; the instant from which the next step of the clock is measured."""
        now = Instant.of(self._clock)
        offset = now.stepped_since(before)
        # Whoever refreshes could do no more than this watch could, while the process was stopped.
        passed = now.elapsed - before.elapsed
        self._able_for = self._able_for + passed if passed < OVERDUE_EVERY else 0.0
        try:
            if abs(offset) > JUMP:
                self._able_for = 0.0
                await self._clock_jumped(offset)
            # Only now: a step that the vault could not follow yet is followed next time.
            before = now
            await self._look(now.wall)
        except VaultUnavailable:
            # Told as an outage; nothing of a look is lost that the next misses.
            self._able_for = 0.0
        return before

    async def _look(self, now: float) -> None:
        elapsed = self._clock.monotonic()
        if elapsed >= self._next_proof:
            self._next_proof = elapsed + PROVEN_EVERY
            await self._prove()
        while moved := await self._vault.time_passed(self._held_back):
            self._tell(moved)
            if any(before.due_at != after.due_at for before, after in moved):
                self._wake()
        if elapsed >= self._next_pauses:
            self._next_pauses = elapsed + PAUSES_EVERY
            while ended := await self._vault.pauses.end_due():
                self._tell(ended)
        for incident in await self._vault.incidents_over():
            announce_incident(incident, is_over=True)
        if elapsed >= self._next_overdue and self._able_for >= OVERDUE_AFTER:
            self._next_overdue = elapsed + OVERDUE_EVERY
            await self._report_overdue(now)
        if elapsed >= self._next_endings:
            self._next_endings = elapsed + ENDINGS_EVERY
            while taken := await self._vault.endings.take_due():
                self._tell_endings(taken)
        if elapsed >= self._next_trial:
            self._next_trial = elapsed + ASIDE_EVERY
            await self._try_set_aside()

    def _tell(self, moved: Sequence[tuple[Grant, Grant]]) -> None:
        for before, after in moved:
            announce(before, after)
            self._publish(after.name)

    def _tell_endings(self, taken: Sequence[tuple[Grant, bool]]) -> None:
        for grant, is_told in taken:
            if is_told:
                announce_ending(grant)
                self._publish(grant.name)

    async def _prove(self) -> None:
        """Learn whether the vault can be written although nothing has to be."""
        try:
            await self._vault.prove_writable()
        except VaultUnavailable as error:
            self._vault.outage.met(self._vault, str(error))
            raise
        self._vault.outage.over(self._vault)

    async def _try_set_aside(self) -> None:
        self._sound |= set(await self._vault.look_at_set_aside())
        if self._sound:
            await self._readmit(sorted(self._sound))
            for name in self._sound:
                self._publish(name)
            self._sound.clear()
            self._wake()

    async def _report_overdue(self, now: float) -> None:
        """One line for each client that falls behind, not one for each of its grants.

        One that catches up, after a start or an outage, is worked on: its count falls.
        """
        found, held_back = await self._vault.overdue(now - OVERDUE_AFTER), self._held_back()
        overdue = [behind for behind in found if behind.client not in held_back]
        for behind in overdue:
            is_catching_up = behind.count < self._waiting.get(behind.client, math.inf)
            if is_catching_up or behind.client in self._behind:
                continue
            self._behind.add(behind.client)
            emit(
                Event.GRANT_OVERDUE,
                grant=behind.longest,
                client=behind.client,
                count=behind.count,
                overdue_s=round(now - behind.due_at),
                expires_at=behind.expires_at,
                repair=OVERDUE,
            )
        self._waiting = {behind.client: behind.count for behind in overdue}
        self._behind &= self._waiting.keys()

    async def _clock_jumped(self, offset: float) -> None:
        """Set back: every instant follows. Ahead: a suspend looks the same; time has passed.

        The vault follows by itself, with the first write after the step (``WatchedClock``).
        """
        if offset < 0:
            async for names in self._vault.steps.follow():
                for name in names:
                    self._publish(name)
        emit(Event.CLOCK_JUMPED, offset_s=round(offset, 1))
        self._wake()
