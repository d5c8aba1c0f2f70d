"""Several replicas are to a server what one is: its rate, its quota, and a start after a day."""

import random
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from refresher.domain.adoption import Attempt
from refresher.domain.transition import transition
from refresher.engine.admission import Admission
from refresher.vault.vault import Vault
from tests.engine.sharing import Daemon
from tests.vault.sharing import Shared
from tests.vault.world import answered, make_client, make_seed, sow

RATE = 12.0
CLIENT = make_client(concurrency=12, rate=RATE)
DAY = 86_400.0
HOURS = 8 * 3600.0
"""Seconds that the tokens here live."""
TICK = 0.1


@dataclass
class Team:
    """Replicas that do all that is due, each exchange within its tick."""

    both: Shared
    lifetime: float
    chance: random.Random = field(default_factory=lambda: random.Random(7))  # noqa: S311
    members: list[tuple[Vault, Daemon, Admission]] = field(default_factory=list)
    sent: list[tuple[float, str]] = field(default_factory=list)
    """When the server saw which grant."""

    async def grow(self, count: int) -> Vault:
        """Let COUNT work together from now on; one of their vaults."""
        for number in range(count):
            vault = await self.both.replica(f"replica-{number}")
            daemon = Daemon(vault, CLIENT)
            self.members.append((vault, daemon, daemon.replicas.begin_exchanges()))
        return self.members[0][0]

    async def run(self, seconds: float, tick: float = TICK) -> None:
        """Let SECONDS pass, each with its heartbeats."""
        for number in range(round(seconds / tick)):
            self.both.clock.move(tick)
            if number % max(round(1.0 / tick), 1) == 0:
                for _, daemon, _ in self.members:
                    await daemon.turn()
            for vault, _, admission in self.members:
                await self._work(vault, admission)

    async def _work(self, vault: Vault, admission: Admission) -> None:
        rooms = admission.rooms()
        now = self.both.clock.now()
        for claim in await vault.claim(rooms, 100) if rooms else ():
            admission.begun(CLIENT, claim)
            self.sent.append((now, claim.grant.name))
            outcome = answered("at", f"rt-{len(self.sent)}", expires_in=self.lifetime)
            attempt = Attempt(sent_at=now, ended_at=now, draw=self.chance.random())
            await vault.commit(claim, transition(claim, CLIENT, outcome, attempt))
            admission.ended(CLIENT, claim, outcome)

    async def away(self, seconds: float) -> None:
        """All of them end, and nobody works for SECONDS."""
        for _, daemon, _ in self.members:
            await daemon.replicas.leave(1.0)
        self.members.clear()
        self.sent.clear()
        self.both.clock.move(seconds)


def most_within(instants: list[float], seconds: float) -> int:
    """How many of INSTANTS, in their order, lie within SECONDS of each other at most."""
    return max(bisect_left(instants, at + seconds) - place for place, at in enumerate(instants))


@pytest.mark.parametrize("count", [1, 3])
async def test_a_day_takes_as_many_exchanges_whoever_makes_them(both: Shared, count: int) -> None:
    """So that a quota of a day is one daemon's, and needs no part for each."""
    team = Team(both, HOURS)
    vault = await team.grow(count)
    await sow(vault, *(make_seed(f"g{number}", f"rt-of-{number}") for number in range(8)))
    started_at = both.clock.now()
    await team.run(6.0, tick=1.0)
    while both.clock.now() < started_at + DAY:
        due = [grant.due_at for grant in await vault.grants()]
        both.clock.move(max(min(at for at in due if at is not None) - both.clock.now(), 0.0))
        await team.run(6.0, tick=1.0)  # they are heard of again, and know their parts
    by_grant = Counter(name for _, name in team.sent)
    assert len(by_grant) == 8
    # A first one, and then one after 70 to 80 % of each life.
    assert set(by_grant.values()) == {4, 5}


async def test_a_start_after_a_day_without_any_is_smooth(both: Shared) -> None:
    """All are due at once: the limit holds, whose token ended first goes first, and they part."""
    grants, lifetime = 150, 3_600.0
    team = Team(both, lifetime)
    vault = await team.grow(3)
    await sow(vault, *(make_seed(f"g{number}", f"rt-of-{number}") for number in range(grants)))
    await team.run(5.0 + 1.5 * grants / RATE)
    ends = {grant.name: grant.expires_at for grant in await vault.grants()}
    assert len({name for _, name in team.sent}) == grants
    await team.away(DAY)
    vault = await team.grow(3)
    await team.run(5.0 + 1.5 * grants / RATE)
    order = list(dict.fromkeys(name for _, name in team.sent))
    assert len(team.sent) == len(order) == grants
    instants = [at for at, _ in team.sent]
    for seconds in (0.5, 1.0, 3.0, 10.0):
        assert most_within(instants, seconds) <= RATE * (1 + seconds) + 1
    # Each has its part of the rate, so one may be a moment behind another.
    ended = [ends[name] or 0.0 for name in order]
    assert all(later > earlier - 3.0 for earlier, later in pairwise(ended))
    due = sorted(grant.due_at or 0.0 for grant in await vault.grants())
    # A life later they are further apart than they were by the rate.
    assert due[-1] - due[0] > 0.09 * lifetime
    assert most_within(due, 30.0) < grants / 4
