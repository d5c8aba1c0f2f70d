"""Everything comes under the newest key and format, whoever writes beside it."""

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from refresher.domain.secret import Secret
from refresher.errors import VaultKeyError
from refresher.vault import keys, sealed_cells
from refresher.vault.keys import FINGERPRINT_KEY
from refresher.vault.schema import facts, grants
from refresher.vault.sealed_counts import KINDS
from refresher.vault.sealing import FIRST_FORMAT, FORMAT, new_key_line
from refresher.vault.seeds import SeedResult
from refresher.vault.vault import Vault
from tests.engine.conftest import lines
from tests.engine.world import Lines
from tests.vault.sealed import age, execute, fill, sealed
from tests.vault.test_cost_of_looking import counting, multiply
from tests.vault.world import (
    DRAW,
    NOW,
    access_token,
    answered,
    at,
    claim_again,
    claim_one,
    finish,
    get,
    holds,
    make_seed,
    opened,
    refresh,
    rescue,
    rooms,
    sow,
)

__all__ = ["lines"]


async def format_of_fact(vault: Vault) -> bytes:
    statement = sa.select(facts.c.value).where(facts.c.name == FINGERPRINT_KEY)
    value: bytes = await vault._database.read(lambda c: c.execute(statement).scalar_one())
    return value[:1]


async def test_a_rotation_brings_everything_under_the_new_key(tmp_path: Path, lines: Lines) -> None:
    async with opened(tmp_path) as vault:
        await fill(vault)
        before = await sealed(vault)
        old_line = (tmp_path / "key").read_text()
        key = await vault.resealing.rotate()
        assert vault.resealing.is_due
        assert (tmp_path / "key").read_text().endswith(old_line)
        assert (await vault.resealing.status())[1].total == 8
        await vault.resealing.reseal()
        assert not vault.resealing.is_due
        after = await sealed(vault)
        assert after.keys() == before.keys()
        assert set(after.values()) == {vault._sealer.keyring.mark}
        newest, oldest = await vault.resealing.status()
        assert (newest.line, newest.key_id, newest.first_format) == (1, key, 0)
        assert newest.counts == {
            **dict.fromkeys(KINDS, 1),
            "grants": 2,
            "rescued answers": 0,
        }
        assert (oldest.line, oldest.total) == (2, 0)
        told = [line for line in lines.all() if line["event"].startswith("vault.")]
        assert [(line["event"], line.get("count"), line["key_id"]) for line in told] == [
            ("vault.key_added", None, key),
            ("vault.key_changed", None, key),
            ("vault.resealed", 9, key),
        ]
    (tmp_path / "key").write_text((tmp_path / "key").read_text().splitlines()[0])
    async with opened(tmp_path) as vault:
        assert (await sealed(vault)).keys() == before.keys()
        assert holds(vault, await get(vault), "rt-1")
        again = await vault.apply_seed(make_seed("acme", "rt-acme"), DRAW, origin="settings")
        assert again.result is SeedResult.UNCHANGED  # fingerprints are those of before


async def test_what_is_written_meanwhile_is_not_undone(vault: Vault) -> None:
    """A spent refresh token that was read before its exchange never comes back over the new one."""
    await sow(vault, make_seed())
    await vault.resealing.rotate()
    [cell] = [one for one in sealed_cells.SEALED if one.column is grants.c.refresh_token_sealed]
    batch = await vault._read(partial(sealed_cells.outdated, cell=cell, after=0))
    assert [one.new is not None for one in batch] == [True]
    await refresh(vault, answered("at-1", "rt-1"))
    assert await vault._write(partial(sealed_cells.store, cell=cell, batch=batch)) == 0
    assert "rt-1" in await sealed(vault)
    assert holds(vault, await get(vault), "rt-1")


async def test_two_rotations_at_once_end_under_the_newest(vault: Vault, tmp_path: Path) -> None:
    await fill(vault)
    before = await sealed(vault)

    async def rotate() -> None:
        await vault.resealing.rotate()
        await vault.resealing.reseal()

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(rotate)
        for number in range(5):
            await at(vault, NOW + 100 + 60 * number).request_refresh("acme")
            claim = await claim_one(vault, NOW + 100 + 60 * number)
            await finish(vault, claim, answered(f"new-{number}"), NOW + 100 + 60 * number)
    assert len((tmp_path / "key").read_text().split()) == 4
    after = await sealed(vault)
    assert set(after.values()) == {vault._sealer.keyring.mark}
    assert after.keys() - before.keys() == {"new-4"}
    assert [key.total for key in await vault.resealing.status()][1:] == [0, 0, 0]


