"""A vault that moves from its file into PostgreSQL: whole, resumable, and never in two places."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from refresher.domain.discovery import Metadata
from refresher.domain.secret import Secret
from refresher.errors import VaultError, VaultUnavailable
from refresher.vault import copying
from refresher.vault.database import Database
from refresher.vault.moving import move
from refresher.vault.opening import open_vault
from tests.support.postgresql import PrivatePostgres
from tests.vault.world import (
    NOW,
    URLS,
    access_token,
    answered,
    at,
    claim_again,
    claim_one,
    finish,
    get,
    make_seed,
    opened,
    orphans,
    refresh,
    sow,
    static_seed,
)

METADATA = Metadata(source="s", issuer="s", read_at=NOW)


@pytest.fixture
def url(postgres: PrivatePostgres) -> Iterator[str]:
    with postgres.empty_vault() as url:
        yield url


async def fill(folder: Path) -> None:
    """A vault with something in every table."""
    async with opened(folder) as vault:
        await sow(
            vault, *(make_seed(f"g{n:03}", f"old-{n}", labels={"n": "\u00e9"}) for n in range(5))
        )
        await sow(vault, make_seed(), static_seed(), make_seed("gone", "rt-gone"))
        await refresh(vault, answered("at-1", "rt-1", scope="a \0 b"))
        first = await claim_one(vault, NOW + 3600)
        second = await claim_again(vault, NOW + 3601)
        await finish(vault, second, answered("at-3", "rt-3"), NOW + 3602)
        await finish(vault, first, answered("at-2", "rt-2"), NOW + 3603)
        await vault.remove("gone")
        await vault.client_records.keep_metadata(
            "crm", Metadata(source="s", issuer="s", read_at=NOW)
        )


async def moved(folder: Path, url: str) -> copying.Copied:
    seen: list[int] = []
    expected: list[int] = []
    done, name = await move(
        folder / "vault.db",
        folder / "key",
        Secret(url),
        begin=expected.append,
        progress=seen.append,
    )
    assert name == folder / "vault.db.moved"
    assert name.exists()
    assert sum(seen) == expected[0]
    return done


async def test_everything_arrives_and_goes_on(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "BATCH", 3)
    await fill(tmp_path)
    async with opened(tmp_path) as vault:
        before = {grant.name: grant for grant in await vault.grants()}
        kept = await orphans(vault)
        changes = await vault.changes.page(after=0, limit=100, grant=None)
        counts = await vault.counts()
    done = await moved(tmp_path, url)
    assert done.opened > len(before)
    assert done.unopened == 0
    URLS[tmp_path] = Secret(url)
    async with opened(tmp_path) as vault:
        assert {grant.name: grant for grant in await vault.grants()} == before
        assert await orphans(vault) == kept
        assert await vault.changes.page(after=0, limit=100, grant=None) == changes
        assert await vault.counts() == counts
        assert await access_token(vault) == "at-3"
        known, unopened = await vault.client_records.known(["crm"])
        assert known["crm"].metadata is not None
        assert not unopened
        await sow(vault, make_seed("new", "rt-new"))
        assert (await get(vault, "new")).id > max(grant.id for grant in before.values())
        claim = await claim_one(at(vault, NOW + 9000), NOW + 9000)
        assert claim.renewal is not None
    del URLS[tmp_path]
    with pytest.raises(VaultError, match="was moved into a database"):
        async with opened(tmp_path):
            pass


async def test_what_was_cut_off_goes_on(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And until then no daemon begins on the half of it; what changed meanwhile arrives too."""
    monkeypatch.setattr(copying, "BATCH", 3)
    await fill(tmp_path)
    write, left = Database.write, iter([True] * 5)

    async def write_some(self: Database, operation: object) -> object:
        if self.is_shared and not next(left, False):
            raise VaultUnavailable("cut off")
        return await write(self, operation)  # type: ignore[arg-type]  # handed on as it came

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", write_some)
        with pytest.raises(VaultUnavailable):
            await moved(tmp_path, url)
    with pytest.raises(VaultError, match="being copied into this database"):
        await open_vault(tmp_path / "other.db", tmp_path / "key", url=Secret(url))
    async with opened(tmp_path) as vault:
        await vault.remove("g001")
        await refresh(vault, answered("at-0", "rt-00"), NOW + 3700, "g000")
        before = await vault.grants()
    done = await moved(tmp_path, url)
    assert 0 < done.written < done.rows
    URLS[tmp_path] = Secret(url)
    async with opened(tmp_path) as vault:
        assert await vault.grants() == before
        assert await access_token(vault, "g000") == "at-0"
    del URLS[tmp_path]


async def test_one_that_died_right_before_its_end_is_ended(tmp_path: Path, url: str) -> None:
    await fill(tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(copying.Copying, "end", lambda _: (_ for _ in ()).throw(VaultUnavailable()))
        with pytest.raises(VaultUnavailable):
            await moved(tmp_path, url)
    assert not (tmp_path / "vault.db").exists()
    assert (await moved(tmp_path, url)).written == 0
    vault = await open_vault(tmp_path / "vault.db", tmp_path / "key", url=Secret(url))
    vault.close()


async def test_a_copy_that_is_not_the_same_is_noticed(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path)
    engine = sa.create_engine(url.replace("://", "+psycopg://"))
    compare = copying.Copying._compare

    async def alter(self: copying.Copying, *rest: object) -> None:
        with engine.begin() as other:
            other.exec_driver_sql("UPDATE grants SET token_type = 'canary' WHERE name = 'acme'")
        await compare(self, *rest)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(copying.Copying, "_compare", alter)
    with pytest.raises(VaultError, match="the copy of grants is not what is in the file"):
        await moved(tmp_path, url)
    engine.dispose()
    assert (tmp_path / "vault.db").exists()


async def test_what_is_in_use_is_refused(tmp_path: Path, url: str) -> None:
    await fill(tmp_path)
    async with opened(tmp_path):
        with pytest.raises(VaultError, match="stop the daemon first"):
            await moved(tmp_path, url)
    (tmp_path / "b").mkdir(mode=0o700)
    URLS[tmp_path / "b"] = Secret(url)
    async with opened(tmp_path / "b"):
        pass
    del URLS[tmp_path / "b"]
    with pytest.raises(VaultError, match="holds a vault already"):
        await moved(tmp_path, url)
    with pytest.raises(VaultError, match="there is no vault"):
        await move(
            tmp_path / "none.db",
            tmp_path / "key",
            Secret(url),
            begin=lambda _: None,
            progress=lambda _: None,
        )
