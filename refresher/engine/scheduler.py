"""When refreshes run: the loop that claims what is due, and the workers that carry it out.

The schedule lives in the vault; the loop holds nothing but the next instant to look.
Only what a free worker and the admission allow is claimed, so that no intent waits
armed and unsent.

Every gate (endpoint and client id) has a worker of its own, and the others are shared: the
pool grows with the clients. Where a late answer may hold the only valid refresh token, its
worker is replaced at the deadline and stays behind to read it.
"""

import asyncio
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.grants import Claim
from refresher.engine.admission import Admission, Settled
from refresher.engine.announcements import announce_singled_out
from refresher.engine.refresh import Refresh
from refresher.engine.supervision import Shield, report_bug
from refresher.engine.tick import Tick
from refresher.errors import VaultUnavailable
from refresher.oauth.patience import Patience
from refresher.vault.vault import Vault

LONGEST_SLEEP = 30.0
"""The wall clock is looked at this often: suspend and clock steps heal by themselves."""

VAULT_RETRY = 1.0
"""Seconds between looks at a vault that refuses."""

EMPTY_HANDED = 1.0
"""Seconds until the next look when what was due could not be claimed."""


@dataclass(slots=True, eq=False)
class _Work:
    """One exchange on its way through a worker."""

    claim: Claim
    client: Client
    """The one it was admitted with, which a reload may drop meanwhile."""
    is_last_chance: bool
    """It is to be sent although its endpoint is closed."""
    patience: Patience | None = field(default=None)
    """Of a request under way."""
    is_late: bool = False
    """Its worker was replaced; this one reads on, and ends with it."""

    def begin(self, patience: Patience) -> None:
        """Its request may be ended with PATIENCE from now on."""
        self.patience = patience


