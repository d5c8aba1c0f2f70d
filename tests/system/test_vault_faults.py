"""A vault that cannot be used: one clear line, an exit code, and nothing lost."""

import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import anyio
import pytest

from refresher.domain.grants import Grant
from refresher.sandbox import Minted, SandboxOptions, Slow
from refresher.vault.opening import open_vault
from refresher.vault.sealing import write_key_file
from tests.canary import Canary
from tests.support.waiting import PATIENCE, wait_until
from tests.system.world import World, new_world

LAUNCHER = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
if os.geteuid() == 0 and ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0):
    sys.exit("the capability cannot be dropped")
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Runs a command for which permissions hold even if it belongs to root."""

LIFETIME = 4.0
"""Seconds an access token lives where refreshes have to come by themselves."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, canary: Canary) -> Iterator[World]:
    """A vault with one grant, and no daemon."""
    folder = tmp_path_factory.mktemp("vault-faults")
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=3600
    )
    with new_world(folder, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        [refresh_token] = world.server.refresh_tokens(1)
        world.import_grants({"name": "kept", "client": "box", "refresh_token": refresh_token})
        yield world
        # After everything below the refresh token is still the good one.
        assert world.daemon.command("refresh", "kept").stdout == "kept: done\n"


@contextmanager
def wrong_key(folder: Path) -> Iterator[None]:
    with lost_key(folder):
        write_key_file(folder / "refresher.key")
        yield


@contextmanager
def open_key(folder: Path) -> Iterator[None]:
    (folder / "refresher.key").chmod(0o644)
    yield
    (folder / "refresher.key").chmod(0o600)


@contextmanager
def lost_key(folder: Path) -> Iterator[None]:
    kept = (folder / "refresher.key").rename(folder / "kept.key")
    yield
    kept.replace(folder / "refresher.key")


@contextmanager
def vault_of_the_future(folder: Path) -> Iterator[None]:
    with closing(sqlite3.connect(folder / "refresher.db")) as vault:
        [[version]] = vault.execute("SELECT version_num FROM alembic_version")
        for number in ("9999", version):
            with vault:
                vault.execute("UPDATE alembic_version SET version_num = ?", [number])
            if number != version:
                yield


@contextmanager
def something_else(folder: Path) -> Iterator[None]:
    kept = [path.rename(f"{path}.kept") for path in folder.glob("refresher.db*")]
    (folder / "refresher.db").write_bytes(b"scribble" * 1000)
    yield
    for path in kept:
        path.replace(path.with_suffix(""))


def grants(world: World) -> dict[str, Grant]:
    """What the vault holds when it is opened by the next one."""

    async def look() -> list[Grant]:
        folder = world.daemon.folder
        vault = await open_vault(folder / "refresher.db", folder / "refresher.key")
        try:
            return await vault.grants()
        finally:
            vault.close()

    return {grant.name: grant for grant in anyio.run(look)}


@pytest.mark.parametrize(
    ("spoilt", "code", "told"),
    [
        pytest.param(wrong_key, 78, "sealed with another key", id="wrong key"),
        pytest.param(open_key, 78, "open to others (mode 0644): chmod 600", id="open key"),
        pytest.param(lost_key, 78, "an existing vault opens only with its own key", id="no key"),
        pytest.param(vault_of_the_future, 78, "written by a newer refresher", id="newer"),
        pytest.param(something_else, 1, "the file is not a vault", id="no vault"),
    ],
)
def test_a_spoilt_vault_stops_the_daemon(
    spoilt: Callable[[Path], AbstractContextManager[None]], code: int, told: str, world: World
) -> None:
    before = grants(world)
    with spoilt(world.daemon.folder):
        done = world.daemon.command("run", check=code)
    [line] = done.stderr.splitlines()
    assert line.startswith("refresher: ")
    assert told in line
    assert grants(world) == before


def test_a_read_only_folder_is_named(world: World) -> None:
    before = grants(world)
    folder = world.daemon.folder
    folder.chmod(0o500)
    try:
        done = subprocess.run(
            [sys.executable, "-c", LAUNCHER, *world.daemon.program, "run"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        folder.chmod(0o700)
    assert done.returncode == 1, done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("refresher: ")
    assert "read-only" in line or "cannot be opened" in line
    assert grants(world) == before


def test_a_write_that_fails_halves_nothing(world: World) -> None:
    """A limit on the size of files stands for a disk that takes no more."""
    before = grants(world)
    room = 48 * 1024
    program = [*world.daemon.program, "import", "-"]
    tokens = world.server.refresh_tokens(300)
    lines = [
        f'{{"name": "half-{n}", "client": "box", "refresh_token": "{token}"}}'
        for n, token in enumerate(tokens)
    ]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (room, room))
        stdout, stderr = process.communicate("\n".join(lines), timeout=PATIENCE)
    assert process.returncode == 1
    assert stdout == ""
    # A slow disk is told before, in a line of its own.
    assert stderr.splitlines()[-1].startswith("refresher: the vault refused (SQLITE_IOERR")
    assert grants(world) == before


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A disk at PLACE with room for a young vault and its rescue file."""
    place.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk here")
    try:
        yield
    finally:
        unmount = ["umount", "--lazy", str(place)]
        subprocess.run(unmount, check=True)


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """No byte is left on DISK while the block lasts."""
    ballast = disk / "ballast.secret"
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        ballast.write_bytes(bytes(1 << 26))
    yield
    ballast.unlink()


@pytest.fixture
def full_world(tmp_path: Path) -> Iterator[tuple[World, Path, Minted]]:
    """A daemon whose vault is on a small disk, and a grant whose token lives for seconds."""
    disk, canary = tmp_path / "disk", Canary()
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=LIFETIME
    )
    with small_disk(disk), new_world(tmp_path, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        (tmp_path / "refresher.key").chmod(0o600)
        settings = world.daemon.config.read_text()
        key = 'path = "disk/refresher.db"\nkey_file = "refresher.key"'
        world.daemon.config.write_text(settings.replace('path = "refresher.db"', key))
        world.daemon.start()
        minted = world.server.call(world.server.sandbox.mint)
        world.import_grants({"name": "g", "client": "box", "refresh_token": minted.refresh_token})
        wait_until(lambda: world.token("g"), description="g is published")
        yield world, disk, minted


def exchanges(world: World) -> int:
    """Token requests so far."""
    return len(world.server.sandbox.log)


def test_a_full_disk_loses_nothing(full_world: tuple[World, Path, Minted]) -> None:
    world, disk, minted = full_world
    daemon = world.daemon

    # Before the claim: nothing is sent, since no answer could be kept.
    with full(disk):
        wait_until(lambda: daemon.events("vault.refused"), description="vault.refused")
        sent = exchanges(world)
        done = daemon.command("health", "--ready", check=1)
        assert done.stderr == "the vault cannot be written\n"
        assert daemon.command("health").stdout == "ok\n"
        wait_until(lambda: not world.token("g"), description="the token ends")
        assert exchanges(world) == sent
    wait_until(lambda: world.token("g"), description="it goes on by itself")
    assert len(daemon.events("vault.refused")) == 1
    assert len(daemon.events("vault.recovered")) == 1

    # After the request has left: the answer goes into the rescue file, and outlives kill -9.
    slow = Slow(seconds=1.0, after_processing=True)
    world.server.call(world.server.sandbox.faults.enqueue, slow)
    sent = exchanges(world)
    wait_until(lambda: exchanges(world) > sent, description="a request")
    with full(disk):
        wait_until(lambda: daemon.events("answer.rescued"), description="answer.rescued")
        assert [line["outcome"] for line in daemon.events("answer.rescued")] == ["rescued"]
        newest = world.token("g").get("version", "0")
        daemon.kill(signal.SIGKILL)
        world.assert_no_leak()
    daemon.start()
    wait_until(
        lambda: int(world.token("g").get("version", 0)) > int(newest),
        description="the rescued token is published",
    )
    families = {family.family_id: family for family in world.server.sandbox.families}
    assert families[minted.family_id].reuses == 0
    assert daemon.events("grant.lost") == []
