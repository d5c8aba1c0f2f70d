"""Group commit: many writes to a commit, each with a result of its own; refusals explained."""

import os
import re
import resource
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.errors import (
    DuplicateRefreshToken,
    GrantSetAside,
    UnknownGrant,
    VaultUnavailable,
)
from refresher.vault.database import LARGEST_BATCH
from refresher.vault.sqlite.engine import open_sqlite
from refresher.vault.sqlite.refusals import unavailable
from refresher.vault.vault import Vault
from tests.vault.world import (
    NOW,
    answered,
    at,
    claim_one,
    finish,
    get,
    holds,
    make_seed,
    opened,
    pragma,
    refresh,
    rooms,
    set_writable,
    sow,
)

pytestmark = pytest.mark.of_a_file


def count_commits(vault: Vault) -> Callable[[], int]:
    """How many commits the vault has made since this call."""
    commits: list[None] = []
    sa.event.listen(vault._database._writer, "commit", lambda _: commits.append(None))
    return lambda: len(commits)


async def fill_the_disk(vault: Vault) -> None:
    """Let the vault's file grow no more, and leave no page of it free."""
    pages = pragma(vault, "page_count")
    pragma(vault, f"max_page_count = {pages}")
    try:
        for number in range(100):
            await sow(vault, make_seed(f"filler-{number}", None, labels={"fat": "x" * 3000}))
    except VaultUnavailable:
        return
    pytest.fail("the disk took everything")


def free_the_disk(vault: Vault) -> None:
    pragma(vault, "max_page_count = 1000000")


async def test_concurrent_writes_share_commits(vault: Vault) -> None:
    commits = count_commits(vault)
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(sow, vault, make_seed(f"g-{number}", f"rt-{number}"))
    assert len(await vault.grants()) == 100
    assert commits() <= 3


async def test_a_shared_commit_has_a_largest_size(vault: Vault) -> None:
    commits = count_commits(vault)
    async with anyio.create_task_group() as tasks:
        for number in range(2 * LARGEST_BATCH + 1):
            tasks.start_soon(sow, vault, make_seed(f"g-{number}", None))
    assert len(await vault.grants(limit=3 * LARGEST_BATCH)) == 2 * LARGEST_BATCH + 1
    assert 3 <= commits() <= 5


async def test_every_write_gets_its_own_result(vault: Vault) -> None:
    await sow(vault, *(make_seed(f"g-{n}", f"rt-{n}") for n in range(30)))
    claims = await at(vault, NOW).claim(rooms(crm=30), 30)
    results: dict[str, int] = {}

    async def commit(number: int) -> None:
        claim = claims[number]
        done = await finish(vault, claim, answered(f"at-{number}"), NOW + number)
        assert done.grant is not None
        assert done.grant.name == claim.grant.name
        results[done.grant.name] = done.grant.version

    async with anyio.create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(commit, number)
    assert results == {c.grant.name: int((NOW + n) * 1000) for n, c in enumerate(claims)}


async def test_a_finished_write_is_seen_by_other_connections(vault: Vault, tmp_path: Path) -> None:
    await sow(vault, make_seed())
    with sqlite3.connect(tmp_path / "vault.db") as other:
        assert other.execute("select name from grants").fetchall() == [("acme",)]
    other.close()


async def test_a_refused_write_undoes_no_other(vault: Vault) -> None:
    await sow(vault, make_seed("owner", "rt-owner"))
    refusals: list[str] = []

    async def add(number: int) -> None:
        clashing = number % 3 == 0
        try:
            await sow(
                vault,
                make_seed(f"half-{number}", f"rt-half-{number}"),
                make_seed(f"g-{number}", "rt-owner" if clashing else f"rt-{number}"),
            )
        except DuplicateRefreshToken:
            refusals.append(f"g-{number}")

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(add, number)
    assert sorted(refusals) == ["g-0", "g-3", "g-6", "g-9"]
    kept = {grant.name for grant in await vault.grants()}
    good = [number for number in range(12) if number % 3]
    assert kept == {"owner", *(f"{kind}-{n}" for kind in ("g", "half") for n in good)}