class Scheduler:
    """Turns while the daemon lives.

    Args:
        workers: exchanges in flight that the gates share, beside the one each has of its own.
            As many answers again may be read late.
    """

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
        self._shared = workers
        self._workers = 0
        self._working: set[_Work] = set()
        self._late: set[_Work] = set()
        self._handed_out: deque[_Work | None] = deque()
        """What no worker has taken yet; None ends one of them."""
        self._idle: list[asyncio.Future[None]] = []
        """Workers that wait for it."""
        self._wake = asyncio.Event()
        self._all_done = anyio.Event()
        self._loop_ended = anyio.Event()
        self._is_stopping = False
        self._tick = Tick()
        self._is_behind = False
        """The last claim filled every place, so more is likely to be due: no look before it."""
        self.turned_at = clock.monotonic()
        """Monotonic instant of the loop's last turn: the watchdog's evidence."""

    @property
    def in_flight(self) -> int:
        """Exchanges being worked on, those whose answer is late included."""
        return len(self._working) + len(self._late)

    def wake(self) -> None:
        """Look for due grants now: something may have become due earlier."""
        self._wake.set()

    def start(self, tasks: TaskGroup) -> None:
        """Start loop and workers in TASKS."""
        self._tasks = tasks
        tasks.start_soon(self._run, name="scheduler")

    async def drain(self) -> None:
        """Begin no more exchanges and return once those in flight are durable."""
        self._is_stopping = True
        self.wake()
        await self._loop_ended.wait()  # a claim under way still hands out its exchanges
        while self.in_flight:
            self._all_done = anyio.Event()
            await self._all_done.wait()

    def give_up_late(self) -> None:
        """Read no more late answers: their exchanges stay open, for the next process to resolve."""
        for work in self._late:
            if work.patience is not None:
                work.patience.give_up()

    async def _run(self) -> None:
        """The loop; it outlives its own bugs, and says so."""
        try:
            while not self._is_stopping:
                await self._turn_supervised()
        finally:
            for _ in range(self._workers):
                self._hand_out(None)
            self._loop_ended.set()

    async def _turn_supervised(self) -> None:
        try:
            await self._turn()
        except VaultUnavailable as error:
            self._vault.outage.met(self._vault, str(error))
            await self._sleep(VAULT_RETRY)
        except Exception as error:  # noqa: BLE001  supervision: the loop must not die
            report_bug("scheduler", error)
            await self._sleep(VAULT_RETRY)

    async def _turn(self) -> None:
        """Claim what is due and allowed, then sleep until there may be more."""
        self.turned_at = self._clock.monotonic()
        self._wake.clear()
        await self._prove_recovery()
        self._staff()
        due_at = await self._claim_due()
        opening = self._admission.next_opening()
        if not self._is_behind:  # else the places are what it waits for
            await asyncio.sleep(self._tick.pause(self._clock.monotonic()))
        now = self._clock.now()
        await self._sleep(min(due_at - now, math.inf if opening is None else opening))

    def _staff(self) -> None:
        """Start workers for the places there are; a reload may have brought gates."""
        while self._workers < self._shared + self._admission.gates:
            self._start_worker()
            self._workers += 1

    def _start_worker(self) -> None:
        self._tasks.start_soon(self._work, name="worker")

    async def _claim_due(self) -> float:
        """Hand out what is due and has room; when there may be more of it."""
        clients, rooms = dict(self._clients), self._admission.rooms()
        shared = self._shared - self._admission.shared_in_use
        if shared <= 0:
            rooms = [room for room in rooms if room.has_reserve]
        if not rooms:
            return math.inf
        was_behind = self._is_behind
        if not was_behind:
            due_at = await self._vault.next_due(rooms)
            if due_at is None or due_at > self._clock.now():
                return math.inf if due_at is None else due_at
        closed = {room.client for room in rooms if room.only_replays}
        reserves = {room.gate for room in rooms if room.has_reserve}
        claimed = await self._refresh.claim(rooms, shared)
        for claim in claimed:
            client = clients[claim.grant.client or ""]
            self._admission.begun(client, claim)
            work = _Work(claim, client, client.name in closed)
            self._working.add(work)
            self._hand_out(work)
        self._tick.claimed(len(claimed), self._clock.monotonic())
        places = min(sum(room.places for room in rooms), shared + len(reserves))
        self._is_behind = 0 < places <= len(claimed)
        if claimed or was_behind:
            return -math.inf
        # Due, and not to be had: set aside, or claimed by a command meanwhile.
        return self._clock.now() + EMPTY_HANDED

    async def _sleep(self, seconds: float) -> None:
        """Sleep, in slices short enough to notice a changed wall clock; ``wake`` ends it."""
        with anyio.move_on_after(min(max(seconds, 0.001), LONGEST_SLEEP)):
            await self._wake.wait()

    def _hand_out(self, work: _Work | None) -> None:
        self._handed_out.append(work)
        while self._idle:
            worker = self._idle.pop()
            if not worker.done():
                worker.set_result(None)
                return

    async def _next_work(self) -> _Work | None:
        while not self._handed_out:
            mine = asyncio.get_running_loop().create_future()
            self._idle.append(mine)
            await mine
        return self._handed_out.popleft()

    async def _work(self) -> None:
        with anyio.CancelScope() as scope:
            await self._work_on(Shield(scope))

    async def _work_on(self, shield: Shield) -> None:
        while (work := await self._next_work()) is not None:
            await self._work_one(work, shield)
            self._working.discard(work)
            self._late.discard(work)
            self.wake()
            if not self.in_flight:
                self._all_done.set()
            if work.is_late:
                return  # another worker has taken this one's place

    async def _work_one(self, work: _Work, shield: Shield) -> None:
        """Carry out one refresh, unless something came in between since it was claimed.

        A bug in it costs this grant a retry and nobody else.
        """
        claim, client = work.claim, work.client
        outcome, is_sent = None, False
        try:
            is_open = work.is_last_chance or not self._admission.is_closed(client)
            is_sent = is_open and await self._refresh.may_send(claim)
            if is_sent:
                outcome = await self._refresh.run(
                    claim,
                    client,
                    blame=self._admission.blame,
                    begun=work.begin,
                    on_late=lambda patience: self._is_late(work, patience),
                    shield=shield,
                )
            else:
                await self._refresh.hold_back(claim)
        except VaultUnavailable:
            pass  # abandoned, or set aside: an answer is in the rescue file
        except Exception as error:  # noqa: BLE001  supervision: one grant's bug stops no other
            report_bug("worker", error, grant=claim.grant.name)
            await self._give_back(claim)
        if not is_sent:
            self._admission.returned(client, claim)
            return
        settled = self._admission.ended(client, claim, outcome, was_late=work.is_late)
        if settled is not None:
            await self._follow_up(claim, client, settled)

    def _is_late(self, work: _Work, patience: Patience) -> None:
        """The deadline of WORK has passed: free its worker, and let it read on if it may."""
        if len(self._late) >= self._shared:
            patience.give_up()
            return
        work.is_late = True
        self._working.discard(work)
        self._late.add(work)
        self._admission.freed(work.client)
        if not self._is_stopping:
            self._start_worker()
            self.wake()

    async def _follow_up(self, claim: Claim, client: Client, settled: Settled) -> None:
        """Let go on what has waited for what is SETTLED now, by the exchange of CLAIM."""
        each = self._admission.pause_between(client)
        names = self._admission.sharing(client)
        try:
            match settled:
                case Settled.ENDPOINT_ANSWERS:
                    await self._vault.hastening.after_outage(names, each)
                case Settled.CLIENT_ACCEPTED:
                    for name in names:
                        async for page in self._vault.hastening.single_out(name, each):
                            for grant in page:
                                announce_singled_out(grant)
                                self._refresh.publish(grant.name)
        except VaultUnavailable:
            pass  # they are due by themselves
        except Exception as error:  # noqa: BLE001  supervision: as above
            report_bug("worker", error, grant=claim.grant.name)

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
            await self._vault.prove_writable()
            self._vault.outage.over(self._vault)
