"""One window of daemons that share a vault in PostgreSQL, everything due at once."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from tests.bench.contenders import WARM_UP
from tests.bench.database import Database
from tests.bench.ground import (
    Look,
    NotMeasured,
    TooLate,
    Window,
    await_count,
    between,
    cpu_seconds,
    in_time,
)
from tests.bench.processes import Daemon, Ground
from tests.bench.quota import Group
from tests.bench.servers import Endpoint, Readers

SEEDED = 2_000
"""Grants a second that are put into a database at the least."""

KNOWN_AFTER = 5.0
"""Seconds after which replicas have heard of each other, and share what a client may do."""


@dataclass(frozen=True)
class Shared(Window):
    """What the daemons did together, and what it cost the database."""

    database_cpu: float
    """CPU seconds of all its processes."""
    log_bytes: int
    """What it has written to its log ahead (WAL)."""

    @property
    def database_us(self) -> float:
        """CPU microseconds an answer cost the database."""
        return self.database_cpu / self.answers * 1e6

    @property
    def log_bytes_each(self) -> float:
        """Bytes of its log an answer."""
        return self.log_bytes / self.answers


def replicas(
    ground: Ground, database: Database, grants: int, groups: Sequence[Group | None]
) -> Shared:
    """A daemon in each of GROUPS, all on one core, with GRANTS due at once.

    Args:
        groups: hold a daemon to a part of that core; None does not.
    """
    return in_time(lambda lead: _replicas(ground, database, grants, groups, lead))


def _replicas(
    ground: Ground, database: Database, grants: int, groups: Sequence[Group | None], lead: float
) -> Shared:
    with ground.servers() as (endpoint, valkey), ExitStack() as stack:
        at = time.time() + lead + grants / SEEDED
        vault = stack.enter_context(database.vault(ground.template(), grants, lambda _: at))
        daemons = [
            stack.enter_context(ground.replica(endpoint, valkey, vault, beside=len(groups)))
            for _ in groups
        ]
        readers = stack.enter_context(Readers(valkey, vault.version))
        for daemon in daemons:
            daemon.start(ground.cores.measured)
        for daemon in daemons:
            daemon.await_ready()
        if time.time() > at - (KNOWN_AFTER if len(daemons) > 1 else 0.0):
            raise TooLate("the daemons were ready too late")
        time.sleep(at - time.time())
        for daemon, group in zip(daemons, groups, strict=True):
            if group is not None:
                group.take(daemon.pid)
        await_count(endpoint.answered, int(grants * WARM_UP))
        first, spent, written = _look(endpoint, daemons), database.cpu_seconds(), database.written()
        if first.answers > grants / 2:
            raise TooLate("half of the work was done before the first look")
        await_count(lambda: len(readers.renewed), grants)
        last = _look(endpoint, daemons)
        if len(daemons) > 1:
            _see_all_at_work(daemons)
        return Shared(
            **vars(between(first, last)),
            database_cpu=database.cpu_seconds() - spent,
            log_bytes=database.written() - written,
        )


def _look(endpoint: Endpoint, daemons: Sequence[Daemon]) -> Look:
    cpu = sum(cpu_seconds(daemon.pid) for daemon in daemons)
    return Look(endpoint.answered(), cpu, time.monotonic(), cpu_seconds(endpoint.pid))


def _see_all_at_work(daemons: Sequence[Daemon]) -> None:
    """A ratio of two daemons is one only if both have refreshed.

    Raises:
        NotMeasured: one did nothing.
    """
    if not all(any(daemon.lines("exchange.succeeded")) for daemon in daemons):
        raise NotMeasured("one of the daemons has refreshed nothing")