async def test_a_bug_in_one_write_undoes_no_other(vault: Vault) -> None:
    """What was acknowledged is durable, and the bug reaches only its own caller."""
    acknowledged: list[str] = []
    errors: list[str] = []

    async def add(name: str) -> None:
        await sow(vault, make_seed(name, None))
        acknowledged.append(name)

    def broken(connection: Connection) -> None:
        connection.exec_driver_sql("update grants set client = 'broken'")
        raise ZeroDivisionError

    async def break_down() -> None:
        try:
            await vault._database.write(broken)
        except ZeroDivisionError:
            errors.append("broken")

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(add, f"before-{number}")
        tasks.start_soon(break_down)
        for number in range(5):
            tasks.start_soon(add, f"after-{number}")
    stored = await vault.grants()
    assert errors == ["broken"]
    assert len(acknowledged) == 10
    assert {grant.name for grant in stored} == set(acknowledged)
    assert {grant.client for grant in stored} == {"crm"}


async def test_a_cancelled_write_is_done_all_the_same(vault: Vault) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await sow(vault, make_seed())
    assert (await get(vault)).name == "acme"


async def write_ten(vault: Vault, told: list[str]) -> None:
    """Ten writes at once; what each was TOLD of its own."""

    async def add(number: int) -> None:
        try:
            await sow(vault, make_seed(f"g-{number}", None))
        except VaultUnavailable as error:
            told.append(str(error))
        else:
            told.append("durable")

    async with anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(add, number)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, RuntimeError])
