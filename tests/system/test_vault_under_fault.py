"""A vault that is locked, damaged, read-only or slow while the daemon works: nothing is lost."""

import resource
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from refresher.sandbox import Minted, SandboxOptions, Slow
from tests.canary import Canary
from tests.support.forked import ForkedProcess
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

LIFETIME = 4.0
"""Seconds an access token lives."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A daemon that is prepared, and not started."""
    canary = Canary()
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=LIFETIME
    )
    with new_world(tmp_path, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        yield world


def add(world: World, name: str) -> Minted:
    """A grant whose token is published."""
    minted = world.server.call(world.server.sandbox.mint)
    world.import_grants({"name": name, "client": "box", "refresh_token": minted.refresh_token})
    wait_until(lambda: world.token(name), description=f"{name} is published")
    return minted


def version(world: World, name: str) -> int:
    return int(world.token(name).get("version", 0))


def is_intact(world: World, minted: Minted) -> bool:
    """Whether the server never saw a refresh token twice, and the daemon lost nothing."""
    families = {family.family_id: family for family in world.server.sandbox.families}
    return families[minted.family_id].reuses == 0 and world.daemon.events("grant.lost") == []


def begin_slow_exchange(world: World, name: str) -> None:
    """Return while the server holds back the answer to a refresh it has done."""
    sent = len(world.server.sandbox.log)
    slow = Slow(seconds=1.0, after_processing=True)
    world.server.call(world.server.sandbox.faults.enqueue, slow)
    world.daemon.command("refresh", name)
    wait_until(lambda: len(world.server.sandbox.log) > sent, description="a request")


@pytest.mark.long
def test_a_vault_locked_at_the_commit_delays_it(world: World) -> None:
    """Another process has the database for longer than anybody waits for it."""
    world.daemon.start()
    minted = add(world, "g")
    begin_slow_exchange(world, "g")
    before = version(world, "g")
    vault = world.daemon.folder / "refresher.db"
    with closing(sqlite3.connect(vault, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        wait_until(lambda: world.daemon.events("answer.rescued"), description="the rescue")
        sent = len(world.server.sandbox.log)
        time.sleep(1)
        assert len(world.server.sandbox.log) == sent
        other.execute("ROLLBACK")
    wait_until(lambda: version(world, "g") > before, description="the commit")
    [refusal] = world.daemon.events("vault.refused")
    # It waits for the other one's lock, which looks like any disk that hangs.
    assert "has not answered" in refusal["reason"]
    assert is_intact(world, minted)


def test_a_disk_that_takes_no_byte_is_outlived(world: World) -> None:
    """Not even into what was allocated: the answer waits in memory, and nothing is sent."""
    daemon = world.daemon
    daemon.start()
    minted = add(world, "g")
    begin_slow_exchange(world, "g")
    before, sent = version(world, "g"), len(world.server.sandbox.log)
    with no_writes(daemon.process):
        wait_until(
            lambda: daemon.command("health", "--ready", check=None).returncode,
            description="it is not ready",
        )
        assert daemon.command("health").stdout == "ok\n"
        time.sleep(LIFETIME)
        assert len(world.server.sandbox.log) == sent
    wait_until(lambda: version(world, "g") > before, description="the commit")
    assert is_intact(world, minted)
    assert daemon.events("vault.refused")  # the log could not be written either, and waited


@contextmanager
def no_writes(process: subprocess.Popen[bytes] | ForkedProcess | None) -> Iterator[None]:
    """Every write of PROCESS to a file fails while the block lasts."""
    assert process is not None
    _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (0, hard))
    yield
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))


def test_a_damaged_vault_is_named_and_a_backup_helps(world: World) -> None:
    daemon = world.daemon
    daemon.start()
    minted = add(world, "g")
    assert daemon.stop() == 0
    daemon.command("vault", "backup", str(daemon.folder / "copy.db"))
    vault = daemon.folder / "refresher.db"
    damage(vault)
    sent = len(world.server.sandbox.log)
    done = daemon.command("run", check=1)
    assert done.stderr == (
        "refresher: the vault is damaged: refresher vault restore FILE (SQLITE_CORRUPT)\n"
    )
    assert len(world.server.sandbox.log) == sent
    daemon.command("vault", "restore", "--yes", str(daemon.folder / "copy.db"))
    daemon.start()
    wait_until(lambda: world.token("g"), description="g is published")
    assert len(daemon.events("vault.restored")) == 1
    assert is_intact(world, minted)


def damage(vault: Path) -> None:
    """Overwrite every page that holds rows of grants."""
    with closing(sqlite3.connect(vault)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [[page_size]] = database.execute("PRAGMA page_size")
        [[root]] = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'grants'")
    content = bytearray(vault.read_bytes())
    content[(root - 1) * page_size : root * page_size] = b"\xff" * page_size
    vault.write_bytes(content)


def test_a_slow_disk_delays_and_blocks_nothing(world: World) -> None:
    """Commits that gather share the next one, and the loop waits for none."""
    daemon = world.daemon
    daemon.start()
    minted = [add(world, f"g{number}") for number in range(4)]
    assert daemon.stop() == 0
    ready = daemon.ready_count()
    daemon.start_slow(0.7)
    wait_until(lambda: daemon.ready_count() > ready, description="it is ready")
    sent = len(world.server.sandbox.log)
    assert daemon.command("health").stdout == "ok\n"
    wait_until(
        lambda: len(world.server.sandbox.log) >= sent + 4,
        description="every grant is refreshed",
    )
    assert all(is_intact(world, one) for one in minted)
    assert daemon.events("daemon.stalled") == daemon.events("task.restarted") == []
