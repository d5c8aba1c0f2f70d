"""Files of the vault that go away under a daemon, and backups that come into their place."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from refresher.sandbox import SandboxOptions, Slow
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

LIFETIME = 3.0
"""Seconds an access token lives: refreshes have to come by themselves."""


@pytest.fixture
def world(tmp_path: Path, canary: Canary) -> Iterator[World]:
    """A daemon with one grant whose server rotates strictly."""
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=LIFETIME
    )
    with new_world(tmp_path, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        world.daemon.start()
        [refresh_token] = world.server.refresh_tokens(1)
        world.import_grants({"name": "g", "client": "box", "refresh_token": refresh_token})
        wait_until(lambda: world.token("g"), description="g is published")
        yield world


def vault_of(world: World) -> Path:
    return world.daemon.folder / "refresher.db"


def requests(world: World) -> int:
    return len(world.server.sandbox.log)


def is_ready(world: World) -> bool:
    return world.daemon.command("health", "--ready", check=None).returncode == 0


def locks_of(world: World) -> set[str]:
    """The POSIX locks of the daemon, by the kernel's word: kind and inode."""
    assert world.daemon.process is not None
    lines = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    mine = [
        line for line in lines if line[1] == "POSIX" and line[4] == str(world.daemon.process.pid)
    ]
    return {f"{line[3]} {line[5]}" for line in mine}


def is_served(world: World) -> None:
    """The refresh token that the vault holds is the good one: g is refreshed by itself."""
    before = int(world.token("g").get("version", 0))
    wait_until(
        lambda: int(world.token("g").get("version", 0)) > before + 1,
        description="g is refreshed",
    )
    assert world.daemon.events("grant.lost", "grant.doubted") == []


def test_a_vault_that_is_deleted_in_mid_exchange_costs_nothing(world: World) -> None:
    daemon, vault = world.daemon, vault_of(world)
    locks = locks_of(world)
    assert locks
    world.server.call(world.server.sandbox.faults.enqueue, Slow(seconds=1.5))
    seen = requests(world)
    wait_until(lambda: requests(world) > seen, description="an exchange is out")
    assert locks_of(world) == locks
    vault.unlink()
    wait_until(lambda: daemon.events("vault.saved"), description="the copy")
    assert daemon.events("vault.vanished")[0]["file"] == str(vault)
    assert not is_ready(world)
    wait_until(lambda: daemon.events("answer.rescued"), description="the answer")
    sent = requests(world)
    time.sleep(LIFETIME)
    assert requests(world) == sent
    [saved] = daemon.events("vault.saved")
    assert daemon.stop() == 0
    gone = daemon.command("run", check=1)
    assert "refresher vault restore FILE" in gone.stderr
    assert saved["repair"].endswith(f"refresher vault restore {saved['path']}")
    daemon.command("vault", "restore", "--yes", saved["path"])
    daemon.start()
    is_served(world)
    assert is_ready(world)


@pytest.mark.parametrize("ending", [".lock", ".rescue"])
def test_without_its_lock_or_its_rescue_file_nothing_is_sent(world: World, ending: str) -> None:
    daemon = world.daemon
    vault_of(world).with_name(f"refresher.db{ending}").unlink()
    wait_until(lambda: daemon.events("vault.vanished"), description="the word")
    wait_until(lambda: not is_ready(world), description="it is unready")
    sent = requests(world)
    time.sleep(LIFETIME)
    assert requests(world) == sent
    assert daemon.stop() == 0
    daemon.start()
    is_served(world)


def test_a_backup_copied_beside_a_strange_wal_is_recognised(world: World) -> None:
    daemon, vault = world.daemon, vault_of(world)
    backup = daemon.folder / "backup.db"
    daemon.command("vault", "backup", str(backup))
    refused = daemon.command("vault", "restore", "--yes", str(backup), check=1)
    assert "stop the daemon first" in refused.stderr
    is_served(world)
    daemon.kill()
    assert vault.with_name("refresher.db-wal").stat().st_size
    shutil.copy(backup, vault)
    told = daemon.command("run", check=1).stderr
    for named in (str(vault), "refresher.db-wal", f"`refresher vault restore {vault}`"):
        assert named in told
    asked = daemon.command("vault", "restore", str(vault), text="n\n", check=1)
    assert "1 grants" in asked.stderr
    assert "needs a login" in asked.stderr
    daemon.command("vault", "restore", "--yes", str(vault))
    [kept] = daemon.folder.glob("refresher.db.before-*-wal")
    assert kept.stat().st_size
    daemon.start()
    wait_until(lambda: daemon.events("grant.lost"), description="the refusal")
    assert daemon.events("grant.lost")[0]["reason"] == "restored_copy:invalid_grant"
    [restored] = daemon.events("vault.restored")
    assert (restored["reason"], restored["count"]) == ("copy", 1)


def test_an_older_file_put_back_by_hand_is_said(world: World) -> None:
    daemon, vault = world.daemon, vault_of(world)
    assert daemon.stop() == 0
    older = Path(shutil.copy(vault, daemon.folder / "older"))
    daemon.start()
    is_served(world)
    assert daemon.stop() == 0
    older.replace(vault)
    daemon.start()
    [restored] = daemon.events("vault.restored")
    assert (restored["reason"], restored["count"]) == ("rolled_back", 1)
    wait_until(lambda: daemon.events("grant.lost"), description="the refusal")
    assert daemon.events("grant.lost")[0]["reason"] == "restored_copy:invalid_grant"
