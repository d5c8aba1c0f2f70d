"""A new key where several replicas share a vault: it seals once each of them can open it."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa

from refresher.domain.leases import BACK_WITHIN
from refresher.errors import VaultKeyError, VaultUnavailable
from refresher.logs import Event
from refresher.vault import heartbeats, keys, sealed_cells
from refresher.vault.heartbeats import FORGOTTEN_AFTER
from refresher.vault.keys import SEALING_KEYS
from refresher.vault.schema import facts, grants, replicas
from refresher.vault.sealed_counts import SealedUnder
from refresher.vault.sealing import new_key_line
from refresher.vault.vault import Vault
from tests.engine.conftest import lines
from tests.engine.world import Lines
from tests.vault.sealed import execute, fill, sealed
from tests.vault.sharing import Shared, shared
from tests.vault.world import (
    answered,
    claim_one,
    finish,
    get,
    holds,
    make_seed,
    refresh,
    rooms,
    sow,
)

__all__ = ["lines"]


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Shared]:
    async with shared(tmp_path) as both:
        yield both


async def hear(*vaults: Vault) -> None:
    """Let each of VAULTS beat, and do what follows from it."""
    for vault in vaults:
        await vault.leases.beat()
        await vault.resealing.heard(vault.leases.replicas, vault.clock.now())
        if vault.resealing.is_due:
            await vault.resealing.reseal()


def give(vault: Vault, *sources: Vault) -> None:
    """Put the key lines of SOURCES above those of VAULT, as their operator does."""
    file = file_of(vault)
    lines = [line for one in sources for line in file_of(one).read_text().splitlines()]
    kept = [line for line in file.read_text().splitlines() if line not in lines]
    file.write_text("\n".join([*lines, *kept]) + "\n")


def file_of(vault: Vault) -> Path:
    return vault._sealer.keyring.path


async def keys_of(vault: Vault) -> dict[str, SealedUnder]:
    return {key.key_id: key for key in await vault.resealing.status()}


def named(replicas: object) -> list[str]:
    assert isinstance(replicas, list)
    return [one.name for one in replicas]


async def test_a_key_seals_once_every_replica_has_it(both: Shared, lines: Lines) -> None:
    one, two = await both.replica("one", own_key_file=True), await both.replica("two")
    await fill(one)
    old = one._sealer.keyring.sealing
    new = await one.resealing.rotate()
    await hear(two, one)
    known = await keys_of(one)
    assert (known[new].waits, known[new].seals, named(known[new].unread_by)) == (
        True,
        False,
        ["two"],
    )
    assert known[old.hex()].seals
    assert not known[old.hex()].can_go
    [told] = lines.of(Event.VAULT_KEY_WAITING)
    assert (told["replica"], told["key_id"]) == ("two", new)
    assert one._sealer.keyring.sealing == old
    give(two, one)
    await two.resealing.read_again()
    await two.leases.beat()
    await hear(one)
    assert one._sealer.keyring.sealing.hex() == new
    # The other has not heard of it. What it seals with the old key meanwhile is opened by all.
    await sow(two, make_seed("late", "rt-late"))
    assert (await keys_of(one))[old.hex()].counts["grants"] == 1
    assert named((await keys_of(one))[old.hex()].needed_by) == ["two"]
    assert not (await keys_of(one))[old.hex()].can_go
    await hear(two, one)
    await hear(two)  # it has gone over everything, and says so
    known = await keys_of(one)
    assert (known[old.hex()].total, known[old.hex()].can_go) == (0, True)
    assert set((await sealed(two)).values()) == {two._sealer.keyring.mark}
    assert [line["key_id"] for line in lines.of(Event.VAULT_KEY_CHANGED)] == [new, new]


async def test_a_file_on_a_shared_volume_is_written_by_one_and_read_by_all(both: Shared) -> None:
    one, two = await both.replica("one"), await both.replica("two")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.resealing.rotate)
        tasks.start_soon(two.resealing.rotate)
    assert len(file_of(one).read_text().split()) == 3
    await one.resealing.read_again()
    await two.resealing.read_again()
    await hear(one, two, one, two)
    first = one._sealer.keyring.ids[0]
    assert (one._sealer.keyring.sealing, two._sealer.keyring.sealing) == (first, first)


async def test_two_files_with_different_first_lines_do_not_fight(both: Shared) -> None:
    one, two = await both.replica("one", own_key_file=True), await both.replica("two")
    of_one, of_two = await one.resealing.rotate(), await two.resealing.rotate()
    await hear(one, two, one, two)
    assert (await keys_of(one))[of_one].waits
    assert (await keys_of(two))[of_two].waits
    before = file_of(one).read_text()
    file_of(one).write_text(before + file_of(two).read_text().splitlines()[0] + "\n")
    file_of(two).write_text(file_of(two).read_text() + before.splitlines()[0] + "\n")
    for vault in (one, two):
        await vault.resealing.read_again()
    await hear(one, two, one, two)
    settled = one._sealer.keyring.sealing
    for _ in range(3):
        await hear(one, two)
        assert one._sealer.keyring.sealing == two._sealer.keyring.sealing == settled
    assert settled.hex() in {of_one, of_two}
    assert not one.resealing.is_due


async def test_a_silent_replica_is_waited_for_until_it_is_forgotten_or_dead(both: Shared) -> None:
    one, two = await both.replica("one", own_key_file=True), await both.replica("two")
    await sow(two, make_seed())
    await claim_one(two)
    await one.resealing.rotate()
    both.clock.move(FORGOTTEN_AFTER + 1)
    await hear(one)
    assert one._sealer.keyring.wanted is not None  # it holds a lease, and may come back with it
    await one.leases.beat()
    both.die(two)
    both.clock.put(leases_heard_at(one, "two") + 1, None)
    await hear(one)
    both.clock.move(BACK_WITHIN + 1)
    await hear(one)
    assert one._sealer.keyring.wanted is None


def leases_heard_at(vault: Vault, name: str) -> float:
    [heard_at] = [one.life.heard_at for one in vault.leases.replicas if one.name == name]
    assert heard_at is not None
    return heard_at


async def test_a_replica_of_an_older_version_is_waited_for(both: Shared, lines: Lines) -> None:
    one, two = await both.replica("one"), await both.replica("two")
    await execute(one, sa.update(replicas).where(replicas.c.name == "two").values(opens=None))
    await one.resealing.rotate()
    await one.leases.beat()
    await one.resealing.reseal()
    assert one._sealer.keyring.wanted is not None
    [told] = lines.of(Event.VAULT_KEY_WAITING)
    assert told["repair"].startswith("replace two")
    await two.leases.leave()
    await hear(one)
    assert one._sealer.keyring.wanted is None


async def test_a_replica_that_wakes_without_the_key_begins_nothing_and_loses_nothing(
    both: Shared, lines: Lines
) -> None:
    """It slept through the change, with an exchange out whose answer it has only now."""
    one, two = await both.replica("one", own_key_file=True), await both.replica("two")
    await sow(two, make_seed(), make_seed("other", "rt-other"))
    await refresh(two, answered("at-0", "rt-0"), name="other")
    [claim] = await two.claim(rooms(crm=1), 1, only="acme")
    await execute(one, sa.delete(replicas).where(replicas.c.name == "two"))
    new = await one.resealing.rotate()
    await one.resealing.reseal()
    await finish(two, claim, answered("at-1", "rt-1"), both.clock.now())
    await hear(two)
    [told] = lines.of(Event.VAULT_KEY_MISSING)
    assert told["key_id"] == new
    assert two.outage.is_on
    assert two.resealing.lacking is not None
    with pytest.raises(VaultUnavailable, match=f"the key {new}, which is in no line"):
        await two.claim(rooms(crm=1), 1)
    assert await two.read(["other"]) == []
    assert lines.of(Event.GRANT_SET_ASIDE) == []
    assert [grant.state.value for grant in await two.grants()] == ["fresh", "fresh"]
    give(two, one)
    await hear(two)
    assert not two.outage.is_on
    assert holds(one, await get(one), "rt-1")
    assert set((await sealed(one)).values()) == {one._sealer.keyring.mark}
    assert len(await two.read(["acme", "other"])) == 2
    assert await two.claim(rooms(crm=9), 9) == []


async def test_whoever_starts_needs_the_key_that_seals_and_the_old_one_while_it_does(
    both: Shared,
) -> None:
    one = await both.replica("one", own_key_file=True)
    old = file_of(one).read_text()
    await sow(one, make_seed())
    new = await one.resealing.rotate()
    assert (await keys_of(one))[new].seals
    with pytest.raises(VaultKeyError, match=f"sealed with the key {new}, which is in no line"):
        await both.replica("two")
    lines = file_of(one).read_text().splitlines()
    file_of(one).write_text(lines[0] + "\n")
    with pytest.raises(VaultKeyError, match="in no line of the key file"):
        await one.resealing.read_again()
    file_of(one).write_text("\n".join(lines))
    await one.resealing.reseal()
    file_of(one).write_text(old)
    with pytest.raises(VaultKeyError, match="in no line of the key file"):
        await one.resealing.read_again()
    file_of(one).write_text(lines[0] + "\n")
    await one.resealing.read_again()


async def test_one_that_has_not_heard_of_the_change_does_not_undo_it(both: Shared) -> None:
    """It is in the midst of its own pass, and ends it as it began: with the old key."""
    one, two = await both.replica("one"), await both.replica("two")
    await sow(one, make_seed())
    await one.resealing.rotate()
    await two.resealing.read_again()
    await two.leases.beat()
    await hear(one)
    assert two._sealer.keyring.sealing != one._sealer.keyring.sealing
    [cell] = [one for one in sealed_cells.SEALED if one.column is grants.c.refresh_token_sealed]
    batch = await two._read(partial(sealed_cells.outdated, cell=cell, after=0))
    assert await two._write(partial(sealed_cells.store, cell=cell, batch=batch)) == 1
    proof = partial(keys.reseal_fingerprint_key, keyring=two._sealer.keyring, is_last=True)
    assert await two._write(lambda tx: proof(tx.connection)) == 0
    assert [key.total for key in await one.resealing.status()] == [1, 1]
    assert one.resealing.is_due  # whoever asks has it brought under the right one
    await hear(two, one)
    assert [key.total for key in await one.resealing.status()] == [2, 0]


async def test_a_key_that_was_replaced_never_seals_again(both: Shared) -> None:
    one = await both.replica("one")
    await one.resealing.rotate()
    await one.resealing.reseal()
    new, old = file_of(one).read_text().split()
    file_of(one).write_text(f"{old}\n{new}\n")
    await one.resealing.read_again()
    await hear(one)
    first, second = await one.resealing.status()
    assert (first.seals, first.waits, first.can_go, second.seals) == (False, False, True, True)
    facts_known = await one._read(
        lambda tx: tx.connection.scalar(
            sa.select(facts.c.value).where(facts.c.name == SEALING_KEYS)
        )
    )
    assert len(facts_known or b"") == 16


async def test_one_that_comes_while_the_key_changes_is_waited_for_or_refused(both: Shared) -> None:
    """Its row is there before the change, or it begins with the new key: never in between."""
    one = await both.replica("one", own_key_file=True)
    two = await both.replica("two")
    await two.leases.leave()
    await one.resealing.rotate()
    two.leases._has_left = False
    await two.leases.beat()
    assert two._sealer.keyring.missing == one._sealer.keyring.sealing
    known = await one._read(lambda tx: heartbeats.known(tx.connection))
    assert {replica.name for replica in known} == {"one", "two"}


async def test_a_new_line_is_not_taken_for_one_that_was_there(both: Shared) -> None:
    one = await both.replica("one")
    file_of(one).write_text(new_key_line() + file_of(one).read_text())
    assert await one.resealing.read_again()
    assert not await one.resealing.read_again()
