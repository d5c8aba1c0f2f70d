"""What figure 7 finds of a replica on a vault with many grants."""

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from refresher.demo.private_server import PrivateValkey
from tests.bench.database import Database, SharedVault
from tests.bench.figure_5_rows import STEADY
from tests.bench.ground import LONGEST_WAIT, NotMeasured, cpu_seconds, in_time, resident_mib
from tests.bench.ground import waited_seconds as waited
from tests.bench.processes import Daemon
from tests.bench.seeding import LATER
from tests.bench.servers import Endpoint, connect
from tests.bench.session import Row, Session

MORE = 1.0
"""Seconds after which what has begun goes on evenly."""

SETTLED, PUBLISHED = 30.0, 2_000
"""Seconds, and tokens a second, in which an empty Redis is to have everything."""

Data = dict[str, Any]


@dataclass(frozen=True)
class _Life:
    """One vault, the servers around it, and the daemon that is started on it again and again."""

    session: Session
    database: Database
    vault: SharedVault
    daemon: Daemon
    endpoint: Endpoint
    valkey: PrivateValkey
    size: int

    def start(self) -> float:
        """Start the daemon; the wall time at which that was asked for."""
        at = time.time()
        self.daemon.start(self.session.ground.cores.measured)
        return at


def measured(session: Session, database: Database, size: int) -> Data:
    """What one replica does with SIZE grants."""
    ground = session.ground
    with ground.servers() as (endpoint, valkey), ExitStack() as stack:
        session.progress(f"{size} grants: making the vault")
        due = time.time() + LATER + size / 1_000
        vault = stack.enter_context(database.vault(ground.template(), size, lambda _: due))
        daemon = stack.enter_context(ground.replica(endpoint, valkey, vault))
        life = _Life(session, database, vault, daemon, endpoint, valkey, size)
        found: Data = {"vault_bytes_a_grant": vault.bytes() / size}
        for name, step in {"idle": _idle, "start": _start, "busy": _busy}.items():
            session.progress(f"{size} grants: {name}")
            found[name] = step(life)
            session.progress(f"{found[name]}")
    return found


def _idle(life: _Life) -> Data:
    """An empty Redis gets everything; then nothing is due and nothing happens."""
    empty = _redis_bytes(life)
    life.start()
    life.daemon.await_ready(LONGEST_WAIT)
    before, began = cpu_seconds(life.daemon.pid), time.monotonic()
    until = began + SETTLED + life.size / PUBLISHED
    while not (is_settled := any(life.daemon.lines("mirror.rebuilt"))):
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    publishing = cpu_seconds(life.daemon.pid) - before
    redis = (_redis_bytes(life) - empty) / life.size
    time.sleep(MORE)
    before, spent = cpu_seconds(life.daemon.pid), life.database.cpu_seconds()
    began = time.monotonic()
    time.sleep(life.session.depth.idle_seconds)
    seconds = time.monotonic() - began
    found = {
        "cpu": (cpu_seconds(life.daemon.pid) - before) / seconds,
        "database_cpu": (life.database.cpu_seconds() - spent) / seconds,
        "rss_mib": resident_mib(life.daemon.pid),
        "most_mib": resident_mib(life.daemon.pid, "VmHWM"),
        "publishing_us_a_grant": publishing / life.size * 1e6,
        "redis_bytes_a_grant": redis,
        "is_settled": is_settled,
    }
    life.daemon.end()
    return found


def _start(life: _Life) -> Data:
    """From a start to its first exchange; Redis has everything."""
    life.vault.make_due(1, time.time(), 0)
    answered = life.endpoint.answered()
    spent, started = life.database.cpu_seconds(), life.start()
    until = started + LONGEST_WAIT
    while life.endpoint.answered() == answered:
        if time.time() > until:
            raise NotMeasured(f"no exchange within {LONGEST_WAIT:g} s of a start")
        time.sleep(0.01)
    found = {
        "warm": life.endpoint.marks()[answered].came - started,
        "warm_cpu": cpu_seconds(life.daemon.pid),
        "warm_waited": waited(life.daemon.pid),
        "database_cpu": life.database.cpu_seconds() - spent,
    }
    life.daemon.await_ready()
    life.daemon.end()
    return found


def _busy(life: _Life) -> Data:
    return in_time(partial(_busy_after, life))


def _busy_after(life: _Life, lead: float) -> Data:
    """So many refreshes a second, and nothing else."""
    seconds = min(life.session.depth.busy_seconds, life.size / STEADY)
    begin = time.time() + lead
    life.vault.make_due(int(seconds * STEADY), begin, seconds)
    life.daemon.start_before(begin, life.session.ground.cores.measured)
    time.sleep(MORE)
    answered, before = life.endpoint.answered(), cpu_seconds(life.daemon.pid)
    spent = life.database.cpu_seconds()
    time.sleep(max(seconds - MORE, MORE))
    count = max(1, life.endpoint.answered() - answered)
    found = {
        "cpu_us_a_refresh": (cpu_seconds(life.daemon.pid) - before) / count * 1e6,
        "database_us_a_refresh": (life.database.cpu_seconds() - spent) / count * 1e6,
        "rss_mib": resident_mib(life.daemon.pid),
        "most_mib": resident_mib(life.daemon.pid, "VmHWM"),
        "database_mib": life.database.resident_mib(),
    }
    life.daemon.end()
    return found


def _redis_bytes(life: _Life) -> int:
    with connect(life.valkey) as server:
        return int(server.info("memory")["used_memory"])


def rows_of(size: int, found: Data) -> list[Row]:
    """What the table says of one size."""
    start, idle, busy = (found[name] for name in ("start", "idle", "busy"))
    return [
        Row(
            f"{size:,} first exchange",
            f"{start['warm']:.2f} s warm",
            "<= 1.5 s",
            f"{start['warm_cpu']:.2f} s of CPU, {start['warm_waited']:.2f} s without its core; "
            f"PostgreSQL {start['database_cpu']:.2f} s of CPU",
        ),
        Row(
            f"{size:,} idle",
            f"{idle['cpu']:.1%} of a core",
            "<= 2 %",
            f"PostgreSQL {idle['database_cpu']:.1%}; {idle['rss_mib']:.0f} MiB; "
            + (
                "before that an empty Redis got each token for "
                f"{idle['publishing_us_a_grant']:.0f} us of CPU"
                if idle["is_settled"]
                else "it was still publishing everything"
            ),
        ),
        Row(
            f"{size:,} memory at {STEADY}/s",
            f"{busy['rss_mib']:.0f} MiB (at most {max(busy['most_mib'], idle['most_mib']):.0f})",
            "<= 150 MiB",
            f"{busy['cpu_us_a_refresh']:.0f} us of CPU a refresh, PostgreSQL "
            f"{busy['database_us_a_refresh']:.0f} us and {busy['database_mib']:.0f} MiB; a grant "
            f"takes {found['vault_bytes_a_grant']:.0f} bytes of its disk and "
            f"{idle['redis_bytes_a_grant']:.0f} of Redis' memory",
        ),
    ]
