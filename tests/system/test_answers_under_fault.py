"""Everything in flight when the machine fails, then ``kill -9``: what had come is not lost.

The faults are those of ``faulty_daemon``; ``tests/foreign`` has them below Python.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.in_flight import InFlight, in_flight
from tests.support.waiting import PATIENCE, wait_until


@pytest.fixture
def faults(tmp_path: Path) -> Path:
    folder = tmp_path / "faults"
    folder.mkdir()
    return folder


@pytest.fixture
def flight(tmp_path: Path, faults: Path) -> Iterator[InFlight]:
    def start(daemon: DaemonProcess) -> None:
        ready = daemon.ready_count()
        daemon.start_faulty(faults)
        wait_until(lambda: daemon.ready_count() > ready, description="it is ready")

    with in_flight(tmp_path, start) as flight:
        flight.open_exchanges()
        yield flight


@pytest.mark.parametrize("fault", ["hang", pytest.param("full", marks=pytest.mark.long)])
def test_a_disk_that_fails_costs_no_answer(flight: InFlight, faults: Path, fault: str) -> None:
    (faults / fault).touch()
    flight.await_answers(0.1)
    flight.await_unready()
    flight.kill_and_see_nothing_lost(faults / fault)


@pytest.mark.long
def test_threads_that_cannot_start_cost_nobody_anything(flight: InFlight, faults: Path) -> None:
    (faults / "threads").touch()
    flight.await_published(newer=True)
    flight.daemon.hang_up()
    wait_until(lambda: flight.daemon.events("settings.refused"), description="settings.refused")
    assert flight.daemon.command("health", "--ready").stdout == "ok\n"
    flight.kill()
    (faults / "threads").unlink()
    flight.start()
    flight.await_settled()
    assert flight.lost() == set()


@pytest.mark.long
def test_names_that_hang_cost_nobody_else_anything(tmp_path: Path, faults: Path) -> None:
    """Eight endpoints wait for their names while 64 other exchanges, by name too, are out."""
    hanging = [f"hanging{number}" for number in range(8)]
    (faults / "names").touch()

    def start(daemon: DaemonProcess) -> None:
        ready = daemon.ready_count()
        daemon.start_faulty(faults)
        wait_until(lambda: daemon.ready_count() > ready, description="it is ready")

    with in_flight(tmp_path, start, host="localhost", others=hanging) as flight:
        lines = [{"name": name, "client": name, "refresh_token": f"RT-{name}"} for name in hanging]
        flight.daemon.command("import", "-", text="\n".join(map(json.dumps, lines)))
        flight.open_exchanges()
        flight.await_answers(0.1)
        assert flight.daemon.command("health", "--ready").stdout == "ok\n"
        flight.kill_and_see_nothing_lost(faults / "names")


def test_one_damaged_row_costs_nobody_else_anything(flight: InFlight) -> None:
    flight.change_row("strict-3", "labels", "{")
    flight.change_row("strict-3", "refused_at", "{")  # else the answer is stored without a look
    others = [name for name in flight.names.values() if name != "strict-3"]
    flight.await_published(*others, newer=True)
    daemon = flight.daemon
    wait_until(lambda: daemon.events("grant.set_aside"), description="the row is set aside")
    assert [line["grant"] for line in daemon.events("grant.set_aside")] == ["strict-3"]
    assert daemon.command("health", "--ready").stdout == "ok\n"
    wait_until(lambda: daemon.events("answer.rescued"), description="the rescue")
    flight.kill()
    flight.start()
    flight.change_row("strict-3", "refused_at", None)
    flight.change_row("strict-3", "labels", "{}")
    daemon.stop()
    flight.start()
    flight.await_settled()
    flight.await_published(newer=True)
    assert flight.lost() == set()


def test_a_stalled_daemon_ends_itself_once_nothing_can_be_lost(
    flight: InFlight, faults: Path
) -> None:
    daemon = flight.daemon
    assert daemon.stop() == 0  # what was in flight is durable
    flight.await_settled()
    (faults / "stalled_after").write_text("6")
    flight.start()
    (faults / "hang").touch()
    rejected = flight.version("strict-0")
    with flight.valkey.client() as redis:
        redis.set("refresher:rejected:strict-0", rejected, ex=300)
    assert daemon.process is not None
    assert daemon.process.wait(timeout=PATIENCE) == 70
    [told] = daemon.events("daemon.stalled")
    assert (told["count"], told["level"]) == (0, "error")
    (faults / "hang").unlink()
    (faults / "stalled_after").unlink()
    flight.start()
    flight.await_published()
    assert flight.lost() == set()


@pytest.mark.long
def test_a_daemon_whose_disk_hangs_can_be_stopped(flight: InFlight, faults: Path) -> None:
    """Not for ever, and what came is in the rescue file."""
    config = flight.daemon.config
    config.write_text(config.read_text() + "\n[daemon]\nshutdown_deadline = 6\n")
    daemon = flight.daemon
    flight.await_published(newer=True)
    assert daemon.stop() == 0
    flight.start()
    (faults / "hang").touch()
    flight.await_unready()
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(timeout=PATIENCE) == 0
    (faults / "hang").unlink()
    flight.start()
    assert flight.lost() == set()
