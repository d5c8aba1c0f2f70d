"""A vault behind PgBouncer with transaction pooling: nothing hangs on the session."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import psycopg
import pytest

from refresher.demo.private_server import free_port
from refresher.domain.secret import Secret
from refresher.errors import GrantSetAside
from tests.support.postgresql import PrivatePostgres
from tests.support.waiting import wait_until
from tests.vault.world import (
    NOW,
    URLS,
    answered,
    at,
    get,
    make_seed,
    opened,
    refresh,
    rooms,
    sow,
)

pytestmark = pytest.mark.foreign

SETTINGS = """
[databases]
* = host=127.0.0.1 port={port} user=refresher
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
server_reset_query_always = 1
"""


@pytest.fixture
def folder(tmp_path: Path, postgres: PrivatePostgres) -> Iterator[Path]:
    """A folder whose vault is reached through a pool of two connections."""
    with postgres.empty_vault() as url, tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        port, settings = free_port(), Path(place) / "pgbouncer.ini"
        settings.write_text(SETTINGS.format(port=postgres.port, own_port=port))
        settings.chmod(0o644)
        pooled = f"postgresql://refresher@127.0.0.1:{port}{urlsplit(url).path}"
        # It refuses to run as root.
        user = "nobody" if os.geteuid() == 0 else None
        with subprocess.Popen(["pgbouncer", "-q", settings], user=user) as process:  # noqa: S607  whichever there is
            try:
                wait_until(lambda: answers(pooled), description="PgBouncer answers")
                URLS[tmp_path] = Secret(f"{pooled}?connect_timeout=30")
                yield tmp_path
                del URLS[tmp_path]
            finally:
                process.kill()


def answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


async def test_several_that_share_the_pool_work_as_without(folder: Path) -> None:
    names = [f"g{number:02}" for number in range(20)]
    other = folder / "other"
    other.mkdir(mode=0o700)
    async with opened(folder) as one:
        (other / "key").write_bytes((folder / "key").read_bytes())
        (other / "key").chmod(0o600)
        URLS[other] = URLS[folder]
        async with opened(other) as two:
            await sow(one, *(make_seed(name, f"rt-{name}") for name in names))
            taken: list[str] = []

            async def work(number: int) -> None:
                vault = (one, two)[number]
                while claims := await at(vault, NOW).claim(rooms(crm=2), 2):
                    taken.extend(claim.grant.name for claim in claims)

            async with anyio.create_task_group() as tasks:
                for number in range(2):
                    tasks.start_soon(work, number)
            assert sorted(taken) == names
            await sow(one, make_seed())
            await refresh(two, answered("at-1", "rt-1"))
            assert (await get(one)).version > 0
            with pytest.raises(GrantSetAside):
                await one._database.write(
                    lambda c: c.exec_driver_sql("INSERT INTO facts (name) VALUES ('x')")
                )
            # Of two that share two connections nobody knows which is whose.
            assert [one.backend for one in await two.leases.beat() or two.leases.replicas] == [None]
        del URLS[other]
