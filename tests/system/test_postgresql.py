"""A daemon whose vault is in PostgreSQL, and two of them on one: real processes, real server."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refresher.sandbox import Minted, SandboxOptions, Slow
from tests.canary import Canary
from tests.support.daemon import DaemonProcess
from tests.support.postgresql import PrivatePostgres, private_postgres
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

LIFETIME = 4.0
"""Seconds an access token lives: refreshes come by themselves."""


@pytest.fixture
def world(tmp_path: Path, postgres: PrivatePostgres) -> Iterator[World]:
    """A daemon to be started, and a database without a table."""
    with in_database(tmp_path, postgres) as world:
        yield world


@contextmanager
def in_database(folder: Path, postgres: PrivatePostgres) -> Iterator[World]:
    with in_file(folder) as world:
        to_database(world, postgres.url(postgres.new_database()))
        yield world


@contextmanager
def in_file(folder: Path) -> Iterator[World]:
    canary = Canary()
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=LIFETIME
    )
    with new_world(folder, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        yield world


def to_database(world: World, url: str) -> None:
    """Have the settings name the database of URL."""
    path = 'path = "refresher.db"'
    settings = world.daemon.config.read_text()
    world.daemon.config.write_text(settings.replace(path, f'{path}\nurl = "{url}"'))


def add(world: World, *names: str) -> dict[str, Minted]:
    """Grants of these NAMES, published."""
    minted = {name: world.server.call(world.server.sandbox.mint) for name in names}
    world.import_grants(
        *(
            {"name": name, "client": "box", "refresh_token": each.refresh_token}
            for name, each in minted.items()
        )
    )
    wait_until(lambda: all(map(world.token, names)), description="they are published")
    return minted


def version(world: World, name: str) -> int:
    return int(world.token(name).get("version", 0))


def is_intact(world: World, minted: dict[str, Minted]) -> bool:
    """Whether no refresh token was presented twice."""
    families = {family.family_id: family for family in world.server.sandbox.families}
    return all(families[each.family_id].reuses == 0 for each in minted.values())


def test_a_daemon_refreshes_and_publishes(world: World) -> None:
    daemon = world.daemon
    daemon.start()
    minted = add(world, "g")
    first = version(world, "g")
    wait_until(lambda: version(world, "g") > first, description="it is refreshed")
    assert daemon.stop() == 0
    [opened] = daemon.events("vault.opened")
    assert opened["vault"].startswith("postgresql://127.0.0.1:")
    assert not (daemon.folder / "refresher.db").exists()
    assert "g" in daemon.command("status").stdout
    assert daemon.command("refresh", "g").stdout == "g: done\n"
    assert is_intact(world, minted)
    done = daemon.command("vault", "backup", str(daemon.folder / "copy"), check=1)
    assert "pg_dump" in done.stderr
    done = daemon.command("vault", "restore", str(daemon.folder / "copy"), check=1)
    assert "pg_restore" in done.stderr
    daemon.command("vault", "rotate-key")
    assert "line 1" in daemon.command("vault", "key-status").stdout


@contextmanager
def another(world: World, folder: Path) -> Iterator[DaemonProcess]:
    """A second daemon on the same vault, with files of its own; it is started."""
    other = DaemonProcess(folder)
    for name in ("refresher.toml", "refresher.key", "box.secret"):
        shutil.copy2(world.daemon.folder / name, folder / name)
    try:
        other.start()
        yield other
    finally:
        if other.process is not None and other.process.poll() is None:
            other.kill()


def test_two_daemons_share_the_work(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """And what one of them has left under way when it is killed, the other takes over."""
    world.daemon.start()
    with another(world, tmp_path_factory.mktemp("other")) as other:
        names = [f"g{number}" for number in range(12)]
        minted = add(world, *names)
        both = (world.daemon, other)
        wait_until(
            lambda: all(len(each.events("exchange.succeeded")) > 6 for each in both),
            description="each has a part of the work",
        )
        assert is_intact(world, minted)
        slow = Slow(seconds=3.0, after_processing=True)
        for _ in names:
            world.server.call(world.server.sandbox.faults.enqueue, slow)
        sent = len(world.server.sandbox.log)
        wait_until(lambda: len(world.server.sandbox.log) >= sent + 8, description="most are out")
        known = {name: version(world, name) for name in names}
        other.kill()
        wait_until(lambda: world.daemon.events("replica.gone"), description="it is missed")
        [gone] = world.daemon.events("replica.gone")
        assert gone["reason"] == "connection_lost"
        wait_until(lambda: world.daemon.events("replica.taken_over"), description="taken over")
        # An answer that died with it was the only good one: that is known, and told.
        wait_until(
            lambda: all(
                version(world, name) > known[name]
                or world.status(name)["state"] == "reauthorization_required"
                for name in names
            ),
            description="every grant is kept on by the one that lives, or known to be lost",
        )


def test_a_server_that_dies_is_an_outage_and_loses_nothing(tmp_path: Path) -> None:
    with private_postgres() as postgres, in_database(tmp_path, postgres) as world:
        daemon = world.daemon
        daemon.start()
        minted = add(world, "g")
        slow = Slow(seconds=1.0, after_processing=True)
        world.server.call(world.server.sandbox.faults.enqueue, slow)
        before, sent = version(world, "g"), len(world.server.sandbox.log)
        wait_until(lambda: len(world.server.sandbox.log) > sent, description="a request is out")
        postgres.kill()
        wait_until(lambda: daemon.events("answer.rescued"), description="the answer is rescued")
        assert [line["outcome"] for line in daemon.events("answer.rescued")] == ["rescued"]
        sent = len(world.server.sandbox.log)
        done = daemon.command("health", "--ready", check=1)
        assert done.stderr == "the vault cannot be written\n"
        assert daemon.command("health").stdout == "ok\n"
        wait_until(lambda: not world.token("g"), description="the token ends")
        assert len(world.server.sandbox.log) == sent
        postgres.start()
        wait_until(lambda: version(world, "g") > before, description="it goes on by itself")
        [refused] = daemon.events("vault.refused")
        assert "database" in refused["reason"]
        wait_until(lambda: daemon.events("vault.recovered"), description="it is told")
        assert is_intact(world, minted)
        # One that restarts between two writes is met by nobody who sends.
        postgres.signal(signal.SIGINT)
        assert postgres.process is not None
        postgres.process.wait()
        postgres.start()
        known = version(world, "g")
        wait_until(lambda: version(world, "g") > known, description="and on")
        assert is_intact(world, minted)


def test_an_installation_moves(tmp_path: Path, postgres: PrivatePostgres) -> None:
    with in_file(tmp_path) as world:
        daemon = world.daemon
        daemon.start()
        minted = add(world, "g", "h")
        url = postgres.url(postgres.new_database())
        file = f"sqlite:///{daemon.folder}/refresher.db"
        done = daemon.command("vault", "copy", file, url, check=1)
        assert "stop the daemon first" in done.stderr
        done = daemon.command("vault", "copy", file, url.replace("@", ":pw@"), check=1)
        assert "a password on the command line" in done.stderr
        assert daemon.stop() == 0
        in_a_file = daemon.config.read_text()
        to_database(world, url)
        done = daemon.command("vault", "copy")
        assert done.stdout.startswith("postgresql://127.0.0.1:")
        assert "each compared" in done.stdout
        known = {name: version(world, name) for name in minted}
        daemon.start()
        wait_until(
            lambda: all(version(world, name) > known[name] for name in minted),
            description="it goes on from there",
        )
        assert daemon.stop() == 0
        daemon.config.write_text(in_a_file)
        assert "was moved into a database" in daemon.command("run", check=1).stderr
        to_database(world, url)
        daemon.start()
        assert is_intact(world, minted)
