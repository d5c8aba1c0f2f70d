"""What grows with the number of grants, and should not.

For each size: an import, the vault's bytes, the start, the idle daemon, 300 refreshes a second
while people do things, a flushed Redis, and a backlog at a server that allows 310 a second.
One vault is made for a size; the daemons that go on with it end in order between.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from urllib.request import urlopen

import anyio

from refresher.demo.private_server import PrivateValkey
from refresher.ops.control_client import ControlClient
from tests.bench.figure_5_rows import SHOWN, STEADY, Data, rows_of
from tests.bench.ground import (
    LONGEST_WAIT,
    cpu_seconds,
    in_time,
    resident_mib,
    waited_seconds,
)
from tests.bench.peers.endpoint import refresh_token
from tests.bench.processes import Daemon
from tests.bench.report import table
from tests.bench.seeding import LATER, VAULT, import_line, make_due
from tests.bench.servers import Endpoint, connect
from tests.bench.session import Found, Row, Session

TITLE = "what grows with the number of grants"

ALLOWED = 310.0
"""Requests a second that the server of the backlog answers."""

IN_THE_FILE = 10_000
"""Grants in the settings that are read again, at the most."""

MORE = 1.0
"""Seconds after a command in which it may still disturb."""


@dataclass(frozen=True)
class Life:
    """One vault, the servers around it, and the daemon that is started on it again and again."""

    session: Session
    daemon: Daemon
    endpoint: Endpoint
    valkey: PrivateValkey
    size: int

    def start(self) -> float:
        """Start the daemon; the wall time at which that was asked for."""
        at = time.time()
        self.daemon.start(self.session.ground.cores.measured)
        return at

    def within(self, happened: Callable[[], bool]) -> float | None:
        """Seconds until HAPPENED, or None if that takes longer than anybody waits."""
        began = time.monotonic()
        while not happened():
            if time.monotonic() - began > self.session.depth.patience:
                return None
            time.sleep(0.02)
        return time.monotonic() - began


def measure(session: Session) -> Found:
    """Every size of the depth."""
    rows: list[Row] = []
    data: Data = {}
    for size in session.depth.sizes:
        found = data[str(size)] = _measured(session, size)
        rows += (some := rows_of(size, found))
        session.progress(table(some))  # a million takes long, and may be cut off
    return Found(rows, data)


def _measured(session: Session, size: int) -> Data:
    ground = session.ground
    found: Data = {}

    def on_a_vault(of: int, steps: Mapping[str, Callable[[Life], Data]]) -> None:
        if steps.keys().isdisjoint(session.depth.steps):
            return
        with (
            ground.servers() as (endpoint, valkey),
            ground.daemon(endpoint, valkey, of, lambda _: time.time() + LATER) as daemon,
        ):
            life = Life(session, daemon, endpoint, valkey, of)
            if of == size:
                found["vault_bytes_a_grant"] = (daemon.folder / VAULT).stat().st_size / of
            for name, step in steps.items():
                if name in session.depth.steps:
                    session.progress(f"{size} grants: {name}")
                    found[name] = step(life)
                    session.progress(f"{found[name]}")

    on_a_vault(
        1,
        {
            "import": lambda life: _import(life, min(size, session.depth.imported)),
            "reload": lambda life: _reload(life, min(size, IN_THE_FILE)),
        },
    )
    on_a_vault(size, {"start": _start, "idle": _idle, "busy": _busy, "all_due": _all_due})
    return found


def _import(life: Life, count: int) -> Data:
    """COUNT lines through the command, the daemon running."""
    lines = life.daemon.folder / "grants.jsonl"
    with lines.open("w") as file:
        file.writelines(f"{import_line(number)}\n" for number in range(1, count + 1))
    life.start()
    life.daemon.await_ready()
    before, began = cpu_seconds(life.daemon.pid), time.monotonic()
    command = subprocess.Popen(
        life.daemon.command("import", str(lines)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(command.pid, 0)
    command.returncode = os.waitstatus_to_exitcode(status)
    assert command.returncode == 0, "the import failed"
    took = time.monotonic() - began
    cpu = cpu_seconds(life.daemon.pid) - before
    return {
        "lines": count,
        "per_second": count / took,
        "cpu_us_a_line": (cpu + used.ru_utime + used.ru_stime) / count * 1e6,
        "daemon_us_a_line": cpu / count * 1e6,
        "command_mib": used.ru_maxrss / 1024,
        "daemon_mib": resident_mib(life.daemon.pid, "VmHWM"),
    }


def _reload(life: Life, count: int) -> Data:
    """SIGHUP, with COUNT grants in the settings of which none has changed."""
    life.daemon.stop()
    with life.daemon.config.open("a") as file:
        file.writelines(
            f'[grants.g{number}]\nclient = "bench"\nrefresh_token = "{refresh_token(number, 0)}"\n'
            for number in range(1, count + 1)
        )
    life.start()
    life.daemon.await_ready(LONGEST_WAIT)
    # Each is refreshed at once, and published: nothing of that is the CPU of reading settings.
    life.within(lambda: life.endpoint.answered() >= count)
    life.within(lambda: any(life.daemon.lines("mirror.rebuilt")))
    time.sleep(MORE * 3)
    before = cpu_seconds(life.daemon.pid)
    life.daemon.hang_up()
    took = life.within(lambda: any(life.daemon.lines("settings.reloaded")))
    cpu = cpu_seconds(life.daemon.pid) - before
    return {"grants": count, "cpu_s": cpu, "took_s": took}


def _start(life: Life) -> Data:
    """From the start to the first exchange, twice, and until Redis has everything."""
    found: Data = {}
    for name in ("cold", "warm"):
        make_due(life.daemon.folder, 1, time.time(), 0)
        if name == "cold":
            _forget(life)
        answered = life.endpoint.answered()
        started = life.start()
        life.within(partial(_has_answered_more, life, answered))
        marks = life.endpoint.marks()[answered:]
        found[name] = marks[0].came - started if marks else None
        found[f"{name}_cpu"] = cpu_seconds(life.daemon.pid)
        found[f"{name}_waited"] = waited_seconds(life.daemon.pid)
        if name == "cold":
            found["published"] = life.within(lambda: _readable(life) >= life.size)
        life.daemon.end()
    return found


def _has_answered_more(life: Life, count: int) -> bool:
    return life.endpoint.answered() > count


def _forget(life: Life) -> None:
    """Let the system drop the vault from its cache; programs and libraries stay in it."""
    descriptor = os.open(life.daemon.folder / VAULT, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def _readable(life: Life) -> int:
    """Tokens that a consumer can read."""
    with connect(life.valkey) as server:
        if server.dbsize() < life.size:
            return 0  # not even looked for: to ask for each of a million takes a while
        keys = [f"refresher:token:g{number}" for number in range(life.size)]
        return sum(server.exists(*keys[at : at + 10_000]) for at in range(0, life.size, 10_000))


def _idle(life: Life) -> Data:
    """Nothing is due and nothing happens."""
    make_due(life.daemon.folder, 1, time.time() + LATER, 0)
    life.start()
    life.daemon.await_ready(LONGEST_WAIT)
    # The mirror compares everything first; the CPU of that is none of an idle daemon.
    is_settled = life.within(lambda: any(life.daemon.lines("mirror.rebuilt"))) is not None
    settled = cpu_seconds(life.daemon.pid) if is_settled else None
    time.sleep(MORE)
    before, began = cpu_seconds(life.daemon.pid), time.monotonic()
    time.sleep(life.session.depth.idle_seconds)
    cpu = (cpu_seconds(life.daemon.pid) - before) / (time.monotonic() - began)
    found = {"cpu": cpu, "rss_mib": resident_mib(life.daemon.pid), "settled_cpu_s": settled}
    life.daemon.end()
    return found


def _busy(life: Life) -> Data:
    """300 a second, and meanwhile what people and programs do."""
    return in_time(lambda lead: _busy_after(life, lead))


def _busy_after(life: Life, lead: float) -> Data:
    seconds = min(life.session.depth.busy_seconds, life.size / STEADY)
    begin = time.time() + lead
    make_due(life.daemon.folder, int(seconds * STEADY), begin, seconds)
    life.daemon.start_before(begin, life.session.ground.cores.measured)
    time.sleep(MORE)  # a rate that has just begun is none yet
    answered, before = life.endpoint.answered(), cpu_seconds(life.daemon.pid)
    spans: dict[str, tuple[float, float]] = {}
    waited: dict[str, float] = {}
    flush_before = 0.0
    for name, act in {
        "nothing": lambda: time.sleep(MORE),
        "status": lambda: _command(life, "status"),
        "refresh": lambda: _command(life, "refresh", f"g{life.size - 1}"),
        "sighup": life.daemon.hang_up,
        "first scrape": lambda: _scrape(life),
        "scrape": lambda: _scrape(life),
        "page": lambda: _page(life),
        "flushall": lambda: _flush(life),
    }.items():
        waited_before, flush_before = waited_seconds(life.daemon.pid), cpu_seconds(life.daemon.pid)
        spans[name] = _spanned(act)
        waited[name] = waited_seconds(life.daemon.pid) - waited_before
        time.sleep(0 if name == "flushall" else MORE)
    flush_cpu = cpu_seconds(life.daemon.pid) - flush_before
    flushed, back = spans["flushall"]
    is_back = back - flushed < life.session.depth.patience
    cpu = cpu_seconds(life.daemon.pid) - before
    came = sorted(mark.came for mark in life.endpoint.marks())
    count = life.endpoint.answered() - answered
    found = {
        "cpu_us_a_refresh": cpu / max(1, count) * 1e6,
        "rss_mib": resident_mib(life.daemon.pid),
        "most_mib": resident_mib(life.daemon.pid, "VmHWM"),
        "took_s": {name: end - first for name, (first, end) in spans.items()},
        "without_exchange_s": {
            name: _longest_gap(came, first, min(end + MORE, begin + seconds))
            for name, (first, end) in spans.items()
        },
        "flushall_back_s": back - flushed if is_back else None,
        "flushall_cpu_us_a_grant": flush_cpu / life.size * 1e6,
        "waited_s": waited,
    }
    life.daemon.end()
    return found


def _flush(life: Life) -> None:
    """Empty Redis, and wait until every token is back."""
    with connect(life.valkey) as server:
        server.flushall()
    life.within(lambda: _readable(life) >= life.size)


def _spanned(act: Callable[[], object]) -> tuple[float, float]:
    began = time.time()
    act()
    return began, time.time()


def _command(life: Life, *arguments: str) -> None:
    with suppress(subprocess.TimeoutExpired):  # its time tells it
        subprocess.run(
            life.daemon.command(*arguments),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,  # status says with its exit code how the grants are
            timeout=life.session.depth.patience,
        )


def _scrape(life: Life) -> None:
    address = f"http://127.0.0.1:{life.daemon.health_port}/metrics"
    with urlopen(address, timeout=life.session.depth.patience) as answer:
        answer.read()


def _page(life: Life) -> None:
    """A page of the list of grants, as ``status`` asks for it."""
    client = ControlClient(life.daemon.config.with_name("refresher.sock"))
    anyio.run(partial(client.call, "grants", limit=SHOWN))


def _longest_gap(came: Sequence[float], begin: float, end: float) -> float | None:
    """The longest time between two of CAME that touches BEGIN to END; None if the rate was over."""
    if begin >= end:
        return None
    inside = [at for at in came if begin <= at <= end]
    return max(later - earlier for earlier, later in pairwise([begin, *inside, end]))


def _all_due(life: Life) -> Data:
    """A backlog at a server with a limit: how many times what the limit allows it takes."""
    life.endpoint.limit(ALLOWED)
    seconds = life.session.depth.drain_seconds
    last = int(ALLOWED * seconds)
    backlogs = {"start": life.size, "middle": life.size // 2, "end": last}
    return {name: _drained(life, min(life.size, count)) for name, count in backlogs.items()}


def _drained(life: Life, backlog: int) -> Data | None:
    """The rate that is allowed against the rate at which the first of BACKLOG go, and the CPU."""
    make_due(life.daemon.folder, backlog, time.time(), 0)
    before = life.endpoint.answered()
    wanted = min(backlog, int(ALLOWED * life.session.depth.drain_seconds))
    saved = min(int(ALLOWED), wanted // 2)  # what the server let nobody use before goes at once
    life.start()
    life.within(lambda: life.endpoint.answered() - before >= wanted)
    cpu, waited = cpu_seconds(life.daemon.pid), waited_seconds(life.daemon.pid)
    life.daemon.end()
    marks = life.endpoint.marks()[before + saved : before + wanted]
    if len(marks) < 2:
        return None
    times = ALLOWED * (marks[-1].came - marks[0].came) / (len(marks) - 1)
    return {"times": times, "cpu_us": cpu / wanted * 1e6, "waited_s": waited}
