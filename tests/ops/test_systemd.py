"""sd_notify over real datagram sockets."""

import io
import json
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from refresher.errors import SettingsError
from refresher.ops.systemd import Notifier
from tests.support.waiting import PATIENCE, eventually


class Manager:
    """The service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address.replace("@", "\0", 1))
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, folder: Path) -> Iterator[Manager]:
    by_path = request.param == "path"
    address = str(folder / "notify") if by_path else f"@refresher-{secrets.token_hex(8)}"
    made = Manager(address)
    yield made
    made.socket.close()


def notifier(address: str | None, watchdog_usec: str | None = None) -> Notifier:
    return Notifier(address, watchdog_usec, monotonic=lambda: 12.5)


def test_every_state_is_told_in_systemds_words(manager: Manager) -> None:
    sut = notifier(manager.address)
    sut.ready()
    sut.reloading()
    sut.status("3 grants,\nREADY=0 1 degraded ")
    sut.extend_timeout(7.5)
    sut.stopping()
    assert manager.heard() == [
        "READY=1",
        "RELOADING=1\nMONOTONIC_USEC=12500000",
        "STATUS=3 grants, READY=0 1 degraded",
        "EXTEND_TIMEOUT_USEC=7500000",
        "STOPPING=1",
    ]


@pytest.mark.parametrize("address", [None, ""], ids=["unset", "empty"])
async def test_without_a_socket_nothing_happens(
    address: str | None, log_output: io.StringIO
) -> None:
    sut = notifier(address, "1000")
    sut.ready()
    with anyio.fail_after(PATIENCE):
        await sut.feed_watchdog()
    assert log_output.getvalue() == ""


async def test_without_an_interval_nothing_is_fed(manager: Manager) -> None:
    with anyio.fail_after(PATIENCE):
        await notifier(manager.address).feed_watchdog()
    assert manager.heard() == []


async def test_the_watchdog_is_fed_twice_an_interval(manager: Manager) -> None:
    interval = 0.1
    fed: list[str] = []

    def has_been_fed_often() -> bool:
        fed.extend(manager.heard())
        return len(fed) > 10

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(notifier(manager.address, str(int(interval * 1e6))).feed_watchdog)
        took = await eventually(has_been_fed_often, "the watchdog is fed")
        tasks.cancel_scope.cancel()
    assert set(fed) == {"WATCHDOG=1"}
    assert took > (len(fed) - 2) * interval / 2


async def test_a_standing_loop_starves_the_watchdog(manager: Manager) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(notifier(manager.address, "2000").feed_watchdog)
        await eventually(manager.heard, "the first word")
        time.sleep(0.05)  # noqa: ASYNC251  it is the point
        assert len(manager.heard()) <= 1
        await eventually(lambda: "WATCHDOG=1" in manager.heard(), "the watchdog is fed")
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("value", ["", "0", "-5", "1.5", "soon"])
def test_a_bad_interval_is_named(value: str) -> None:
    with pytest.raises(SettingsError, match="WATCHDOG_USEC"):
        notifier("/run/systemd/notify", value)


def test_a_lost_manager_is_reported_once(folder: Path, log_output: io.StringIO) -> None:
    address = str(folder / "notify")
    sut = notifier(address)
    sut.ready()
    sut.stopping()
    (line,) = map(json.loads, log_output.getvalue().splitlines())
    assert (line["event"], line["path"]) == ("supervisor.lost", address)
    manager = Manager(address)
    sut.ready()
    assert manager.heard() == ["READY=1"]
    manager.socket.close()
    sut.ready()
    assert len(log_output.getvalue().splitlines()) == 2


def test_a_full_queue_does_not_hold_the_loop(manager: Manager, log_output: io.StringIO) -> None:
    sut = notifier(manager.address)
    while not log_output.getvalue():
        sut.ready()
    assert json.loads(log_output.getvalue())["event"] == "supervisor.lost"
    assert set(manager.heard()) == {"READY=1"}
