"""A vault in PostgreSQL: what is this database's own, and what several processes do to one."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import anyio
import psycopg
import pytest
import sqlalchemy as sa

from refresher.domain.secret import Secret
from refresher.domain.shares import Share
from refresher.errors import VaultError, VaultTooNew, VaultUnavailable
from refresher.vault import claims, exchanges, leases
from refresher.vault.heartbeats import Replica
from refresher.vault.keys import FINGERPRINT_KEY, SEALING_KEYS
from refresher.vault.migrate import known_revisions
from refresher.vault.opening import open_vault
from refresher.vault.postgresql import dialect, tables
from refresher.vault.schema import grants
from refresher.vault.sealing import KEY_ID_BYTES, write_key_file
from refresher.vault.vault import Vault
from tests.support.postgresql import PrivatePostgres
from tests.support.waiting import PATIENCE, eventually
from tests.vault.sealed import A_DEVICE, a_login
from tests.vault.world import (
    NOW,
    URLS,
    access_token,
    answered,
    at,
    get,
    make_seed,
    opened,
    refresh,
    rooms,
    sow,
)


@pytest.fixture
def url(tmp_path: Path, postgres: PrivatePostgres) -> Iterator[str]:
    """A vault that every folder of ``replicas`` shares."""
    with postgres.empty_vault() as url:
        URLS[tmp_path] = Secret(url)
        yield url
        del URLS[tmp_path]


@pytest.fixture
async def replicas(tmp_path: Path, url: str) -> AsyncIterator[tuple[Vault, Vault]]:
    """Two processes' ways to one vault."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(opened(tmp_path))
        folder = tmp_path / "other"
        folder.mkdir(mode=0o700)
        (folder / "key").write_bytes((tmp_path / "key").read_bytes())
        (folder / "key").chmod(0o600)
        URLS[folder] = URLS[tmp_path]
        yield one, await stack.enter_async_context(opened(folder))
        del URLS[folder]


async def execute(vault: Vault, statement: str) -> None:
    await vault._database.write(lambda c: c.exec_driver_sql(statement))


async def test_replicas_that_start_at_once_make_one_schema(
    tmp_path: Path, postgres: PrivatePostgres
) -> None:
    url, vaults = postgres.url(postgres.new_database()), list[Vault]()
    write_key_file(tmp_path / "key")

    async def start(number: int) -> None:
        path = tmp_path / f"v{number}"
        vaults.append(await open_vault(path, tmp_path / "key", url=Secret(url)))

    with psycopg.connect(url, autocommit=True) as migration:
        migration.execute(f"SELECT pg_advisory_lock({tables.UPGRADING})")
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(start, number)
            await eventually(lambda: waiting(url, "advisory") == 3, "they wait for their turn")
            assert not vaults
            migration.execute(f"SELECT pg_advisory_unlock({tables.UPGRADING})")
    assert len({vault._sealer.fingerprint(Secret("rt")) for vault in vaults}) == 1
    for vault in vaults:
        vault.close()


async def test_one_that_begins_to_share_a_vault_waits_for_a_change_of_its_key(
    replicas: tuple[Vault, Vault], url: str
) -> None:
    """Else it would be one that nobody has waited for, and would not know of the new key."""
    one, two = replicas
    new = bytes(KEY_ID_BYTES)
    with psycopg.connect(url) as change:
        change.execute("SELECT 1 FROM facts WHERE name = %s FOR UPDATE", [FINGERPRINT_KEY])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(two.leases.beat)
            await eventually(lambda: waiting(url, "transactionid") == 1, "it waits")
            used = new + one._sealer.keyring.sealing
            change.execute("INSERT INTO facts VALUES (%s, %s)", [SEALING_KEYS, used])
            change.commit()
    assert two._sealer.keyring.missing == new
    assert one._sealer.keyring.missing is None


async def test_racing_replicas_share_no_grant(replicas: tuple[Vault, Vault]) -> None:
    one, _ = replicas
    names = [f"g{number:02}" for number in range(40)]
    await sow(one, *(make_seed(name, f"rt-{name}") for name in names))
    taken: list[str] = []

    async def work(vault: Vault) -> None:
        while claims := await at(vault, NOW).claim(rooms(crm=3), 3):
            taken.extend(claim.grant.name for claim in claims)

    async with anyio.create_task_group() as tasks:
        for vault in replicas:
            tasks.start_soon(work, vault)
    assert sorted(taken) == names


