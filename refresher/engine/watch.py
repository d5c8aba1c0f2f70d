"""The independent watch: what the clock does to grants, and what nobody works on.

It runs beside the scheduler and shares nothing with it, so that a stuck scheduler is
seen by something that is not stuck.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

import anyio

from refresher.clock import JUMP, Clock
from refresher.domain.grants import Grant
from refresher.domain.repairs import repair
from refresher.engine.announcements import announce, announce_incident
from refresher.engine.instants import Instant
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
"""Seconds past due with nobody at work before the watch says so."""

DAY = 86_400.0
ANNOUNCED_DAYS = (14, 7, 1)
"""Days before a refresh token's known end at which the operator is told."""

HOUR = 3_600.0


class Watch:
    """Looks once a second; a look that fails is followed by the next."""

    def __init__(
        self,
        *,
        vault: Vault,
        publish: Callable[[str], None],
        readmit: Callable[[Sequence[str]], Awaitable[None]],
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._vault = vault
        self._publish = publish
        self._readmit = readmit
        self._wake = wake
        self._clock = clock
        self._behind: set[str | None] = set()
        """Clients reported to be behind, until they no longer are."""
        self._announced: dict[str, int] = {}
        self._next_horizon = 0.0
        self._next_proof = self._next_trial = -math.inf
        self._sound: set[str] = set()
        """Grants that were set aside, and what was left of them is not taken up yet."""

    async def run(self) -> None:
        """Look for ever."""
        before = Instant.of(self._clock)
        while True:
            await anyio.sleep(INTERVAL)
            now = Instant.of(self._clock)
            offset = now.stepped_since(before)
            try:
                if abs(offset) > JUMP:
                    await self._clock_jumped(now.wall, offset)
                # Only now: a step that the vault could not follow yet is followed next time.
                before = now
                await self._look(now.wall)
            except VaultUnavailable:
                continue  # told as an outage; nothing of a look is lost that the next misses

    async def _look(self, now: float) -> None:
        elapsed = self._clock.monotonic()
        if elapsed >= self._next_proof:
            self._next_proof = elapsed + PROVEN_EVERY
            await self._prove(now)
        for before, after in await self._vault.time_passed(now):
            announce(before, after)
            self._publish(after.name)
        for incident in await self._vault.incidents_over(now):
            announce_incident(incident, is_over=True)
        await self._report_overdue(now)
        if now >= self._next_horizon:
            self._next_horizon = now + HOUR
            for grant in await self._vault.ending_before(now + ANNOUNCED_DAYS[0] * DAY):
                self._announce_end(grant, now)
        if elapsed >= self._next_trial:
            self._next_trial = elapsed + ASIDE_EVERY
            await self._try_set_aside(now)

    async def _prove(self, now: float) -> None:
        """Learn whether the vault can be written although nothing has to be."""
        try:
            await self._vault.prove_writable(now, self._clock.since_boot())
        except VaultUnavailable as error:
            self._vault.outage.met(self._vault, str(error))
            raise
        self._vault.outage.over(self._vault)

    async def _try_set_aside(self, now: float) -> None:
        self._sound |= set(await self._vault.look_at_set_aside(now))
        if self._sound:
            await self._readmit(sorted(self._sound))
            for name in self._sound:
                self._publish(name)
            self._sound.clear()
            self._wake()

    async def _report_overdue(self, now: float) -> None:
        """One line for each client that falls behind, not one for each of its grants."""
        overdue = await self._vault.overdue(now - OVERDUE_AFTER)
        behind: dict[str | None, list[Grant]] = {}
        for grant in overdue:
            behind.setdefault(grant.client, []).append(grant)
        for client, grants in behind.items():
            longest = grants[0]
            if client in self._behind or longest.due_at is None:
                continue
            emit(
                Event.GRANT_OVERDUE,
                grant=longest.name,
                client=client,
                count=len(grants),
                overdue_s=round(now - longest.due_at),
                expires_at=longest.expires_at,
            )
        self._behind = set(behind)

    def _announce_end(self, grant: Grant, now: float) -> None:
        assert grant.refresh_token_expires_at is not None
        days = (grant.refresh_token_expires_at - now) / DAY
        passed = [limit for limit in ANNOUNCED_DAYS if days <= limit]
        if passed and self._announced.get(grant.name) != passed[-1]:
            self._announced[grant.name] = passed[-1]
            emit(
                Event.GRANT_ENDING,
                grant=grant.name,
                client=grant.client,
                reason="refresh_token_ends",
                expires_at=grant.refresh_token_expires_at,
                repair=repair(grant) or f"refresher login {grant.name}",
            )

    async def _clock_jumped(self, now: float, offset: float) -> None:
        """Set back: every instant follows. Ahead: a suspend looks the same; time has passed.

        The vault follows by itself, with the first write after the step (``WatchedClock``).
        """
        if offset < 0:
            for name in await self._vault.clock.follow(now):
                self._publish(name)
        emit(Event.CLOCK_JUMPED, offset_s=round(offset, 1))
        self._wake()
