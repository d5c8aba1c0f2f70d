"""A new vault key where two daemons share the vault: real processes, a real PostgreSQL."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from refresher.cli.entry import Exit
from refresher.vault.sealing import Keyring
from tests.support.daemon import DaemonProcess
from tests.support.postgresql import PrivatePostgres
from tests.support.rotating_daemon import KEY_PLACES
from tests.support.waiting import wait_until
from tests.system.test_key_rotation import BAD, ask, await_one_key, die_at, keys_of
from tests.system.test_postgresql import add, another, in_database, is_intact, version
from tests.system.world import World

NAMES = [f"g{number}" for number in range(6)]

BATCHES = 8
"""Two writes for each of two new keys, two cells of each grant in batches of four, and the
fingerprint key."""


def put(file: Path, content: str) -> None:
    """Replace a key FILE as a whole, as whoever hands keys out does."""
    new = file.with_suffix(".new")
    new.touch(0o600)
    new.write_text(content)
    new.replace(file)


def await_refreshes(world: World) -> None:
    known = {name: version(world, name) for name in NAMES}
    wait_until(
        lambda: all(version(world, name) > known[name] for name in NAMES),
        description="everything is refreshed",
    )


def is_sealing(daemon: DaemonProcess, key: str) -> bool:
    [found] = [one for one in keys_of(daemon) if one["key"] == key]
    return bool(found["seals"])


def test_a_new_key_waits_for_every_replica(
    tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres
) -> None:
    """Each machine has a key file of its own, and somebody copies the new line by hand."""
    folder = tmp_path_factory.mktemp("one")
    with in_database(folder, postgres) as world:
        world.daemon.start()
        with another(world, tmp_path_factory.mktemp("two")) as other:
            minted = add(world, *NAMES)
            old = (folder / "refresher.key").read_text()
            told = world.daemon.command("vault", "rotate-key").stdout
            assert "(seals once every replica can read it): nothing" in told
            assert told.count("not in the key file of replica") == 1
            assert "rescue files of replicas that do not run" in told
            key = Keyring.load(folder / "refresher.key").ids[0].hex()
            wait_until(lambda: world.daemon.events("vault.key_waiting"), description="it is said")
            [about] = ask(other, "ping")
            [waiting] = world.daemon.events("vault.key_waiting")
            assert (waiting["key_id"], waiting["instance"]) == (key, about["instance"])
            await_refreshes(world)
            assert not is_sealing(world.daemon, key)
            put(other.folder / "refresher.key", (folder / "refresher.key").read_text())
            for daemon in (world.daemon, other):
                wait_until(
                    lambda daemon=daemon: is_sealing(daemon, key),  # type: ignore[misc]  # a lambda with a default
                    every=0.2,
                    description="the new key seals",
                )
                await_one_key(daemon)
            # By itself, and without a signal.
            assert other.events("secret.replaced")[0]["setting"] == "vault.key_file"
            await_refreshes(world)
            for daemon in (world.daemon, other):
                file = daemon.folder / "refresher.key"
                put(file, file.read_text().splitlines()[0] + "\n")
            await_refreshes(world)
            assert other.stop() == 0
            put(other.folder / "refresher.key", old)
            done = other.command("run", check=Exit.CONFIGURATION)
            assert f"{key} is in no line of the key file" in done.stderr
            for daemon in (world.daemon, other):
                assert daemon.events(*BAD) == []
            assert is_intact(world, minted)


def kill_at_each(
    tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres, places: Sequence[str]
) -> None:
    """The key file is on a volume of both, and both bring new keys in."""
    folder = tmp_path_factory.mktemp("one")
    with in_database(folder, postgres) as world:
        daemon, key_file = world.daemon, folder / "refresher.key"
        with another(world, tmp_path_factory.mktemp("two")) as other:
            assert other.stop() == 0
            (other.folder / "refresher.key").unlink()
            (other.folder / "refresher.key").symlink_to(key_file)
            other.start()
            minted = add(world, *NAMES)
            for place in places:
                before = key_file.read_text()
                die_at(daemon, place, other)
                assert key_file.read_text().endswith(before)
            daemon.start()
            for one in (daemon, other):
                await_one_key(one)
            put(key_file, key_file.read_text().splitlines()[0] + "\n")
            for one in (daemon, other):
                wait_until(lambda one=one: len(keys_of(one)) == 1, description="it is read")  # type: ignore[misc]  # a lambda with a default
            await_refreshes(world)
            assert daemon.stop() == 0
            await_refreshes(world)
            for one in (daemon, other):
                assert one.events(*BAD) == []
            assert is_intact(world, minted)


def test_kills_of_a_rotation_beside_another_replicas_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres
) -> None:
    kill_at_each(tmp_path_factory, postgres, ["after the key", "before 4"])


@pytest.mark.long
def test_a_kill_at_every_batch_beside_another_replicas_rotation_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, postgres: PrivatePostgres
) -> None:
    batches = [f"{when} {n}" for n in range(1, BATCHES + 1) for when in ("before", "after")]
    kill_at_each(tmp_path_factory, postgres, [*KEY_PLACES, *batches])
