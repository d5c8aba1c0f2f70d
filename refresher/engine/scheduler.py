"""When refreshes run: the loop that claims what is due, and the workers that carry it out.

The schedule lives in the vault; the loop holds nothing but the next instant to look.
Only what a free worker and the admission allow is claimed, so that no intent waits
armed and unsent.
"""

import math
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.grants import Claim
from refresher.engine.admission import Admission
from refresher.engine.refresh import Refresh
from refresher.engine.supervision import report_bug
from refresher.errors import VaultUnavailable
from refresher.vault.vault import Vault

T = TypeVar("T")

LONGEST_SLEEP = 30.0
"""The wall clock is looked at this often: suspend and clock steps heal by themselves."""

VAULT_RETRY = 1.0
"""Seconds between looks at a vault that refuses."""

EMPTY_HANDED = 1.0
"""Seconds until the next look when what was due could not be claimed."""

_Work = tuple[Claim, Client, bool]
"""A claim, the client it was admitted with, which a reload may drop meanwhile, and whether
it is a last chance, to be sent although its endpoint is closed."""


class Scheduler:
    """Turns while the daemon lives; at most ``workers`` exchanges are in flight."""

    def __init__(
        self,
        *,
        vault: Vault,
        refresh: Refresh,
        admission: Admission,
        clients: Mapping[str, Client],
        clock: Clock,
        workers: int,
    ) -> None:
        self._vault = vault
        self._refresh = refresh
        self._admission = admission
        self._clients = clients
        self._clock = clock
        self._idle = self._workers = workers
        self._wake = anyio.Event()
        self._all_idle = anyio.Event()
        self._loop_ended = anyio.Event()
        self._is_stopping = False
        self.turned_at = clock.monotonic()
        """Monotonic instant of the loop's last turn: the watchdog's evidence."""

    @property
    def in_flight(self) -> int:
        """Exchanges being worked on."""
        return self._workers - self._idle

    def wake(self) -> None:
        """Look for due grants now: something may have become due earlier."""
        self._wake.set()

    def start(self, tasks: TaskGroup) -> None:
        """Start loop and workers in TASKS."""
        send, receive = anyio.create_memory_object_stream[_Work](self._workers)
        for number in range(self._workers):
            tasks.start_soon(self._work, receive.clone(), name=f"worker {number}")
        receive.close()
        tasks.start_soon(self._run, send, name="scheduler")

    async def drain(self) -> None:
        """Begin no more exchanges and return once those in flight are durable."""
        self._is_stopping = True
        self.wake()
        await self._loop_ended.wait()  # a claim under way still hands out its exchanges
        while self._idle < self._workers:
            self._all_idle = anyio.Event()
            await self._all_idle.wait()

    async def _run(self, claims: MemoryObjectSendStream[_Work]) -> None:
        """The loop; it outlives its own bugs, and says so."""
        try:
            with claims:
                while not self._is_stopping:
                    await self._turn_supervised(claims)
        finally:
            self._loop_ended.set()

    async def _turn_supervised(self, claims: MemoryObjectSendStream[_Work]) -> None:
        try:
            await self._turn(claims)
        except VaultUnavailable as error:
            self._vault.outage.met(self._vault, str(error))
            await self._sleep(VAULT_RETRY)
        except Exception as error:  # noqa: BLE001  supervision: the loop must not die
            report_bug("scheduler", error)
            await self._sleep(VAULT_RETRY)

    async def _turn(self, claims: MemoryObjectSendStream[_Work]) -> None:
        """Claim what is due and allowed, then sleep until there may be more."""
        self.turned_at = self._clock.monotonic()
        self._wake = anyio.Event()
        await self._prove_recovery()
        room, chances = self._admission.room(), self._admission.last_chances()
        clients = dict(self._clients)
        due_at = await self._claim_due(claims, clients, room)
        one_each = dict.fromkeys(chances, 1)
        chance_at = await self._claim_due(claims, clients, one_each, since=chances)
        opening = self._admission.next_opening()
        now = self._clock.now()
        waits = [due_at - now, chance_at - now, math.inf if opening is None else opening]
        await self._sleep(min(waits))

    async def _claim_due(
        self,
        claims: MemoryObjectSendStream[_Work],
        clients: Mapping[str, Client],
        room: Mapping[str, int],
        *,
        since: Mapping[str, float] | None = None,
    ) -> float:
        """Hand out what is due of ROOM; when there may be more of it.

        Args:
            since: only replays whose first attempt was sent after these instants.
        """
        if not (room and self._idle):
            return math.inf
        due_at = await self._vault.next_due(list(room), since=since)
        if due_at is None or due_at > self._clock.now():
            return math.inf if due_at is None else due_at
        claimed = await self._refresh.claim(room, self._idle, since=since)
        for claim in claimed:
            client = clients[claim.grant.client or ""]
            self._admission.begun(client)
            self._idle -= 1
            claims.send_nowait((claim, client, since is not None))
        # Due, and not to be had: set aside, or claimed by a command meanwhile.
        return -math.inf if claimed else self._clock.now() + EMPTY_HANDED

    async def _sleep(self, seconds: float) -> None:
        """Sleep, in slices short enough to notice a changed wall clock; ``wake`` ends it."""
        with anyio.move_on_after(min(max(seconds, 0.001), LONGEST_SLEEP)):
            await self._wake.wait()

    async def _work(self, claims: MemoryObjectReceiveStream[_Work]) -> None:
        with claims:
            async for claim, client, is_last_chance in claims:
                await self._work_one(claim, client, is_last_chance=is_last_chance)
                self._idle += 1
                self.wake()
                if self._idle == self._workers:
                    self._all_idle.set()

    async def _work_one(self, claim: Claim, client: Client, *, is_last_chance: bool) -> None:
        """Carry out one refresh, unless something came in between since it was claimed."""
        is_open = is_last_chance or not self._admission.is_closed(client)
        if is_open and await self._supervised(claim, self._refresh.may_send(claim)):
            outcome = await self._supervised(claim, self._refresh.run(claim, client))
            self._admission.ended(client, outcome)
        else:
            await self._supervised(claim, self._refresh.hold_back(claim))
            self._admission.returned(client)

    async def _supervised(self, claim: Claim, work: Coroutine[Any, Any, T]) -> T | None:
        """Await WORK; a bug in it costs this grant a retry and nobody else."""
        try:
            return await work
        except VaultUnavailable:
            pass  # abandoned, or set aside: an answer is in the rescue file
        except Exception as error:  # noqa: BLE001  supervision: one grant's bug stops no other
            report_bug("worker", error, grant=claim.grant.name)
            await self._give_back(claim)
        return None

    async def _give_back(self, claim: Claim) -> None:
        try:
            await self._refresh.give_back(claim)
        except VaultUnavailable:
            pass  # abandoned too
        except Exception as error:  # noqa: BLE001  supervision: the lease ends with the process
            report_bug("worker", error, grant=claim.grant.name)

    async def _prove_recovery(self) -> None:
        """After a refusal, learn that the vault is back without waiting for a due grant."""
        if self._vault.outage.is_on:
            await self._vault.prove_writable(self._clock.now())
            self._vault.outage.over(self._vault)