async def test_what_one_has_locked_is_left_to_it(replicas: tuple[Vault, Vault]) -> None:
    one, other = replicas
    await sow(one, make_seed("a", "rt-a"), make_seed("b", "rt-b"))
    engine = one._database.open_another()
    with engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK; BEGIN")
        connection.execute(sa.select(grants.c.id).where(grants.c.name == "a").with_for_update())
        [claim] = await at(other, NOW).claim(rooms(crm=5), 5)
        assert claim.grant.name == "b"
    engine.dispose()
    [claim] = await at(other, NOW).claim(rooms(crm=5), 5)
    assert claim.grant.name == "a"


async def test_where_others_have_locked_everything_no_row_is_read_for_itself(
    replicas: tuple[Vault, Vault], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = replicas
    await sow(one, make_seed("a", "rt-a"), make_seed("b", "rt-b"))
    engine = one._database.open_another()
    with engine.connect() as connection, monkeypatch.context() as patched:
        patched.setattr(claims, "claim_each", lambda *_: pytest.fail("it took the careful way"))
        connection.exec_driver_sql("ROLLBACK; BEGIN")
        connection.execute(sa.select(grants.c.id).with_for_update())
        assert await at(other, NOW).claim(rooms(crm=5), 5) == []
    engine.dispose()
    assert len(await at(other, NOW).claim(rooms(crm=5), 5)) == 2


async def test_replicas_begin_with_different_grants(replicas: tuple[Vault, Vault]) -> None:
    await sow(replicas[0], *(make_seed(name, f"rt-{name}") for name in "abcdef"))
    taken: list[set[int]] = []
    for place, vault in enumerate(replicas):
        vault.leases.share = partial(Share, 2, place)  # type: ignore[method-assign]  # heard long ago
        taken.append({one.grant.id % 2 for one in await at(vault, NOW).claim(rooms(crm=2), 2)})
    assert taken == [{0}, {1}]
    rest = await at(replicas[0], NOW).claim(rooms(crm=5), 5)
    assert len(rest) == 2


async def test_the_clock_of_one_undoes_no_commit_of_another(
    replicas: tuple[Vault, Vault], url: str
) -> None:
    """What is moved was read with its lock: not as it was before the other's commit."""
    one, other = replicas
    await sow(one, make_seed())
    await refresh(one, answered("at-1", "rt-1"))
    with psycopg.connect(url) as commit:
        commit.execute("UPDATE grants SET expires_at = expires_at + 3600, failures = 7")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(at(other, NOW + 3601).time_passed)
            await eventually(lambda: waiting(url, "transactionid"), "it waits for the commit")
            commit.commit()
    stored = await get(other)
    assert (stored.expires_at, stored.failures) == (NOW + 7200, 7)


def waiting(url: str, kind: str) -> int:
    """How many wait for a lock of this KIND on the server of URL."""
    statement = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = %s"
    with psycopg.connect(url) as connection:
        [[count]] = connection.execute(statement, [kind]).fetchall()
        return int(count)


async def test_a_connection_that_was_cut_is_nobodys_refusal(
    tmp_path: Path, url: str, postgres: PrivatePostgres
) -> None:
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        postgres.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'refresher'"
        )
        await refresh(vault, answered("at-1", "rt-1"))
        assert await access_token(vault) == "at-1"


