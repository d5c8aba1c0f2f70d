"""Several daemons on one vault: who takes what over from whom, and what is offered again."""

import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from refresher.domain import leases as rule
from refresher.domain.grants import GrantState
from refresher.domain.leases import BACK_WITHIN, MISSED
from refresher.domain.notifications import Notification
from refresher.domain.schedule import mandatory_window
from refresher.domain.shares import Share
from refresher.engine.recovery import recover
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.vault.vault import Vault
from tests.engine.sharing import FOUND, Daemon, pass_time
from tests.engine.world import Lines, answering, assemble
from tests.support.waiting import eventually
from tests.vault.sharing import Shared
from tests.vault.world import (
    CRM,
    LIFE,
    NOW,
    UNKNOWN,
    access_token,
    answered,
    claim_one,
    finish,
    get,
    holds,
    make_client,
    make_seed,
    orphans,
    rooms,
    set_writable,
    sow,
)

FREE = make_client(rotation="none")


async def test_the_work_of_a_dead_replica_is_taken_up(both: Shared, lines: Lines) -> None:
    first, second = await both.replica("one"), await both.replica("two")
    daemon = Daemon(second)
    await sow(first, make_seed())
    claim = await claim_one(first)
    await daemon.turn()
    both.die(first)
    await pass_time(both, daemon, 1 + BACK_WITHIN - 1)
    assert (await get(first)).due_at == NOW  # it may still come back
    await pass_time(both, daemon, 2)
    grant = await get(second)
    assert grant.intent == claim.intent
    assert grant.due_at == pytest.approx(both.clock.now(), abs=1.1)
    assert daemon.published == ["acme"]
    [gone] = lines.of(Event.REPLICA_GONE)
    assert (gone["replica"], gone["reason"]) == ("one", "connection_lost")
    [taken] = lines.of(Event.REPLICA_TAKEN_OVER)
    assert (taken["replica"], taken["count"]) == ("one", 1)
    assert [line["grant"] for line in lines.of(Event.EXCHANGE_RESUMED)] == ["acme"]


async def test_a_silent_replica_keeps_what_may_be_lost(both: Shared, lines: Lines) -> None:
    """Cut off and not dead: its answer is waited for while the token lives."""
    first, second = await both.replica("one"), await both.replica("two")
    daemon = Daemon(second)
    await sow(first, make_seed())
    await finish(first, await claim_one(first), answered("at-1", "rt-1"))
    await first.request_refresh("acme")
    claim = await claim_one(first)
    window_at = NOW + LIFE - mandatory_window(LIFE)
    both.clock.put(window_at - 10.0, None)
    await pass_time(both, daemon, 9)
    assert await second.claim(rooms(crm=1), 1) == []
    assert lines.of(Event.REPLICA_TAKEN_OVER) == []
    await pass_time(both, daemon, 3)
    [again] = await second.claim(rooms(crm=1), 1)
    assert again.intent.attempts == 2
    # The answer of the first came late: the vault has the newest, and loses none.
    assert not await first.is_held(claim)
    await finish(first, claim, answered("at-2", "rt-2"), both.clock.now())
    assert holds(second, await get(second), "rt-2")


async def test_what_replays_freely_waits_for_nobody(both: Shared) -> None:
    first, second = await both.replica("one"), await both.replica("two")
    daemon = Daemon(second, FREE)
    await sow(first, make_seed())
    claim = await claim_one(first)
    await pass_time(both, daemon, 2)
    assert await first.is_held(claim)
    await pass_time(both, daemon, 2)
    assert not await first.is_held(claim)
    assert (await get(second)).intent is not None


async def test_a_replica_that_cannot_be_heard_sends_nothing(both: Shared) -> None:
    first = await both.replica("one")
    await sow(first, make_seed())
    claim = await claim_one(first)
    both.clock.move(MISSED + 0.1)
    assert not await first.is_held(claim)
    await first.leases.beat()
    assert await first.is_held(claim)
    both.clock.move(rule.SEND_WITHIN - MISSED)
    await first.leases.beat()
    assert not await first.is_held(claim)  # its lease was for a request that began in time


