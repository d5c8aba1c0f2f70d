"""A vault whose files are taken away: said once, saved where it can be, and nothing is sent."""

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import pytest

from refresher.domain.outcomes import Outcome
from refresher.engine import files_watch
from refresher.engine.files_watch import FilesWatch
from refresher.engine.recovery import recover
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.vault.origin import Restored
from refresher.vault.sealing import Keyring
from refresher.vault.sqlite.restoring import examine, finish, stage
from refresher.vault.vault import Vault
from tests.engine.world import (
    Call,
    Endpoint,
    Lines,
    answering,
    assemble,
    claim,
    run,
    scheduling,
)
from tests.support.waiting import eventually
from tests.vault.world import (
    CRM,
    NOW,
    answered,
    claim_one,
    get,
    holds,
    make_seed,
    opened,
    refresh,
    sow,
)

SAVED = "vault.db.saved-20270115T080000Z"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_watch, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(files_watch, "SAVED_EVERY", 0.01)


@asynccontextmanager
async def watching(vault: Vault) -> AsyncIterator[None]:
    """The watch over the files of VAULT runs."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(FilesWatch(vault=vault, clock=vault.clock).run)
        yield
        tasks.cancel_scope.cancel()


async def test_a_vault_that_vanishes_is_said_and_saved(
    vault: Vault, tmp_path: Path, lines: Lines
) -> None:
    await sow(vault, make_seed())
    await refresh(vault, answered("at-1", "rt-1"))
    async with watching(vault):
        (tmp_path / "vault.db").unlink()
        await eventually(lambda: lines.of(Event.VAULT_SAVED), "the copy")
    [vanished], [saved] = lines.of(Event.VAULT_VANISHED), lines.of(Event.VAULT_SAVED)
    assert (vanished["file"], vanished["reason"]) == (str(tmp_path / "vault.db"), "deleted")
    copy = tmp_path / SAVED
    assert saved["path"] == str(copy)
    assert saved["repair"] == f"stop the daemon, then: refresher vault restore {copy}"
    assert examine(copy, tmp_path / "vault.db", Keyring.load(tmp_path / "key")).refreshable == 1
    assert vault.outage.is_on
    assert lines.of(Event.VAULT_REFUSED) == []


@pytest.mark.parametrize("ending", [".lock", ".rescue"])
async def test_a_lock_or_a_rescue_file_that_vanishes_wants_a_restart(
    vault: Vault, tmp_path: Path, lines: Lines, ending: str
) -> None:
    async with watching(vault):
        (tmp_path / f"vault.db{ending}").unlink()
        await eventually(lambda: lines.of(Event.VAULT_VANISHED), "the word")
    [line] = lines.of(Event.VAULT_VANISHED)
    assert line["repair"].startswith("restart the daemon")
    assert lines.of(Event.VAULT_SAVED) == []
    assert not (tmp_path / SAVED).exists()


async def test_of_a_truncated_vault_there_is_nothing_to_save(
    vault: Vault, tmp_path: Path, lines: Lines
) -> None:
    await sow(vault, *(make_seed(f"g{n}", f"rt-{n}") for n in range(50)))
    with closing(sqlite3.connect(tmp_path / "vault.db")) as other:
        other.execute("PRAGMA wal_checkpoint(PASSIVE)")
    await vault.files.look()
    async with watching(vault):
        os.truncate(tmp_path / "vault.db", 0)
        await eventually(lambda: lines.of(Event.VAULT_VANISHED), "the word")
    [line] = lines.of(Event.VAULT_VANISHED)
    assert line["reason"] == "truncated"
    assert "refresher vault restore FILE" in line["repair"]
    assert not (tmp_path / SAVED).exists()


async def test_a_copy_that_is_refused_is_told_once_and_tried_again(
    vault: Vault, tmp_path: Path, lines: Lines
) -> None:
    in_its_way = tmp_path / f"{SAVED}.unfinished"
    in_its_way.mkdir()
    async with watching(vault):
        (tmp_path / "vault.db").unlink()
        await eventually(lambda: lines.of(Event.VAULT_REFUSED), "the refusal")
        await anyio.sleep(0.05)
        in_its_way.rmdir()
        await eventually(lambda: lines.of(Event.VAULT_SAVED), "the copy")
    assert len(lines.of(Event.VAULT_REFUSED)) == 1


async def test_a_folder_that_is_gone_is_made_again_for_the_copy(
    tmp_path: Path, lines: Lines
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    async with opened(folder) as vault:
        await sow(vault, make_seed())
        async with watching(vault):
            shutil.rmtree(folder.rename(tmp_path / "gone"))  # at once, for whoever looks
            await eventually(lambda: lines.of(Event.VAULT_SAVED), "the copy")
        assert (folder / SAVED).exists()
        assert (folder / "vault.db.rescue").exists()


@pytest.mark.parametrize("ending", ["", "-wal", ".lock", ".rescue"])
async def test_nothing_is_sent_once_a_file_is_gone(
    vault: Vault, tmp_path: Path, lines: Lines, ending: str
) -> None:
    parts = assemble(vault, answering())
    await sow(vault, make_seed("later", "rt-later"), now=NOW + 1)
    async with watching(vault), scheduling(parts) as scheduler:
        (tmp_path / f"vault.db{ending}").unlink()
        await eventually(lambda: lines.of(Event.VAULT_VANISHED), "the word")
        if ending in {".lock", ".rescue"}:  # what is no exchange may still be written
            await sow(vault, make_seed())
        parts.clock.move(60)
        scheduler.wake()
        await anyio.sleep(0.2)
    assert parts.endpoint.calls == []
    assert lines.of(Event.VAULT_RECOVERED) == []


async def test_an_answer_that_was_out_waits_in_the_rescue_file_for_the_copy(
    tmp_path: Path, lines: Lines
) -> None:
    """Its exchange ends, so that the daemon can be stopped at once."""
    async with opened(tmp_path) as vault:

        async def script(_: Call) -> Outcome:
            (tmp_path / "vault.db").unlink()
            await eventually(lambda: lines.of(Event.VAULT_SAVED), "the copy")
            return answered("at-1", "rt-1")

        parts = assemble(vault, Endpoint(script))
        await sow(vault, make_seed())
        async with watching(vault):
            with pytest.raises(VaultUnavailable, match="was deleted while it was in use"):
                await run(parts)
        assert [line["outcome"] for line in lines.of(Event.ANSWER_RESCUED)] == ["rescued"]
    stage(
        examine(tmp_path / SAVED, tmp_path / "vault.db", Keyring.load(tmp_path / "key")),
        tmp_path / "vault.db",
    )
    finish(tmp_path / "vault.db")
    async with opened(tmp_path) as vault:
        await recover(vault, {"crm": CRM}, vault.clock)
        assert holds(vault, await get(vault), "rt-1")


async def test_a_claim_that_was_not_sent_ends_with_the_vault(vault: Vault, tmp_path: Path) -> None:
    parts = assemble(vault, answering())
    await sow(vault, make_seed())
    claimed = await claim(parts)
    (tmp_path / "vault.db").unlink()
    await vault.files.look()
    assert not await parts.refresh.may_send(claimed)
    with pytest.raises(VaultUnavailable):
        await parts.refresh.hold_back(claimed)


async def test_a_vault_put_back_under_the_daemon_is_said(
    vault: Vault, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_watch, "COUNT_EVERY", 0.01)
    await sow(vault, make_seed())
    await vault.origin.learn()
    vault.origin._remembered = (vault.origin._remembered or ("", 0))[0], 1000
    async with watching(vault):
        await eventually(lambda: lines.of(Event.VAULT_RESTORED), "the word")
        await anyio.sleep(0.05)
    [line] = lines.of(Event.VAULT_RESTORED)
    assert Restored(line["copied_at"], line["reason"], line["count"]) == Restored(
        NOW, "rolled_back", 1
    )
    assert (await claim_one(vault, NOW)).is_of_copy
