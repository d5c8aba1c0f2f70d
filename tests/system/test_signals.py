"""SIGHUP and SIGTERM are safe from the first moment of a process to its last."""

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

import pytest

from refresher.sandbox import SandboxOptions, Slow
from tests.canary import Canary
from tests.support.waiting import PATIENCE, wait_until
from tests.system.world import World, new_world

LONG = 2 * PATIENCE
"""Seconds of a command that nobody may wait for."""

HUNG_UP = 1 << (signal.SIGHUP - 1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    canary = Canary()
    options = SandboxOptions(client_secret=canary.plant("client-secret"))
    with new_world(tmp_path, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        yield world


def has_begun(process: subprocess.Popen[Any]) -> bool:
    """Whether the first line of ours has run: SIGHUP is blocked or caught (proc(5))."""
    masks = dict.fromkeys(("SigBlk", "SigCgt"), 0)
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in masks:
                masks[name] = int(value, 16)
    return any(mask & HUNG_UP for mask in masks.values())


def has_loaded(process: subprocess.Popen[bytes]) -> bool:
    """Whether a library is in its memory."""
    with suppress(OSError):
        return "site-packages" in Path(f"/proc/{process.pid}/maps").read_text()
    return False


def began(world: World, *arguments: str) -> subprocess.Popen[bytes]:
    """A daemon just started."""
    process = world.daemon.process = world.daemon.spawn("run", *arguments)
    wait_until(
        lambda: has_begun(process) or has_loaded(process),
        description="it runs",
        every=0.001,
    )
    assert has_begun(process), "it loads libraries and has no hand on its signals"
    return process


def test_a_hang_up_kills_at_no_moment(world: World) -> None:
    """From the first line of ours to the last, in start, work, drain and end."""
    process = began(world)
    is_over = Event()

    def hang_up() -> None:
        while not is_over.wait(0.005) and process.poll() is None:
            process.send_signal(signal.SIGHUP)

    thread = Thread(target=hang_up)
    thread.start()
    try:
        wait_until(world.daemon.ready_count, description="ready")
        wait_until(
            lambda: len(world.daemon.events("settings.reloaded")) > 1,
            description="reloads",
        )
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        is_over.set()
        thread.join()
    assert world.daemon.events("daemon.stopped")


def test_a_hang_up_during_the_start_is_carried_out_after_it(world: World) -> None:
    process = began(world)
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: world.daemon.events("settings.reloaded"), description="the reload")


def at_its_first_line(world: World) -> None:
    began(world)


def while_a_secret_is_asked_for(world: World) -> None:
    config = world.daemon.config
    asked = world.daemon.folder / "asked"
    command = f'{{ command = ["sh", "-c", "touch {asked}; exec sleep {LONG}"] }}'
    config.write_text(config.read_text().replace('{ file = "box.secret" }', command))
    world.daemon.start(wait=False)
    wait_until(asked.exists, description="the command runs")


def when_it_has_started(world: World) -> None:
    world.daemon.start(wait=False)
    wait_until(lambda: world.daemon.events("daemon.started"), description="started", every=0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
@pytest.mark.parametrize(
    "moment", [at_its_first_line, while_a_secret_is_asked_for, when_it_has_started]
)
def test_a_stop_ends_a_start(
    world: World, moment: Callable[[World], None], number: signal.Signals
) -> None:
    moment(world)
    assert world.daemon.process is not None
    world.daemon.process.send_signal(number)
    assert world.daemon.process.wait(PATIENCE) == 0, "it waits for no command"
    assert "Traceback" not in world.daemon.log.read_text()
    assert not world.daemon.ready_count()


def test_a_standby_hears_signals(world: World) -> None:
    """A hang-up makes it read the settings that it will begin with, broken ones excepted."""
    world.daemon.start()
    active = world.daemon.process
    assert active is not None
    standby = world.daemon.fork("run", "--standby")
    try:
        wait_until(lambda: world.daemon.events("daemon.stood_by"), description="standby")
        before = world.daemon.config.read_text()
        world.daemon.config.write_text(before + "colour = 'red'\n")
        standby.send_signal(signal.SIGHUP)
        wait_until(lambda: world.daemon.events("settings.refused"), description="refused")
        world.daemon.config.write_text(before + world.client("second"))
        standby.send_signal(signal.SIGHUP)
        wait_until(lambda: world.daemon.events("settings.reloaded"), description="reloaded")
        assert world.daemon.events("settings.reloaded")[0]["clients"] == 2
        active.terminate()
        assert active.wait(PATIENCE) == 0
        world.daemon.process = standby
        wait_until(lambda: world.daemon.ready_count() == 2, description="ready")
        minted = world.server.call(world.server.sandbox.mint)
        world.import_grants(
            {"name": "g", "client": "second", "refresh_token": minted.refresh_token}
        )
        another = world.daemon.fork("run", "--standby")
        wait_until(
            lambda: len(world.daemon.events("daemon.stood_by")) == 2,
            description="another standby",
        )
        another.terminate()
        assert another.wait(PATIENCE) == 0
    finally:
        if standby.poll() is None and world.daemon.process is not standby:
            standby.kill()


def test_a_start_that_hangs_in_the_disk_can_be_stopped(world: World) -> None:
    """A commit never returns: the process ends all the same, for it has sent nothing."""
    faults = world.daemon.folder / "faults"
    faults.mkdir()
    (faults / "hang").touch()
    world.daemon.start_faulty(faults)
    assert world.daemon.process is not None
    wait_until(lambda: world.daemon.events("daemon.started"), description="started")
    world.daemon.process.terminate()
    assert world.daemon.process.wait(PATIENCE) == 0


def began_in_background(world: World) -> subprocess.Popen[bytes]:
    """A command as a shell starts it with ``&``: it inherits that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return world.daemon.spawn("refresh", "g")
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
@pytest.mark.parametrize("in_background", [False, True], ids=["", "&"])
def test_a_command_commits_its_exchange_first(
    world: World, number: signal.Signals, *, in_background: bool
) -> None:
    """Without a daemon the command itself holds the answer, perhaps the only one."""
    minted = world.server.call(world.server.sandbox.mint)
    world.import_grants({"name": "g", "client": "box", "refresh_token": minted.refresh_token})
    sent = len(world.server.sandbox.log)
    slow = Slow(seconds=5.0, after_processing=True)
    world.server.call(world.server.sandbox.faults.enqueue, slow)
    command = began_in_background(world) if in_background else world.daemon.fork("refresh", "g")
    wait_until(lambda: len(world.server.sandbox.log) > sent, description="a request")
    command.send_signal(number)
    assert command.wait(PATIENCE) == 130
    with closing(sqlite3.connect(world.daemon.folder / "refresher.db")) as vault:
        assert vault.execute("SELECT adopted_sequence, state FROM grants").fetchall() == [
            (1, "fresh")
        ]


@pytest.mark.long  # the short form are the moments above
def test_a_stop_at_any_moment(world: World) -> None:
    """Forty starts, each ended after some time by chance; the vault is whole after all of them."""
    chance = Random(8)  # noqa: S311  moments, not secrets
    minted = world.server.call(world.server.sandbox.mint)
    world.import_grants({"name": "g", "client": "box", "refresh_token": minted.refresh_token})
    for _ in range(40):
        process = began(world)
        time.sleep(chance.uniform(0, 3))
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
            time.sleep(chance.uniform(0, 0.05))
        assert process.wait(PATIENCE) == 0
    world.daemon.start()
    states = json.loads(world.daemon.command("status", "--json").stdout)
    assert "fresh" in json.dumps(states)
    assert world.daemon.events("exchange.resumed", "grant.lost") == []
