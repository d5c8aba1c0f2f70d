"""What a daemon does that shares its vault with others: it is heard of, and hears of them.

Each second it writes a heartbeat, and takes over what silent replicas have left under way,
as far as ``domain.leases`` lets it. After it was cut off it offers its last commits again.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

import anyio

from refresher.clock import Clock
from refresher.domain.clients import Client
from refresher.domain.leases import BEAT_EVERY
from refresher.engine.admission import Admission
from refresher.engine.durability import Durability
from refresher.engine.recovery import offer_again, take_over
from refresher.engine.words import Heard, News, Words
from refresher.errors import VaultUnavailable
from refresher.logs import Event, emit
from refresher.vault.heartbeats import Replica, Sign
from refresher.vault.leases import Taken
from refresher.vault.vault import Vault

LOOK_EVERY = 30.0
"""Seconds between two looks for leases of holders that nobody has heard of."""


class Replicas:
    """One daemon among several on the same vault."""

    def __init__(
        self,
        *,
        vault: Vault,
        clients: Mapping[str, Client],
        durability: Durability,
        publish: Callable[[str], None],
        wake: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._vault, self._clients, self._durability = vault, clients, durability
        self._publish, self._wake, self._clock = publish, wake, clock
        self._was_cut_off = False
        self._admission: Admission | None = None
        self._words, self._heard = Words(clock, vault.fingerprint), Heard()
        self._share = vault.leases.share()
        self._gone: set[str] = set()
        """Replicas that were told to be gone."""
        self._settled: set[str] = set()
        """Those of them that have left nothing."""
        self._looked_at = -math.inf

    def begin_exchanges(self) -> Admission:
        """What keeps to this replica's share of all limits, and to what servers tell others."""
        share = self._vault.leases.share
        self._admission = Admission(self._clients, self._clock, share, self._words)
        return self._admission

    def telling(self, wake: Callable[[], None]) -> Callable[[], None]:
        """WAKE, after which the others look as well for what is due.

        Of what cannot be divided another one may have the only place, and would sleep on.
        """

        def wake_all() -> None:
            self._words.made_due += 1
            wake()

        return wake_all

    async def run(self) -> None:
        """Do so for ever; where nobody shares the vault there is nothing to do."""
        while self._vault.leases.is_shared:
            await self._turn()
            with anyio.move_on_after(BEAT_EVERY):
                await self._words.news.wait()

    async def restore(self) -> None:
        """Offer what was written lately again after each cut, for ever.

        Beside the heartbeats: a minute's commits take longer than a silent replica is left alone.
        """
        while self._vault.leases.is_shared:
            await self._offer_again()
            await anyio.sleep(BEAT_EVERY)

    async def leave(self, within: float) -> None:
        """Say that this daemon ends in order, the last it writes; a vault that hangs is left."""
        # Nothing else ends the wait for a write that is under way.
        hangs = asyncio.get_running_loop().call_later(within, self._vault.abandon)
        with suppress(VaultUnavailable):
            await self._vault.leases.leave()
        hangs.cancel()

    async def _turn(self) -> None:
        try:
            sign = Sign(self._words.told(), self._durability.keeps_answers)
            others = await self._vault.leases.beat(sign)
            self._hear(others)
            self._was_cut_off |= self._vault.leases.is_reconnected
            if (share := self._vault.leases.share()) != self._share:
                self._share = share
                self._wake()  # what another has left alone may be due here
            await self._vault.resealing.heard(self._vault.leases.replicas, self._clock.now())
            if not self._vault.leases.may_judge:
                return
            self._tell_gone(others)
            is_due = self._clock.monotonic() - self._looked_at >= LOOK_EVERY
            if is_due or self._gone - self._settled:
                await self._take_over({one.holder: one.name for one in others})
        except VaultUnavailable:
            self._was_cut_off = True  # told as an outage by whoever has something to write

    def _hear(self, others: list[Replica]) -> None:
        """Look for what OTHERS made due, and keep to what servers have told them."""
        if self._admission is None:
            return
        news = self._heard.news(others, self._clock.now())
        for word in news.said:
            self._admission.hear(word)
        for word in news.ended:
            self._admission.heard_enough(word)
        if news != News():
            self._wake()

    def _tell_gone(self, others: list[Replica]) -> None:
        now = self._clock.now()
        silent = {one.holder: one for one in others if one.life.is_silent(now)}
        for holder in silent.keys() - self._gone:
            one = silent[holder]
            is_lost = one.life.gone_at is not None
            emit(
                Event.REPLICA_GONE,
                replica=one.name,
                instance=holder,
                reason="connection_lost" if is_lost else "silent",
            )
        self._gone = set(silent)
        self._settled &= self._gone

    async def _take_over(self, names: Mapping[str, str]) -> None:
        done = await take_over(self._vault, self._clients, self._clock)
        if done is None:
            return
        self._looked_at = self._clock.monotonic()
        self._settled = self._gone - done.left
        if not done.exchanges:
            return
        for holder, count in Counter(taken.holder for taken in done.exchanges).items():
            name = names.get(holder, holder)
            emit(Event.REPLICA_TAKEN_OVER, replica=name, instance=holder, count=count)
        self._follow_up(done.exchanges)

    def _follow_up(self, exchanges: list[Taken]) -> None:
        for taken in exchanges:
            if taken.after is not None:
                self._publish(taken.after.name)
        self._wake()

    async def _offer_again(self) -> None:
        if not self._was_cut_off:
            return
        self._was_cut_off = False
        try:
            restored = await offer_again(self._vault, self._durability.written_lately())
        except VaultUnavailable:
            self._was_cut_off = True
            return
        if not restored:
            return
        emit(Event.COMMITS_RESTORED, count=len(restored))
        for name in restored:
            self._publish(name)
