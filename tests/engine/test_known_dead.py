"""Who is known to be dead: what proves it, and what only looks like it."""

import anyio
import pytest

from refresher.engine.durability import Durability
from refresher.engine.records import exchange_record
from refresher.engine.recovery import recover
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.vault.heartbeats import Sign
from tests.engine.sharing import FOUND, Daemon, pass_time
from tests.engine.world import Lines
from tests.support.waiting import eventually
from tests.vault.sharing import Shared, backends_of
from tests.vault.world import (
    CRM,
    answered,
    claim_one,
    finish,
    get,
    holds,
    make_seed,
    outcome_of,
    rooms,
    sow,
)


@pytest.mark.parametrize("ended", ["backend", "reading"])
async def test_one_connection_that_ends_alone_is_no_death(
    both: Shared, lines: Lines, ended: str
) -> None:
    """A firewall resets it, or an administrator ends it, while its replica waits for an answer."""
    first, second = await both.replica("one"), await both.replica("two")
    await sow(first, make_seed())
    claim = await claim_one(first)
    both.server.connected.discard(getattr(backends_of(first), ended))
    await pass_time(both, Daemon(second), FOUND)
    assert await second.claim(rooms(crm=1), 1) == []
    assert [line["reason"] for line in lines.of(Event.REPLICA_GONE)] == ["silent"]
    await finish(first, claim, answered("at-1", "rt-1"), both.clock.now())
    assert holds(second, await get(second), "rt-1")


async def test_what_ended_the_connections_of_all_proves_no_death(
    both: Shared, lines: Lines
) -> None:
    """The database has ended them, and who is back first condemns nobody who needs longer."""
    first, second = await both.replica("one"), await both.replica("two")
    daemon = Daemon(second)
    await sow(first, make_seed())
    await claim_one(first)
    await daemon.turn()
    both.die(first)
    both.clock.move(0.5)
    both.reconnect(second)
    await pass_time(both, daemon, FOUND)
    assert await second.claim(rooms(crm=1), 1) == []
    assert [line["reason"] for line in lines.of(Event.REPLICA_GONE)] == ["silent"]


async def test_one_who_dies_after_that_is_known_to_be_dead(both: Shared, lines: Lines) -> None:
    first, second = await both.replica("one"), await both.replica("two")
    daemon = Daemon(second)
    await sow(first, make_seed())
    await daemon.turn()
    both.clock.move(0.5)
    both.reconnect(second)
    await pass_time(both, daemon, 1)
    await first.leases.beat()
    await claim_one(first)
    both.die(first)
    await pass_time(both, daemon, FOUND)
    assert len(await second.claim(rooms(crm=1), 1)) == 1
    assert [line["reason"] for line in lines.of(Event.REPLICA_GONE)] == ["connection_lost"]


async def test_one_who_dies_with_answers_in_its_rescue_file_is_waited_for(both: Shared) -> None:
    """Presented again, the refresh token would end the one that only its successor has."""
    first, second = await both.replica("one"), await both.replica("two")
    await sow(first, make_seed())
    claim = await claim_one(first)
    daemon, durability = Daemon(first), Durability(first)
    daemon.replicas._durability = durability
    record = exchange_record(claim, outcome_of(claim, answered("at-1", "rt-1")))

    async def refused() -> None:
        raise VaultUnavailable("just now")

    async with anyio.create_task_group() as tasks:

        async def write() -> None:
            await durability.until_written(refused, grant=claim.grant, record=record)

        tasks.start_soon(write)
        await eventually(lambda: durability.keeps_answers, "the answer is in the rescue file")
        await daemon.turn()
        tasks.cancel_scope.cancel()
    both.die(first)
    first.rescued.close()
    await pass_time(both, Daemon(second), FOUND)
    assert await second.claim(rooms(crm=1), 1) == []
    successor = await both.replica("one")
    await recover(successor, {"crm": CRM}, both.clock)
    assert holds(second, await get(second), "rt-1")


async def test_a_replica_whose_answers_are_written_may_be_known_to_be_dead(both: Shared) -> None:
    first, second = await both.replica("one"), await both.replica("two")
    shown = []
    for keeps in (False, True, False):
        await first.leases.beat(Sign(keeps_answers=keeps))
        assert not first.leases.is_reconnected
        [known] = await second.leases.beat()
        shown.append(known.backend is not None)
    assert shown == [True, False, True]