async def test_a_server_that_answers_nothing_is_hung_up_on(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as vault:
        monkeypatch.setattr(dialect, "ANSWERED_WITHIN", 0.2)
        await sow(vault, make_seed())
        ask = "SELECT pg_backend_pid()"
        pid = await vault._database.write(lambda c: c.exec_driver_sql(ask).scalar_one())
        os.kill(pid, signal.SIGSTOP)
        try:
            with anyio.fail_after(PATIENCE):
                await refresh(vault, answered("at-1", "rt-1"))
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await access_token(vault) == "at-1"


async def test_one_that_others_keep_locked_is_refused_in_time(
    replicas: tuple[Vault, Vault],
) -> None:
    one, other = replicas
    await sow(one, make_seed())
    engine = one._database.open_another()
    with engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK; BEGIN")
        connection.exec_driver_sql("LOCK TABLE facts")
        with pytest.raises(VaultUnavailable, match="keeps rows of the vault locked"):
            await other.prove_writable()
    engine.dispose()
    await other.prove_writable()


async def test_text_that_the_database_cannot_hold_costs_no_answer(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor the quick way, on which many are committed at once."""
    monkeypatch.setattr(exchanges, "commit", lambda *_: pytest.fail("it took the careful way"))
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        scope = "read \0 write" + "x" * 1000
        await refresh(vault, answered("at-1", "rt-1", scope=scope, token_type="B" * 100))
        [published] = await vault.read(["acme"])
        assert published.scope == scope.replace("\0", "\ufffd")
        assert published.token_type == "B" * 100


async def test_every_write_waits_for_the_disk(tmp_path: Path, url: str) -> None:
    """Whatever the user of the database has set for itself."""
    async with opened(tmp_path) as vault:
        shown = await vault._database.write(
            lambda c: [
                c.exec_driver_sql(f"SHOW {name}").scalar()
                for name in ("synchronous_commit", "statement_timeout", "transaction_isolation")
            ]
        )
        assert shown == ["on", "15s", "read committed"]


async def test_a_vault_of_the_future_is_refused(
    tmp_path: Path, url: str, postgres: PrivatePostgres
) -> None:
    name = url.rpartition("/")[2]
    async with opened(tmp_path) as vault:
        await execute(vault, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(VaultTooNew):
        async with opened(tmp_path):
            pass
    postgres.run(f"UPDATE alembic_version SET version_num = '{max(known_revisions())}'", name)  # noqa: S608


@pytest.mark.parametrize(
    ("url_of", "told"),
    [
        (
            "postgresql://refresher@127.0.0.1:{port}/nothing",
            'cannot be reached: database "nothing" does not',
        ),
        ("postgresql://nobody@127.0.0.1:{port}/postgres", "cannot be reached: role"),
        ("postgresql://refresher@127.0.0.1:1/postgres", "cannot be reached: Connection refused"),
        ("postgresql://refresher:canary%zz@127.0.0.1/", "vault.url cannot be read"),
    ],
)
async def test_what_cannot_be_reached_is_said(
    tmp_path: Path, postgres: PrivatePostgres, url_of: str, told: str
) -> None:
    URLS[tmp_path] = Secret(url_of.format(port=postgres.port))
    with pytest.raises(VaultError, match=told) as raised:
        async with opened(tmp_path):
            pass
    assert "canary" not in str(raised.value)
    del URLS[tmp_path]


def test_a_vault_in_a_file_loads_no_postgresql(tmp_path: Path) -> None:
    """SQLAlchemy's dialect alone would be 2 MB of every daemon."""
    write_key_file(tmp_path / "key")
    text = (
        "import sys, anyio, pathlib; from refresher.vault.opening import open_vault;"
        f"folder = pathlib.Path({str(tmp_path)!r});"
        "anyio.run(lambda: open_vault(folder / 'v', folder / 'key'));"
        "print([one for one in sys.modules if 'psycopg' in one or 'dialects.postgresql' in one])"
    )
    done = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


async def test_counts_are_kept_beside_each_other(replicas: tuple[Vault, Vault]) -> None:
    for number, vault in enumerate(replicas):
        await sow(vault, *(make_seed(f"g{number}-{n}", f"rt-{number}-{n}") for n in range(3)))
    one, other = replicas
    await refresh(one, answered("at-1"), NOW, "g0-0")
    await refresh(other, answered("at-2"), NOW, "g0-1")
    await at(one, NOW).remove("g1-0")
    assert await other.counts() == {"fresh": 2, "pending": 3, "removed": 1}


async def test_racing_replicas_take_a_login_once(replicas: tuple[Vault, Vault]) -> None:
    """Whichever began it: both find it by its state, and one of them redeems its code."""
    one, other = replicas
    names = [f"login-{number}" for number in range(10)]
    for name in names:
        await at(one, NOW).logins.add(a_login(name))
    at(other, NOW)
    found = await other.logins.find_by_state(Secret("state-of-login-3"))
    assert found == a_login("login-3")
    taken: list[str] = []

    async def take(vault: Vault) -> None:
        taken.extend([name for name in names if await vault.logins.take(name)])

    polled: list[bool] = []

    async def poll(vault: Vault) -> None:
        polled.append(await vault.logins.begin_poll(A_DEVICE, NOW + 45))

    await one.logins.add(A_DEVICE)
    async with anyio.create_task_group() as tasks:
        for vault in replicas:
            tasks.start_soon(take, vault)
            tasks.start_soon(poll, vault)
    assert sorted(taken) == names
    assert sorted(polled) == [False, True]


async def heard_from(vault: Vault) -> Replica:
    """What the heartbeat of VAULT finds of the other."""
    [known] = await vault.leases.beat()
    return known


async def test_only_a_replica_of_which_no_connection_is_left_is_gone(
    replicas: tuple[Vault, Vault], postgres: PrivatePostgres, url: str
) -> None:
    """Its process would have taken all of them with it; and it is back with its heartbeat."""
    one, other = replicas
    at(other, NOW)
    await at(one, NOW).leases.beat()
    known = await heard_from(other)
    for backend, is_gone in ((known.backend, False), (known.reading, True)):
        assert backend is not None
        postgres.run(f"SELECT pg_terminate_backend({backend.pid}, 60000)")
        assert ((await heard_from(other)).life.gone_at is not None) is is_gone
    await one.leases.beat()
    assert one.leases.is_reconnected
    await one.counts()
    await one.leases.beat()
    back = await heard_from(other)
    assert back.life.gone_at is None
    assert not back.backends & known.backends
    assert len(back.backends) == 2


async def test_who_comes_back_while_its_exchange_is_taken_over_sees_that(
    replicas: tuple[Vault, Vault], url: str
) -> None:
    """Its heartbeat waits for that; else it would send what another sends, too."""
    one, other = replicas
    await sow(one, make_seed())
    [claim] = await at(one, NOW).claim(rooms(crm=1), 1)
    await one.leases.beat()
    for second in (50.0, 51.0, 52.0, 53.0):
        await at(other, NOW + second).leases.beat()
    begun, goes_on, order = threading.Event(), threading.Event(), list[str]()

    def judge(*_: object) -> bool:
        begun.set()
        return goes_on.wait(PATIENCE)

    async def take_over() -> None:
        taken = await other.leases.take_over(judge, lambda _: None)
        assert taken is not None
        order.append(f"{len(taken.exchanges)} taken over")

    async def come_back() -> None:
        await at(one, NOW + 53.0).leases.beat()
        order.append("back")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_over)
        await eventually(begun.is_set, "it is taken over")
        tasks.start_soon(come_back)
        await eventually(lambda: waiting(url, "transactionid"), "the heartbeat waits")
        goes_on.set()
    assert order == ["1 taken over", "back"]
    assert not await one.is_held(claim)


async def test_without_statistics_an_idle_replica_looks_through_no_grants(
    tmp_path: Path, url: str
) -> None:
    """As right after many were added: until autovacuum has counted, everything seems common."""
    async with opened(tmp_path) as vault:
        await sow(vault, make_seed())
        await refresh(vault, answered("at-1", "rt-1"))
        await execute(
            vault,
            "INSERT INTO grants SELECT (jsonb_populate_record(known, jsonb_build_object("
            "'id', n, 'name', 'g' || n, 'uid', lpad(n::text, 32, '0')))).* "
            "FROM grants known, generate_series(100, 3000) n",
        )

        async def looked_through(connection: str) -> int:
            """What the server has counted on CONNECTION's side too, once it ends a transaction."""
            run = getattr(vault._database, connection)
            await run(lambda c: c.exec_driver_sql("SELECT pg_stat_force_next_flush()"))
            counted = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'grants'"
            found = await run(lambda c: c.exec_driver_sql(counted).scalar())
            return int(found)

        await looked_through("write")
        before = await looked_through("read")
        assert await vault.next_due(rooms(crm=5)) is not None
        assert await vault.claim(rooms(crm=5), 5) == []
        assert await vault.time_passed() == []
        assert await vault.incidents_over() == []
        assert await vault.endings.take_due() == []
        assert not await vault._read(lambda tx: leases.silent(tx, vault.holder))
        await vault.leases.beat()
        await looked_through("write")
        assert await looked_through("read") == before
