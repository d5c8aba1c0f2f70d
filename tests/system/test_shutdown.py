"""The end of a daemon under fault: nothing in hand is lost, however impatient the world is."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from refresher.sandbox import Minted, SandboxOptions, Slow
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

DEADLINE = 1.5
"""Seconds the daemon is told to wait for its exchanges."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A daemon with one grant, at a server that rotates with a grace window."""
    canary = Canary()
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), rotation="grace", grace_seconds=60
    )
    with new_world(tmp_path, canary, options) as world:
        client = world.client("box").replace('"strict"', '"grace(60)"')
        section = f"[daemon]\nshutdown_deadline = {DEADLINE}\n"
        world.daemon.prepare(redis_url=world.valkey.url, clients=client + section)
        world.daemon.start()
        yield world


def begin_slow_exchange(world: World, seconds: float) -> tuple[Minted, int]:
    """A grant, and its version, whose next answer the server holds back for SECONDS."""
    minted = world.server.call(world.server.sandbox.mint)
    world.import_grants({"name": "g", "client": "box", "refresh_token": minted.refresh_token})
    wait_until(lambda: world.token("g"), description="g is published")
    version, sent = int(world.token("g")["version"]), len(world.server.sandbox.log)
    slow = Slow(seconds=seconds, after_processing=True)
    world.server.call(world.server.sandbox.faults.enqueue, slow)
    world.daemon.command("refresh", "g")
    wait_until(lambda: len(world.server.sandbox.log) > sent, description="a request")
    return minted, version


def is_renewed(world: World, version: int) -> bool:
    return int(world.token("g").get("version", 0)) > version


def reuses(world: World, minted: Minted) -> int:
    families = {family.family_id: family for family in world.server.sandbox.families}
    return families[minted.family_id].reuses


def test_impatience_gives_up_nothing(world: World) -> None:
    """SIGTERM three times and SIGINT: the answer is waited for, committed and published."""
    minted, version = begin_slow_exchange(world, 1.2)
    daemon = world.daemon.process
    assert daemon is not None
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        daemon.send_signal(number)
        time.sleep(0.1)
        assert daemon.poll() is None
    assert daemon.wait(20) == 0
    assert is_renewed(world, version)
    told = [line.get("signal") for line in world.daemon.events("daemon.stopping")]
    assert told == [None, "SIGTERM", "SIGINT", "SIGTERM"]
    world.daemon.start()
    wait_until(lambda: world.token("g"), description="g is published")
    assert reuses(world, minted) == 0
    assert world.daemon.events("exchange.resumed") == []


def test_a_kill_after_the_deadline_costs_no_grant(world: World) -> None:
    """As a service manager does to a daemon whose server does not answer in time."""
    minted, version = begin_slow_exchange(world, 6.0)
    daemon = world.daemon.process
    assert daemon is not None
    daemon.terminate()
    time.sleep(DEADLINE + 0.5)
    assert daemon.poll() is None, "the answer may hold the only good refresh token"
    world.daemon.kill()
    world.daemon.start()
    wait_until(lambda: is_renewed(world, version), description="the replay")
    assert len(world.daemon.events("exchange.resumed")) == 1
    assert world.daemon.events("grant.lost") == []
    assert reuses(world, minted) == 0, "the replay came inside the grace window"


@pytest.mark.long  # a locked vault is waited for long; engine.test_recovery is the short form
def test_an_answer_the_vault_refuses_to_the_end_outlives_it(world: World) -> None:
    """The deadline passes with the answer in hand: the rescue file has it."""
    minted, version = begin_slow_exchange(world, 0.5)
    daemon = world.daemon.process
    assert daemon is not None
    vault = world.daemon.folder / "refresher.db"
    with closing(sqlite3.connect(vault, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        wait_until(lambda: world.daemon.events("answer.rescued"), description="the rescue")
        daemon.terminate()
        daemon.wait(30)
        other.execute("ROLLBACK")
    world.daemon.start()
    wait_until(lambda: is_renewed(world, version), description="the rescued token")
    adopted = [line["outcome"] for line in world.daemon.events("answer.rescued")]
    assert adopted == ["rescued", "apply"]
    assert reuses(world, minted) == 0