async def test_a_commit_that_breaks_is_believed_by_nobody(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def broken(_: object) -> None:
        raise error

    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(vault._database, "_commit", broken)
        await write_ten(vault, told)
    assert told == [f"the vault's thread failed ({error.__name__})"] * 10
    assert await vault.grants() == []
    await write_ten(vault, told)
    assert told[10:] == ["durable"] * 10
    assert len(await vault.grants()) == 10


async def test_a_thread_that_takes_nothing_is_told_to_everyone(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(vault._database._write_thread, "submit", refuse)
        await write_ten(vault, told)
    assert told == ["the vault's thread failed (RuntimeError)"] * 10
    await write_ten(vault, told)
    assert told[10:] == ["durable"] * 10


async def test_no_thread_to_be_had_is_said_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(VaultUnavailable, match="the vault needs threads"):
        async with opened(tmp_path):
            pass


async def test_a_writer_that_is_cancelled_takes_nobody_along(vault: Vault) -> None:
    """Whoever began the commit may be gone before it ends."""
    goes_on = threading.Event()
    sa.event.listen(vault._database._writer, "commit", lambda _: goes_on.wait(10))
    told: list[str] = []
    first = anyio.CancelScope()

    async def begin() -> None:
        with first:
            await sow(vault, make_seed("first", None))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(begin)
        await anyio.sleep(0.01)
        tasks.start_soon(write_ten, vault, told)
        await anyio.sleep(0.01)
        first.cancel()
        assert told == []
        goes_on.set()
    assert told == ["durable"] * 10
    assert len(await vault.grants()) == 11


async def test_one_write_that_the_database_refuses_fails_alone(
    vault: Vault, tmp_path: Path
) -> None:
    """A constraint, a trigger that rolls everything back: the others are durable."""
    await sow(vault, *(make_seed(f"g-{number}", f"rt-{number}") for number in range(3)))
    for action in ("ABORT", "ROLLBACK"):
        with closing(sqlite3.connect(tmp_path / "vault.db", isolation_level=None)) as other:
            other.execute("DROP TRIGGER IF EXISTS broken")
            other.execute(
                "CREATE TRIGGER broken BEFORE UPDATE ON grants WHEN old.name = 'g-1' "
                f"BEGIN SELECT RAISE({action}, 'no'); END"
            )
        told: dict[int, str] = {}

        async def ask(number: int, told: dict[int, str] = told) -> None:
            try:
                await vault.request_refresh(f"g-{number}")
            except GrantSetAside:
                told[number] = "set aside"
            else:
                told[number] = "durable"

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(ask, number)
        assert told == {0: "durable", 1: "set aside", 2: "durable"}


async def test_a_lack_of_file_descriptors_is_told_as_that(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
    wanted = r"^this process is out of file descriptors \(limit \d+\): raise LimitNOFILE"
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        with pytest.raises(VaultUnavailable, match=wanted):
            open_sqlite(tmp_path / "vault.db")
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorname = "SQLITE_CANTOPEN"
        told = str(unavailable(sa.exc.OperationalError("BEGIN", None, error)))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert re.match(wanted, told)
    assert told.endswith("(SQLITE_CANTOPEN)")
    calm = str(unavailable(sa.exc.OperationalError("BEGIN", None, error)))
    assert calm.startswith("the vault cannot be opened: check its folder")


async def test_a_full_disk_is_said_and_survived(vault: Vault) -> None:
    await sow(vault, make_seed())
    claim = await claim_one(vault)
    await fill_the_disk(vault)
    before = await get(vault)
    fat = answered("at-1" + "x" * 5000, "rt-1")
    with pytest.raises(VaultUnavailable, match=r"^the disk is full \(SQLITE_FULL\)$"):
        await finish(vault, claim, fat)
    assert await get(vault) == before
    free_the_disk(vault)
    await finish(vault, claim, fat)
    assert holds(vault, await get(vault), "rt-1")


async def test_a_full_disk_refuses_the_whole_commit(vault: Vault) -> None:
    """Nobody may believe a write that shared its commit with one the disk refused."""
    await sow(vault, *(make_seed(f"g-{n}", f"rt-{n}") for n in range(8)))
    claims = await vault.claim(rooms(crm=8), 8)
    await fill_the_disk(vault)
    refused: list[str] = []
    written: list[str] = []

    async def commit(number: int) -> None:
        answer = answered("at" + "x" * (6000 if number == 5 else 0), f"rt-new-{number}")
        try:
            await finish(vault, claims[number], answer)
            written.append(claims[number].grant.name)
        except VaultUnavailable:
            refused.append(claims[number].grant.name)

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(commit, number)
    stored = {g.name for g in await vault.grants() if g.adopted_sequence}
    assert claims[5].grant.name in refused
    assert stored == set(written)
    free_the_disk(vault)
    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(commit, number)
    grants = [g for g in await vault.grants() if g.name.startswith("g-")]
    assert all(grant.adopted_sequence == 1 for grant in grants)


async def test_a_read_only_vault_is_said_and_survived(vault: Vault) -> None:
    await sow(vault, make_seed())
    set_writable(vault, writable=False)
    with pytest.raises(VaultUnavailable, match="the vault is read-only"):
        await claim_one(vault)
    with pytest.raises(VaultUnavailable, match="the vault is read-only"):
        await vault.prove_writable()
    assert (await get(vault)).intent is None
    set_writable(vault, writable=True)
    assert (await claim_one(vault)).intent.attempts == 1


async def test_a_vault_kept_locked_is_said(vault: Vault, tmp_path: Path) -> None:
    pragma(vault, "busy_timeout = 20")
    other = sqlite3.connect(tmp_path / "vault.db", isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(VaultUnavailable, match="another process keeps the vault locked"):
        await sow(vault, make_seed())
    other.execute("rollback")
    other.close()
    await sow(vault, make_seed())


async def test_a_vault_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "vault.db").write_bytes(b"canary not a database " * 500)
    with pytest.raises(VaultUnavailable, match=r"^the file is not a vault \(SQLITE_NOTADB\)$"):
        async with opened(tmp_path):
            pass


async def test_a_damaged_vault_is_said(tmp_path: Path) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, *(make_seed(f"g-{n}", f"rt-{n}") for n in range(50)))
    with (tmp_path / "vault.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 65_536)
    with pytest.raises(VaultUnavailable, match="the vault is damaged: refresher vault restore"):
        async with opened(tmp_path) as vault:
            await vault.grants()


async def test_a_refusal_quotes_no_parameters(vault: Vault) -> None:
    await fill_the_disk(vault)
    with pytest.raises(VaultUnavailable) as refused:
        await sow(vault, make_seed(labels={"note": "canary-" * 2000}))
    cause = refused.value.__cause__
    assert "canary" not in f"{refused.value} {cause} {cause!r}"


async def test_an_unknown_name_is_no_refusal_of_the_vault(vault: Vault) -> None:
    with pytest.raises(UnknownGrant):
        await vault.remove("nobody")
    await sow(vault, make_seed())
    assert (await refresh(vault, answered("at-1"))).version
