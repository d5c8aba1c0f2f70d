"""The disk, and the system's threads, fail below Python and SQLite: what had come is not lost."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import DaemonProcess
from tests.support.in_flight import InFlight, in_flight
from tests.support.waiting import wait_until

pytestmark = pytest.mark.foreign

SOURCE = Path(__file__).with_name("disk_faults.c")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faults, compiled; without a compiler these tests fail."""
    made = tmp_path_factory.mktemp("faults") / "disk_faults.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
    subprocess.run(["cc", *flags, "-o", made, SOURCE, "-ldl"], check=True)  # noqa: S607  whichever there is
    return made


@pytest.fixture
def faults(tmp_path: Path) -> Path:
    folder = tmp_path / "faults"
    folder.mkdir()
    return folder


@pytest.fixture
def flight(tmp_path: Path, faults: Path, library: Path) -> Iterator[InFlight]:
    environment = {
        "LD_PRELOAD": str(library),
        "FAULTS": str(faults),
        "FAULTY": f"{tmp_path}/refresher.db",
    }

    def start(daemon: DaemonProcess) -> None:
        # Not forked: the faults come with the start of a process.
        seen = daemon.ready_count()
        daemon.process = daemon.spawn("run", environment=environment)
        wait_until(lambda: daemon.ready_count() > seen, description="the daemon is ready")

    with in_flight(tmp_path, start) as flight:
        flight.open_exchanges()
        yield flight


@pytest.mark.parametrize("fault", ["hang", "full"])
def test_a_disk_that_fails_costs_no_answer(flight: InFlight, faults: Path, fault: str) -> None:
    flight.truncate_log()
    (faults / fault).touch()
    flight.await_answers(0.1)
    flight.await_unready()
    flight.kill_and_see_nothing_lost(faults / fault)
    assert flight.daemon.events("vault.refused")


def test_threads_that_cannot_start_cost_nobody_anything(flight: InFlight, faults: Path) -> None:
    (faults / "threads").touch()
    flight.await_published(newer=True)
    assert flight.daemon.command("health", "--ready").stdout == "ok\n"
    flight.kill_and_see_nothing_lost(faults / "threads")
    assert flight.lost() == set()