async def test_no_lease_of_a_living_replica_ends_at_a_start(both: Shared) -> None:
    first = await both.replica("one")
    await sow(first, make_seed())
    claim = await claim_one(first)
    second = await both.replica("two")
    await recover(second, {"crm": FREE}, second.clock)
    assert await first.is_held(claim)
    await pass_time(both, Daemon(second, FREE), MISSED + 2)
    assert not await first.is_held(claim)


async def test_leases_of_nobody_that_ever_beat_are_waited_for(both: Shared) -> None:
    """Of a vault that was moved here while a daemon worked on it."""
    first, second = await both.replica("one"), await both.replica("two")
    await sow(first, make_seed())
    await claim_one(first)
    both.die(first)
    await first.leases.leave()
    daemon = Daemon(second)
    both.clock.move(rule.length(30.0))
    await pass_time(both, daemon, MISSED + 2)
    assert (await get(second)).state is GrantState.PENDING
    assert await second.claim(rooms(crm=1), 1) == []
    both.clock.move(rule.AFTER_END - MISSED)
    await pass_time(both, daemon, MISSED + 2)
    assert await second.claim(rooms(crm=1), 1) != []


async def test_whoever_was_cut_off_itself_hears_the_others_first(both: Shared) -> None:
    """An outage of the database silences all: the first that is back condemns nobody for it."""
    first, second = await both.replica("one"), await both.replica("two")
    daemon = Daemon(second, FREE)
    await sow(first, make_seed())
    claim = await claim_one(first)
    await daemon.turn()
    both.clock.move(60.0)
    await pass_time(both, daemon, MISSED - 1)
    assert (await get(second)).due_at == NOW
    await first.leases.beat()
    await pass_time(both, daemon, MISSED - 1)
    assert (await get(second)).due_at == NOW
    await finish(first, claim, answered("at-1"), both.clock.now())


async def test_an_end_in_order_leaves_no_trace(both: Shared, lines: Lines) -> None:
    first, second = await both.replica("one"), await both.replica("two")
    daemon = Daemon(second)
    await Daemon(first).replicas.leave(1.0)
    await first.leases.beat()
    await pass_time(both, daemon, FOUND)
    assert [one.name for one in second.leases.replicas] == ["two"]
    assert lines.of(Event.REPLICA_GONE) == []


async def hears_of(vault: Vault, since: float) -> None:
    """Wait for a heartbeat of VAULT from SINCE on."""
    await eventually(lambda: vault.leases._heard_at >= since, "it is heard of")