async def test_more_than_a_batch_is_done(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed_cells, "BATCH", 2)
    await sow(vault, *(make_seed(f"g{n}", f"rt-{n}") for n in range(7)))
    await vault.resealing.rotate()
    await vault.resealing.reseal()
    assert set((await sealed(vault)).values()) == {vault._sealer.keyring.mark}


@pytest.mark.of_a_file
async def test_a_row_that_cannot_be_written_keeps_no_other(vault: Vault) -> None:
    await sow(vault, *(make_seed(name, f"rt-{name}") for name in ("a", "acme", "z")))
    await vault.resealing.rotate()
    await execute(
        vault,
        sa.text(
            "CREATE TRIGGER broken BEFORE UPDATE ON grants WHEN old.name = 'acme' "
            "BEGIN SELECT RAISE(ABORT, 'canary'); END"
        ),
    )
    await vault.resealing.reseal()
    newest, oldest = await vault.resealing.status()
    assert (newest.counts["grants"], oldest.counts["grants"]) == (2, 1)
    await execute(vault, sa.text("DROP TRIGGER broken"))
    assert await vault.look_at_set_aside() == ["acme"]
    assert vault.resealing.is_due
    await vault.resealing.reseal()
    assert (await vault.resealing.status())[1].total == 0


async def test_a_rescued_answer_comes_under_the_new_key(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await rescue(vault, b"canary-record")
    async with opened(tmp_path) as vault:
        await vault.resealing.rotate()
        await vault.resealing.reseal()
        newest, oldest = await vault.resealing.status()
        assert newest.counts["rescued answers"] == 1
        assert oldest.total == 0
        assert list(vault.rescued.left.values()) == [b"canary-record"]
    (tmp_path / "key").write_text((tmp_path / "key").read_text().splitlines()[0])
    async with opened(tmp_path) as vault:
        [record] = vault.rescued.left.values()
        assert record == b"canary-record"
        vault.rescued.forget(record)
        assert (await vault.resealing.status())[0].counts["rescued answers"] == 0


async def test_a_foreign_key_file_is_not_taken_over(vault: Vault, tmp_path: Path) -> None:
    """Else everything would be sealed from now on with a key that was put there by mistake."""
    await sow(vault, make_seed())
    before = (tmp_path / "key").read_text()
    for content in (new_key_line(), "", "nonsense"):
        (tmp_path / "key").write_text(content)
        for work in (vault.resealing.read_again, vault.resealing.rotate):
            with pytest.raises(VaultKeyError):
                await work()
        assert (tmp_path / "key").read_text() == content
        assert (await claim_again(vault)).renewal.presents == Secret("rt-0")
    (tmp_path / "key").write_text(new_key_line() + before)
    await vault.resealing.read_again()
    assert vault.resealing.is_due


async def test_an_old_line_that_went_too_early_can_come_back(
    vault: Vault, tmp_path: Path, lines: Lines
) -> None:
    await sow(vault, make_seed(), make_seed("other", "rt-other"))
    await refresh(vault, answered("at-1", "rt-1"))
    both = new_key_line() + (tmp_path / "key").read_text()
    (tmp_path / "key").write_text(both)
    await vault.resealing.read_again()
    await vault.resealing._change_key()
    await vault._write(
        lambda tx: keys.reseal_fingerprint_key(tx.connection, vault._sealer.keyring, is_last=True)
    )
    (tmp_path / "key").write_text(both.splitlines()[0])
    await vault.resealing.read_again()
    assert await vault.read(["acme"]) == []
    await vault.resealing.reseal()
    [_, unknown] = await vault.resealing.status()
    assert (unknown.line, unknown.counts["grants"]) == (None, 2)
    assert [line["count"] for line in lines.all() if line["event"] == "vault.unopened"] == [3]
    assert await vault.look_at_set_aside() == []
    (tmp_path / "key").write_text(both)
    assert await vault.look_at_set_aside() == ["acme"]
    assert await access_token(vault) == "at-1"
    assert [grant.state for grant in await vault.grants()] == ["fresh", "pending"]
    assert not vault.may_be_set_aside("acme")
    assert "grant.readmitted" in lines.events()


async def test_a_missing_fingerprint_key_is_not_made_anew(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await execute(vault, sa.delete(facts).where(facts.c.name == FINGERPRINT_KEY))
    with pytest.raises(VaultKeyError, match="taken out"):
        async with opened(tmp_path):
            pass


# The first format.


async def test_a_vault_of_the_first_format_is_brought_to_the_newest(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await fill(vault)
        before = await sealed(vault)
        await age(vault)
    async with opened(tmp_path) as vault:
        assert {mark[:1] for mark in (await sealed(vault)).values()} == {FIRST_FORMAT}
        assert (await claim_again(vault, NOW + 90)).renewal.presents == Secret("rt-1")
        assert (await vault.resealing.status())[0].first_format == 8
        await vault.resealing.reseal()
        assert (await sealed(vault)).keys() == before.keys()
        assert {mark[:1] for mark in (await sealed(vault)).values()} == {FORMAT}
        assert await format_of_fact(vault) == FORMAT
        assert (await vault.resealing.status())[0].first_format == 0


async def test_afterwards_the_first_format_is_tampering(tmp_path: Path) -> None:
    """Whoever kept an old copy of the file cannot put a cell of it into another row."""
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await age(vault)
        vault._sealer.keyring.accepts_first = True
        kept_row = await vault._read(
            lambda tx: tx.connection.execute(sa.select(grants)).mappings().one()
        )
        await vault.resealing.reseal()
        old = {"refresh_token_sealed": kept_row["refresh_token_sealed"]}
        await execute(vault, sa.update(grants).values(**old, client="other"))
        assert await vault.claim(rooms(other=1), 1) == []
    async with opened(tmp_path) as vault:
        assert (await get(vault)).reason == "unreadable"
        with pytest.raises(VaultKeyError, match="somebody has put it there"):
            await sealed(vault)


async def test_cells_of_a_lost_key_keep_the_first_format_open(tmp_path: Path) -> None:
    """The key may be put back; until then nothing is declared over."""
    first = new_key_line()
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(first)
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed("lost", "rt-lost"))
        await age(vault)
    second = new_key_line()
    (tmp_path / "key").write_text(second + first)
    async with opened(tmp_path) as vault:
        await vault.resealing._change_key()
        await sow(vault, make_seed("kept", "rt-kept"))
        await vault._write(
            lambda tx: keys.reseal_fingerprint_key(
                tx.connection, vault._sealer.keyring, is_last=False
            )
        )
    (tmp_path / "key").write_text(second)
    async with opened(tmp_path) as vault:
        await vault.resealing.reseal()
        assert await format_of_fact(vault) == FIRST_FORMAT
    (tmp_path / "key").write_text(second + first)
    async with opened(tmp_path) as vault:
        await vault.resealing.reseal()
        assert await format_of_fact(vault) == FORMAT
        assert set(await sealed(vault)) == {"rt-lost", "rt-kept"}


async def test_altered_cells_do_not_keep_it_open(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed("good", "rt-good"), make_seed("bad", "rt-bad"))
        await age(vault)
        await execute(vault, sa.update(grants).where(grants.c.name == "bad").values(uid="x" * 32))
    async with opened(tmp_path) as vault:
        await vault.resealing.reseal()
        assert await format_of_fact(vault) == FORMAT


@pytest.mark.of_a_file
async def test_no_turn_looks_through_all_grants(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start has nothing to seal anew, and keeps nobody waiting to find that out."""
    await sow(vault, make_seed("one", "rt-1"))
    multiply(vault, "one", 5_000)
    monkeypatch.setattr(sealed_cells, "SCANNED", 500)
    most = 0
    read = vault.resealing._read

    async def counted(operation: Any) -> Any:
        nonlocal most
        with counting(vault) as cost:
            found = await read(operation)
        most = max(most, cost.instructions)
        return found

    monkeypatch.setattr(vault.resealing, "_read", counted)
    await vault.resealing._pass()
    assert 0 < most < 20_000
