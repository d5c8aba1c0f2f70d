"""How the daemon behaves towards signals, other daemons and the service manager."""

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from refresher.sandbox import Minted, SandboxOptions, Slow
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world

IN_FLIGHT = 3.0
"""Seconds an exchange is kept waiting for its answer: a command ends meanwhile, also on a busy
machine."""


@dataclass(slots=True)
class Manager:
    """What systemd hears from the daemons it starts."""

    channel: socket.socket
    heard: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.channel.getsockname(), "WATCHDOG_USEC": "400000"}

    def hears(self, beginning: str, *, times: int = 1) -> bool:
        """Whether BEGINNING has come TIMES times since ``forget``."""
        while True:
            try:
                self.heard.append(self.channel.recv(4096).decode())
            except BlockingIOError:
                break
        return sum(message.startswith(beginning) for message in self.heard) >= times

    def forget(self) -> None:
        """Begin to listen anew."""
        self.hears("")
        self.heard.clear()


@pytest.fixture(scope="module")
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path_factory.mktemp("systemd") / "notify"))
        channel.setblocking(False)
        yield Manager(channel)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, canary: Canary, manager: Manager
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("manners")
    options = SandboxOptions(
        client_secret=canary.plant("client-secret"), access_token_lifetime=3600
    )
    with new_world(folder, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        world.daemon.start(environment=manager.environment)
        yield world


def hang_up(world: World) -> None:
    """SIGHUP to the daemon."""
    assert world.daemon.process is not None
    world.daemon.process.send_signal(signal.SIGHUP)


def import_fresh(world: World, name: str) -> Minted:
    """A grant whose first exchange is done."""
    minted = world.server.call(world.server.sandbox.mint)
    world.import_grants({"name": name, "client": "box", "refresh_token": minted.refresh_token})
    wait_until(lambda: world.token(name), description=f"{name} is published")
    return minted


def begin_slow_exchange(world: World, name: str, minted: Minted) -> None:
    """Let NAME wait for an answer after the server has rotated its refresh token."""
    before = exchanges(world, minted)
    slow = Slow(seconds=IN_FLIGHT, after_processing=True)
    world.server.call(world.server.sandbox.faults.enqueue, slow, family_id=minted.family_id)
    world.daemon.command("refresh", name)
    wait_until(lambda: exchanges(world, minted) > before, description="the exchange has begun")


def exchanges(world: World, minted: Minted) -> int:
    """Token requests of one grant, answered or not."""
    log = list(world.server.sandbox.log)
    return sum(record.family_id == minted.family_id for record in log)


@contextmanager
def settings_changed(world: World, addition: str) -> Iterator[None]:
    """ADDITION to the settings file while the block lasts."""
    before = world.daemon.config.read_text()
    world.daemon.config.write_text(before + addition)
    try:
        yield
    finally:
        world.daemon.config.write_text(before)


def await_event(world: World, event: str, *, after: int = 0) -> None:
    """EVENT is logged for the time number AFTER + 1."""
    wait_until(lambda: len(world.daemon.events(event)) > after, description=event)


def test_sigterm_waits_for_the_answer(world: World, manager: Manager) -> None:
    minted = import_fresh(world, "drained")
    before = world.token("drained")
    stopped = len(world.daemon.events("daemon.stopped"))
    begin_slow_exchange(world, "drained", minted)
    assert world.daemon.stop() == 0
    after = world.token("drained")
    assert int(after["version"]) > int(before["version"])
    assert after["access_token"] != before["access_token"]
    story = world.daemon.events("daemon.stopping", "exchange.succeeded", "daemon.stopped")
    assert [line["event"] for line in story[-3:]] == [
        "daemon.stopping",
        "exchange.succeeded",
        "daemon.stopped",
    ]
    assert story[-3]["count"] == 1
    assert len(world.daemon.events("daemon.stopped")) == stopped + 1
    instance = world.daemon.events("daemon.ready")[-1]["instance"]
    with world.valkey.client() as redis:
        assert redis.exists(f"refresher:daemon:{instance}") == 0

    world.daemon.start(environment=manager.environment)
    sent = exchanges(world, minted)
    wait_until(lambda: world.token("drained") == after, description="nothing was repeated")
    assert exchanges(world, minted) == sent


def test_sighup_adds_without_dropping(world: World) -> None:
    minted = import_fresh(world, "steady")
    before = world.token("steady")
    reloaded = len(world.daemon.events("settings.reloaded"))
    world.secret_file("added-grant.secret", world.server.refresh_tokens(1)[0])
    grant = "[grants.added]\nclient = 'second'\nrefresh_token = { file = 'added-grant.secret' }\n"
    with settings_changed(world, world.client("second") + grant):
        begin_slow_exchange(world, "steady", minted)
        sent = exchanges(world, minted)
        hang_up(world)
        # Whether the exchange still waits when this is through is the machine's affair.
        await_event(world, "settings.reloaded", after=reloaded)
        wait_until(lambda: world.token("added"), description="the new grant is fresh")
        wait_until(
            lambda: int(world.token("steady")["version"]) > int(before["version"]),
            description="the exchange in flight has ended well",
        )
        assert exchanges(world, minted) == sent
        assert world.daemon.events("settings.reloaded")[-1]["clients"] == 2


def test_a_broken_file_changes_nothing(world: World) -> None:
    import_fresh(world, "unmoved")
    before = world.token("unmoved")
    refused = len(world.daemon.events("settings.refused"))
    with settings_changed(world, "colour = 'red'\n"):
        hang_up(world)
        await_event(world, "settings.refused", after=refused)
        [problem] = world.daemon.events("settings.refused")[-1]["problems"]
        assert problem == f"{world.daemon.config}: clients.box.colour is no known key"
    world.daemon.command("refresh", "unmoved")
    wait_until(
        lambda: int(world.token("unmoved")["version"]) > int(before["version"]),
        description="the old settings are in force",
    )


def test_a_second_daemon_names_the_first(world: World) -> None:
    assert world.daemon.process is not None
    done = world.daemon.command("run", check=1)
    vault = world.daemon.folder / "refresher.db"
    pid = world.daemon.process.pid
    assert done.stderr == f"refresher: the vault {vault} is in use by process {pid}\n"
    assert world.daemon.process.poll() is None


def test_a_standby_takes_over_at_once(world: World, manager: Manager) -> None:
    minted = import_fresh(world, "inherited")
    before = world.token("inherited")
    waiting = len(world.daemon.events("daemon.stood_by"))
    standby = world.daemon.fork("run", "--standby", environment=manager.environment)
    await_event(world, "daemon.stood_by", after=waiting)
    assert world.daemon.process is not None
    assert world.daemon.events("daemon.stood_by")[-1]["pid"] == world.daemon.process.pid

    begin_slow_exchange(world, "inherited", minted)
    ready = world.daemon.ready_count()
    world.daemon.kill()
    world.daemon.process = standby
    await_event(world, "daemon.ready", after=ready)
    # The dead daemon's exchange rotated the refresh token and its answer is lost for good:
    # under strict rotation nobody can save that, but it must be said and must be repairable.
    wait_until(
        lambda: world.status("inherited")["state"] == "reauthorization_required",
        description="the loss is announced",
    )
    assert world.status("inherited")["reason"] == "rotation_lost:invalid_grant"
    assert world.status("inherited")["repair"].startswith("refresher login inherited; ")
    assert world.token("inherited") == before
    import_fresh(world, "after-takeover")


def test_systemd_hears_what_it_needs(world: World, manager: Manager) -> None:
    manager.forget()
    wait_until(lambda: manager.hears("WATCHDOG=1", times=3), description="the watchdog is fed")
    hang_up(world)
    wait_until(lambda: manager.hears("READY=1"), description="the reload has ended")
    [reloading] = [message for message in manager.heard if message.startswith("RELOADING=1\n")]
    assert reloading.partition("\nMONOTONIC_USEC=")[2].isdigit()
    assert manager.heard.index(reloading) < manager.heard.index("READY=1")

    manager.forget()
    assert world.daemon.stop() == 0
    assert manager.hears("STOPPING=1")
    assert not manager.hears("READY=1")

    manager.forget()
    world.daemon.start(environment=manager.environment)
    wait_until(lambda: manager.hears("READY=1"), description="READY")
    wait_until(lambda: manager.hears("STATUS=grants: "), description="STATUS")
