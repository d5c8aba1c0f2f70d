"""The clock of a vault that is shared: the database's, whatever the machine's own says."""

from refresher.vault.postgresql.server_clock import DRIFT, ServerClock, _Reading
from tests.vault.world import FakeClock

OFFSET = 1_000_000.0


class Passing:
    """Seconds that have passed on this machine."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def reading(elapsed: Passing, *, offset: float = OFFSET, error: float = 0.001) -> _Reading:
    return _Reading(offset, error, elapsed.seconds)


def measured(*readings: _Reading, elapsed: Passing, local: FakeClock | None = None) -> ServerClock:
    clock = ServerClock(local or FakeClock(), elapsed)
    clock.take(list(readings))
    return clock


def test_the_quickest_reading_counts() -> None:
    elapsed = Passing()
    slow, quick = reading(elapsed, offset=OFFSET + 0.2, error=0.5), reading(elapsed)
    assert measured(slow, quick, elapsed=elapsed).now() == OFFSET + 100
    later = measured(quick, elapsed=elapsed)
    elapsed.seconds += 5
    later.take([reading(elapsed, offset=OFFSET + 0.2, error=0.5)])
    assert later.now() == OFFSET + 105


def test_what_was_read_long_ago_gives_way() -> None:
    """Two clocks drift apart: by and by a slower reading is the surer one."""
    elapsed = Passing()
    clock = measured(reading(elapsed, error=0.001), elapsed=elapsed)
    elapsed.seconds += 200
    clock.take([reading(elapsed, offset=OFFSET + 0.01, error=0.005)])
    assert 0.001 + 200 * DRIFT > 0.005
    assert clock.now() == OFFSET + 0.01 + 300


def test_a_servers_clock_that_is_set_counts_from_its_next_reading() -> None:
    """A failover to a server whose clock is minutes behind, and one that steps ahead."""
    for step in (-300.0, 60.0):
        elapsed = Passing()
        clock = measured(reading(elapsed), elapsed=elapsed)
        elapsed.seconds += 5
        clock.take([reading(elapsed, offset=OFFSET + step, error=0.5)])
        assert clock.now() == OFFSET + step + 105


def test_the_machines_own_clock_changes_nothing() -> None:
    elapsed, local = Passing(), FakeClock()
    clock = measured(reading(elapsed), elapsed=elapsed, local=local)
    local.step(-600)
    elapsed.seconds += 7
    assert clock.now() == OFFSET + 107
    assert clock.since_boot() is None
