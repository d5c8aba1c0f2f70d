"""A new vault key on real processes: killed at every step, with exchanges and a rotation beside."""

import json
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from refresher.errors import RefresherError
from refresher.ops.control_client import ControlClient
from refresher.settings.loading import load
from refresher.settings.secret_places import Needed
from refresher.vault.opening import open_vault
from refresher.vault.sealing import Keyring
from tests.support.daemon import DaemonProcess
from tests.support.forked import FORKS
from tests.support.rig import Rig
from tests.support.rotating_daemon import KEY_PLACES, run_rotating
from tests.support.waiting import wait_until
from tests.vault.sealed import age

GRANTS = 12
BATCHES = 11
"""For each of two new keys one write around the key file, and one that lets it seal. Then two
cells of each grant in batches of four, and the fingerprint key."""

BAD = (
    *("grant.lost", "grant.paused", "grant.set_aside", "vault.unopened", "vault.key_missing"),
    "task.restarted",
)
"""What no kill may lead to."""


@contextmanager
def rig_of(folder: Path) -> Iterator[Rig]:
    """A dozen grants, refreshed every few seconds by a server that rotates."""
    options = {"rotation": "grace", "grace_seconds": 30, "access_token_lifetime": 4.0}
    with Rig(folder, rotation="grace(30)", more="concurrency = 16", server=options) as rig:
        rig.daemon.start()
        rig.import_grants(GRANTS)
        rig.await_all_fresh()
        yield rig


def ask(daemon: DaemonProcess, *operations: str) -> list[Any]:
    """What the daemon answers to OPERATIONS, asked for at once; nothing if it dies meanwhile."""
    client = ControlClient(load(daemon.config, needed=Needed.NONE).settings.control.socket)
    answers: list[Any] = []

    async def call(operation: str) -> None:
        with suppress(RefresherError):
            answers.append(await client.call(operation))

    async def call_all() -> None:
        async with anyio.create_task_group() as tasks:
            for operation in operations:
                tasks.start_soon(call, operation)

    anyio.run(call_all)
    return answers


def keys_of(daemon: DaemonProcess) -> list[dict[str, Any]]:
    """What a running daemon tells of each key."""
    [answer] = ask(daemon, "key_status")
    keys: list[dict[str, Any]] = answer["keys"]
    return keys


def await_one_key(daemon: DaemonProcess) -> None:
    """Return when everything is under the first line, in the newest format."""

    def is_done() -> bool:
        newest, *others = keys_of(daemon)
        return newest["first_format"] == 0 and all(key["can_go"] for key in others)

    wait_until(is_done, every=0.1, description="everything is under the first line")


def die_at(daemon: DaemonProcess, place: str, other: DaemonProcess | None = None) -> None:
    """Have a daemon die at PLACE: of an unfinished rotation, or of one asked for twice at once.

    Args:
        other: a replica that is asked for a new key beside it.
    """

    def rotate_beside() -> bool:
        ask(daemon, "rotate_key", "rotate_key")
        if other is not None:
            ask(other, "rotate_key")
        return False

    ready = daemon.ready_count()
    process = FORKS.Process(target=run_rotating, args=(daemon.config, place, daemon.log))
    process.start()
    try:
        wait_until(
            lambda: daemon.ready_count() > ready or not process.is_alive(),
            description="the daemon is ready, or dead",
        )
        # Exchanges seal anew, too: a rotation may have fewer batches left than there were.
        wait_until(
            lambda: not process.is_alive() or rotate_beside(),
            every=1.0,
            description=f"{place} is reached",
        )
        process.join()
        assert process.exitcode == -signal.SIGKILL
    finally:
        process.kill()
        process.join()


def kill_at_each(folder: Path, places: Sequence[str]) -> None:
    """Rotate with a kill at each of PLACES; in the end the newest line alone opens everything."""
    with rig_of(folder) as rig:
        daemon, key_file = rig.daemon, folder / "refresher.key"
        assert daemon.stop() == 0
        for place in (*KEY_PLACES, *places):
            before = key_file.read_text()
            die_at(daemon, place)
            assert key_file.read_text().endswith(before)
            Keyring.load(key_file)
        daemon.start()
        await_one_key(daemon)
        lines = key_file.read_text().splitlines()
        assert len(lines) > len(KEY_PLACES)
        key_file.write_text(lines[0] + "\n")
        daemon.hang_up()
        wait_until(lambda: daemon.events("settings.reloaded"), description="SIGHUP is heard")
        rig.await_all_fresh()
        daemon.kill()
        daemon.start()
        rig.await_all_fresh()
        assert daemon.stop() == 0
        assert daemon.events(*BAD) == []
        assert rig.lost() == 0


def test_kills_during_a_rotation_lose_nothing(tmp_path: Path) -> None:
    kill_at_each(tmp_path, ["before 1", "after 3", f"before {BATCHES}"])


@pytest.mark.long
def test_a_kill_at_every_batch_of_a_rotation_loses_nothing(tmp_path: Path) -> None:
    numbers = range(1, BATCHES + 1)
    kill_at_each(tmp_path, [f"{when} {n}" for n in numbers for when in ("before", "after")])


async def make_old(folder: Path) -> None:
    """Leave the vault in FOLDER as an earlier version would have."""
    vault = await open_vault(folder / "refresher.db", folder / "refresher.key")
    try:
        await age(vault)
    finally:
        vault.close()


def test_kills_while_an_old_vault_is_brought_over_lose_nothing(tmp_path: Path) -> None:
    with rig_of(tmp_path) as rig:
        daemon = rig.daemon
        assert daemon.stop() == 0
        anyio.run(make_old, tmp_path)
        for place in ("after 1", "before 2"):
            die_at(daemon, place)
        daemon.start()
        await_one_key(daemon)
        rig.await_all_fresh()
        key, *_ = keys_of(daemon)
        assert key["sealed"]["grants"] == GRANTS
        assert daemon.stop() == 0
        assert daemon.events(*BAD) == []
        assert rig.lost() == 0


def rotate(daemon: DaemonProcess) -> dict[str, Any]:
    """What ``vault rotate-key`` tells, all being under the new key when it ends."""
    told: dict[str, Any] = json.loads(daemon.command("vault", "rotate-key", "--json").stdout)
    newest, *others = told["keys"]
    assert (newest["key"], newest["sealed"]["grants"]) == (told["key"], GRANTS)
    assert all(key["can_go"] for key in others)
    return told


def test_a_rotation_with_a_standby_and_without_a_daemon(tmp_path: Path) -> None:
    with rig_of(tmp_path) as rig:
        daemon = rig.daemon
        active = daemon.process
        daemon.process = standby = daemon.fork("run", "--standby")
        wait_until(lambda: daemon.events("daemon.stood_by"), description="a standby")
        rotate(daemon)
        assert active is not None
        active.kill()
        active.wait()
        wait_until(lambda: daemon.ready_count() == 2, description="the standby is ready")
        rig.await_all_fresh()
        assert daemon.stop() == 0
        assert standby.returncode == 0
        told = rotate(daemon)
        shown = daemon.command("vault", "key-status").stdout
        assert f"line 1, key {told['key']} (seals): {GRANTS} grants, 1 vault" in shown
        assert shown.count("this line can go, unless a backup needs it") == 2
        assert "not seen from here: backups" in shown
        assert daemon.events(*BAD) == []
