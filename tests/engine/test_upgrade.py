"""A vault that version 39021a9 left behind is opened by this one, and nothing in it is lost."""

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from refresher.domain.grants import GrantState
from refresher.domain.secret import Secret
from refresher.engine.recovery import recover
from refresher.errors import VaultUnavailable
from refresher.logs import Event
from refresher.vault.opening import open_vault
from tests.engine.world import Lines
from tests.vault.world import (
    CRM,
    NOW,
    access_token,
    answered,
    at,
    claim_one,
    finish,
    get,
    holds,
    make_seed,
    opened,
    orphans,
    sow,
)

LEFT = Path(__file__).parent.parent / "vault" / "of_39021a9"
"""That version made it by its own tests' world: one grant of each kind, then ``kill -9``."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What that version left, under today's names."""
    with closing(sqlite3.connect(tmp_path / "vault.db")) as vault:
        vault.executescript((LEFT / "vault.sql").read_text())
    (tmp_path / "vault.db.rescue").write_bytes(
        gzip.decompress((LEFT / "vault.rescue.gz").read_bytes())
    )
    (tmp_path / "key").write_bytes((LEFT / "vault.keys").read_bytes())
    for file in tmp_path.iterdir():
        file.chmod(0o600)
    return tmp_path


def revision(vault: Path) -> str:
    with closing(sqlite3.connect(vault)) as connection:
        [[found]] = connection.execute("SELECT version_num FROM alembic_version")
    return str(found)


async def test_nothing_in_it_is_lost(folder: Path, lines: Lines) -> None:
    async with opened(folder) as vault:
        await recover(at(vault, NOW + 1), {"crm": CRM}, vault.clock)

        fresh = await get(vault, "fresh")
        assert (fresh.state, fresh.version) == (GrantState.FRESH, NOW * 1000)
        assert fresh.labels == {"access": "full"}
        assert await access_token(vault, "fresh") == "at-fresh-1"
        assert holds(vault, fresh, "rt-fresh-1")
        assert await access_token(vault, "pat") == "static-0"

        lost = await get(vault, "lost")
        assert lost.state is GrantState.REAUTHORIZATION_REQUIRED
        await sow(vault, make_seed("lost", "rt-lost-0"))  # it is known to be dead
        assert (await get(vault, "lost")).state is GrantState.REAUTHORIZATION_REQUIRED

        assert [orphan["refresh_token"] for orphan in await orphans(vault)] == ["rt-overtaken-1"]
        assert holds(vault, await get(vault, "overtaken"), "rt-overtaken-9")

        assert await access_token(vault, "rescued") == "at-rescued-1"
        assert holds(vault, await get(vault, "rescued"), "rt-rescued-1")

        waiting = await claim_one(vault, NOW + 1, "waiting")
        assert waiting.renewal.presents == Secret("rt-waiting-0")
        await finish(vault, waiting, answered("at-waiting-1", "rt-waiting-1"), NOW + 1)
        assert holds(vault, await get(vault, "waiting"), "rt-waiting-1")

        out = await get(vault, "open")  # nobody knows what became of it: the policy decides
        assert out.intent is not None
        assert holds(vault, out, "rt-open-0")
        unread = await get(vault, "unread")  # that version could not read it, this one can
        assert unread.on_probation
        assert holds(vault, unread, "rt-unread-1")
        assert await vault.find("removed") is None

        assert (await vault.resealing.status())[0].first_format
        await vault.resealing.reseal()
        assert (await vault.resealing.status())[0].first_format == 0
        assert await access_token(vault, "fresh") == "at-fresh-1"
    assert lines.of(Event.VAULT_MIGRATED)[0]["path"] == str(folder / "vault.db.of-0002")


async def test_a_copy_of_what_it_was_is_made_first(folder: Path) -> None:
    async with opened(folder):
        pass
    copy = folder / "vault.db.of-0002"
    assert revision(copy) == "0002"
    assert copy.stat().st_mode & 0o777 == 0o600
    async with opened(folder):
        pass
    assert revision(copy) == "0002"  # made once: the vault is not older any more


async def test_without_room_for_the_copy_it_stays_as_it_was(folder: Path) -> None:
    (folder / "vault.db.of-0002.unfinished").mkdir()  # what cannot be replaced by a file
    with pytest.raises(VaultUnavailable, match=r"the copy .* cannot be written"):
        await open_vault(folder / "vault.db", folder / "key")
    assert revision(folder / "vault.db") == "0002"
