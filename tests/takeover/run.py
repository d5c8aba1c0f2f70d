"""A standby takes over from a killed, and from a stopped daemon; also a command.

``python -m tests.takeover --times 20`` kills or stops the active daemon in the middle of
an exchange, TIMES times each, and sees the standby take over; between them the active one
is stopped for a moment only and wakes in time. Judged by the server's own log.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event, Thread

from redis import Redis
from redis.exceptions import RedisError

from tests.support.forked import ForkedProcess
from tests.support.rig import Rig, hits, overlaps_of_the_living
from tests.support.waiting import wait_until

GRANTS = 16
LIFETIME = 8.0

KILLED_WITHIN = 5.0
STOPPED_WITHIN = 20.0
"""Seconds from the fault to the standby's readiness, at the most."""

NAP = (0.2, 4.0)
"""Seconds of a stop that no standby may take for an end."""

KINDS = ("killed", "stopped", "napped")


@dataclass(frozen=True)
class Outcome:
    """What the takeovers did."""

    killed: int
    stopped: int
    napped: int
    in_flight: int
    """Faults that hit at least one exchange, by the server's log."""
    exchanges: int
    lost: int
    overlapping: int
    """Exchanges of one grant at once from processes that were alive and not stopped."""
    sent_by_the_woken: int
    """Requests of a stopped daemon after its standby had taken over."""
    regressed: int
    """Reads of a version lower than one read before."""
    slowest_after_kill: float
    slowest_after_stop: float

    @property
    def holds(self) -> bool:
        """Whether no guarantee was violated."""
        return not (self.lost or self.overlapping or self.sent_by_the_woken or self.regressed)


@dataclass
class Consumer:
    """Reads every grant's version for ever, in a thread."""

    url: str
    regressed: int = 0
    newest: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def reading(self) -> Iterator[None]:
        ended = Event()
        thread = Thread(target=self._read, args=(ended,))
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def _read(self, ended: Event) -> None:
        with Redis.from_url(self.url, decode_responses=True) as redis:
            while not ended.wait(0.02):
                for name in [f"g{number}" for number in range(GRANTS)]:
                    try:
                        version = int(redis.hget(f"refresher:token:{name}", "version") or 0)
                    except RedisError:
                        continue
                    self.regressed += 0 < version < self.newest.get(name, 0)
                    self.newest[name] = max(version, self.newest.get(name, 0))


class Takeovers:
    """An active daemon, its standby, and what was done to them."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig = rig
        self.chance = random.Random(seed)  # noqa: S311  moments, not cryptography
        self.done = dict.fromkeys(KINDS, 0)
        self.ends: list[float] = []
        self.took: dict[str, list[float]] = {kind: [0.0] for kind in KINDS}
        self.woken = 0
        rig.daemon.start()
        rig.import_grants(GRANTS)
        self.standby = self._stand_by()

    def run(self, times: int) -> Outcome:
        """TIMES faults of each kind, in any order."""
        kinds = [kind for kind in KINDS for _ in range(times)]
        self.chance.shuffle(kinds)
        consumer = Consumer(self.rig.valkey.url)
        with consumer.reading():
            for kind in kinds:
                self._await_middle()
                self.done[kind] += 1
                if kind == "napped":
                    self._nap()
                else:
                    self._end(kind)
            self.rig.await_all_fresh()
        log = self.rig.sandbox.log()
        self.standby.terminate()
        self.standby.wait(30)
        assert self.rig.daemon.stop() == 0
        return Outcome(
            **self.done,
            in_flight=sum(hits(log, at) for at in self.ends),
            exchanges=len(log),
            lost=self.rig.lost(),
            overlapping=len(overlaps_of_the_living(log, self.ends)),
            sent_by_the_woken=self.woken,
            regressed=consumer.regressed,
            slowest_after_kill=round(max(self.took["killed"]), 2),
            slowest_after_stop=round(max(self.took["stopped"]), 2),
        )

    def _await_middle(self) -> None:
        """Return somewhere in an exchange: one that ended meanwhile would show nothing."""
        while True:
            self.rig.await_exchange()
            time.sleep(self.chance.uniform(0.0, 0.3))
            if hits(self.rig.sandbox.log(), time.time()):
                return

    def _end(self, kind: str) -> None:
        """Kill or stop the active daemon; its standby becomes the active one."""
        daemon, active = self.rig.daemon, self.rig.daemon.process
        assert active is not None
        ready, began = daemon.ready_count(), time.monotonic()
        self.ends.append(time.time())
        active.send_signal(signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
        wait_until(
            lambda: daemon.ready_count() > ready,
            within=KILLED_WITHIN if kind == "killed" else STOPPED_WITHIN,
            description=f"the standby took over from a {kind} daemon",
        )
        self.took[kind].append(time.monotonic() - began)
        # A stopped one that is still there could wake and send.
        self.woken += active.wait(10) != -signal.SIGKILL
        daemon.process = self.standby
        self.standby = self._stand_by()

    def _nap(self) -> None:
        """Stop the active daemon for a moment; nobody may take its place."""
        daemon, active = self.rig.daemon, self.rig.daemon.process
        assert active is not None
        ready = daemon.ready_count()
        self.ends.append(time.time())
        active.send_signal(signal.SIGSTOP)
        time.sleep(self.chance.uniform(*NAP))
        active.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        assert daemon.ready_count() == ready
        assert active.poll() is None

    def _stand_by(self) -> ForkedProcess:
        waiting = len(self.rig.daemon.events("daemon.stood_by"))
        standby = self.rig.daemon.fork("run", "--standby")
        wait_until(
            lambda: len(self.rig.daemon.events("daemon.stood_by")) > waiting,
            description="a standby waits",
        )
        return standby


def run_takeovers(folder: Path, times: int, seed: int) -> Outcome:
    """TIMES faults of each kind on one vault."""
    with Rig(
        folder,
        rotation="grace(60)",
        server={
            "rotation": "grace",
            "grace_seconds": 60,
            "access_token_lifetime": LIFETIME,
            "latency": (0.05, 0.5),
            "seed": seed,
        },
    ) as rig:
        takeovers = Takeovers(rig, seed)
        try:
            return takeovers.run(times)
        finally:
            if takeovers.standby.poll() is None:
                takeovers.standby.kill()
                takeovers.standby.wait()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="refresher-takeover-") as folder:
        outcome = run_takeovers(Path(folder), options.times, options.seed)
    sys.stdout.write(json.dumps({"seed": options.seed, **asdict(outcome)}) + "\n")
    return 0 if outcome.holds else 1
