"""What a daemon costs that has nothing to do."""

from collections.abc import Iterator

import pytest

from tests.startup.measuring import idle_daemon, rss_megabytes
from tests.support.daemon import DaemonProcess

MOST_MEGABYTES = 105
"""94 on CPython 3.11. What was not needed made it 108: migrations, rich, another database."""

LIFE = (
    "daemon.started",
    "vault.opened",
    "control.opened",
    "daemon.ready",
    "daemon.stopping",
    "daemon.stopped",
)


@pytest.fixture
def daemon() -> Iterator[DaemonProcess]:
    """A daemon that is ready, with a client and no grant."""
    with idle_daemon() as process:
        yield process


def test_an_idle_daemon_is_small_and_tells_its_start_and_end(daemon: DaemonProcess) -> None:
    assert daemon.process is not None
    assert rss_megabytes(daemon.process.pid) < MOST_MEGABYTES
    assert daemon.stop() == 0
    told = [line["event"] for line in daemon.events(*LIFE)]
    assert told == [*LIFE]