async def test_a_replica_is_heard_of_while_it_offers_its_commits_again(
    both: Shared, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are a minute's, which take longer than a silent replica is left alone."""
    first, second = await both.replica("one"), await both.replica("two")
    offering, other = Daemon(first), Daemon(second)
    begun = anyio.Event()

    async def take_long(*_: object) -> list[str]:
        begun.set()
        await anyio.sleep_forever()
        return []

    monkeypatch.setattr("refresher.engine.replicas.offer_again", take_long)
    monkeypatch.setattr("refresher.engine.replicas.BEAT_EVERY", 0.01)
    offering.replicas._was_cut_off = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(offering.replicas.restore)
        tasks.start_soon(offering.replicas.run)
        await begun.wait()
        for _ in range(round(2 * MISSED)):
            both.clock.move(1.0)
            await hears_of(first, both.clock.now())
            await other.turn()
        tasks.cancel_scope.cancel()
    assert lines.of(Event.REPLICA_GONE) == []


async def test_an_end_in_order_waits_for_no_vault_that_hangs(both: Shared) -> None:
    vault = await both.replica("one")
    answers, ended = threading.Event(), list[bool]()

    async def hang() -> None:
        with suppress(VaultUnavailable):
            await vault._database.write(lambda _: ended.append(answers.wait(20)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hang)
        await anyio.wait_all_tasks_blocked()
        try:
            await Daemon(vault).replicas.leave(0.01)
            assert ended == []
        finally:
            answers.set()


async def test_commits_that_a_failover_lost_are_written_again(both: Shared, lines: Lines) -> None:
    """The database acknowledged them, and goes on from before them on another server."""
    vault = await both.replica("one")
    daemon = Daemon(vault)
    parts = assemble(vault, answering(answered("at-1", "rt-1"), answered("at-2", "rt-2")))
    parts.refresh._durability = daemon.durability
    await sow(vault, make_seed())
    older = both.folder / "older.db"
    await vault.save(older)
    for _ in range(2):
        [claim] = await vault.claim(rooms(crm=1), 1)
        await parts.refresh.run(claim, CRM)
        await vault.request_refresh("acme")
        both.clock.move(LIFE / 3)
    await _go_back_to(vault, older)
    assert holds(vault, await get(vault), "rt-0")
    await daemon.turn()
    both.reconnect(vault)
    await daemon.turn()
    grant = await get(vault)
    assert holds(vault, grant, "rt-2")
    assert await access_token(vault) == "at-2"
    assert grant.adopted_sequence <= grant.attempt_sequence
    assert daemon.published == ["acme", "acme"]
    [line] = lines.of(Event.COMMITS_RESTORED)
    assert line["count"] == 2
    both.reconnect(vault)
    await daemon.turn()
    assert len(lines.of(Event.COMMITS_RESTORED)) == 1
    assert await orphans(vault) == []


async def test_what_the_vault_has_is_not_offered_again(both: Shared, lines: Lines) -> None:
    """Newer answers were adopted since: none of the older ones becomes an orphan."""
    vault = await both.replica("one")
    daemon = Daemon(vault)
    parts = assemble(vault, answering(answered("at-1", "rt-1"), UNKNOWN, answered("at-2", "rt-2")))
    parts.refresh._durability = daemon.durability
    await sow(vault, make_seed())
    for _ in range(3):
        await vault.request_refresh("acme")
        both.clock.move(LIFE / 3)
        [claim] = await vault.claim(rooms(crm=1), 1)
        await parts.refresh.run(claim, CRM)
    set_writable(vault, writable=False)
    with pytest.raises(VaultUnavailable):
        await vault.prove_writable()
    await daemon.turn()
    set_writable(vault, writable=True)
    await daemon.turn()
    assert await orphans(vault) == []
    assert lines.of(Event.COMMITS_RESTORED) == []
    assert holds(vault, await get(vault), "rt-2")


async def _go_back_to(vault: Vault, older: Path) -> None:
    """Let the vault be what it was when OLDER was copied."""

    def copy(target: sqlite3.Connection) -> None:
        with closing(sqlite3.connect(older)) as source:
            source.backup(target)

    await vault._database.on_connection(copy)


async def test_a_limit_changes_hands_and_is_never_exceeded(both: Shared) -> None:
    """Whoever comes begins when the others know of it; what one leaves is left to the rest."""
    first = await both.replica("one")
    alone = Daemon(first)
    await pass_time(both, alone, 4)
    assert first.leases.share() == Share(1, 0)
    second = await both.replica("two")
    newcomer = Daemon(second)
    assert second.leases.share().place is None
    await pass_time(both, alone, 1)
    assert first.leases.share().replicas == 2
    for _ in range(4):
        await pass_time(both, alone, 1)
        await newcomer.turn()
    assert {first.leases.share().place, second.leases.share().place} == {0, 1}
    both.die(first)
    await pass_time(both, newcomer, MISSED + 1)
    assert second.leases.share() == Share(1, 0)


async def test_a_grant_shows_which_replica_made_its_last_exchange(both: Shared) -> None:
    first, second = await both.replica("one"), await both.replica("two")
    await sow(first, make_seed())
    for vault in (first, second):
        [claim] = await vault.claim(rooms(crm=1), 1)
        await finish(vault, claim, answered(f"at-{vault.leases.name}"), both.clock.now())
        await vault.request_refresh("acme")
        both.clock.move(LIFE / 3)
        details = await first.listing.details("acme")
        assert details is not None
        assert details.claimed_by == vault.leases.name


async def test_one_replica_tells_people(both: Shared) -> None:
    first, second = await both.replica("one"), await both.replica("two")
    message = Notification(target=0, made_at=NOW, due_at=NOW, body="{}")
    await first.outbox.keep([message])
    [waiting, same] = [await vault.outbox.first(0) for vault in (first, second)]
    assert waiting is not None
    assert waiting == same
    sends = [await vault.outbox.postpone(waiting, NOW + 5.0) for vault in (first, second)]
    assert sends == [True, False]
