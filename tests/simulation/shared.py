"""A world of several replicas on one vault, which plays the database that they share.

Each has a place of its own, where its successor finds its rescue file. Any of them is killed,
stopped, paused for longer than its leases, or cut off from the database while it still
reaches every server. Clocks are the database's, measured by each a little wrong.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from refresher.clock import SinceBoot
from refresher.domain import leases
from refresher.engine import replicas
from tests.simulation.people import People
from tests.simulation.process import Process
from tests.simulation.takeovers import SharedWitness
from tests.simulation.world import World
from tests.support.backends import KnownBackends, Server

PACED = (
    *((leases, name) for name in ("MISSED", "BACK_WITHIN", "VANISHED_WITHIN")),
    *((replicas, name) for name in ("BEAT_EVERY", "LOOK_EVERY")),
)
"""What takes as many times longer as everything in a world does."""

_USUAL = {name: getattr(of, name) for of, name in PACED}

POOLED_EVERY = 4
"""In one of so many worlds all connections are behind a pooler, and nobody is known to be dead."""

CUT_OFF_EVERY, LONGEST_CUT = 8.0, 260.0
"""Seconds between two such cuts on average, and what the longest takes: more than any lease."""

CLOCKS_WRONG_BY = 0.1

LONGEST_ON_THE_WAY = 30.0
"""Seconds until what was asked of the database is done, where nobody gives it up."""


class _Clock:
    """The database's clock, as one process has measured it."""

    def __init__(self, world: World, wrong_by: float) -> None:
        self._world, self._wrong_by = world, wrong_by
        self.monotonic, self.draw = world.monotonic, world.draw

    def now(self) -> float:
        return self._world.now() + self._wrong_by

    def since_boot(self) -> SinceBoot | None:
        return None


class _People(People):
    """They reach one of the replicas, whichever it is."""

    def _ask(self, name: str, work: Callable[[Process], Awaitable[None]]) -> None:
        running = [process for process in self._world.processes if process.is_running]
        if running:
            self._world.chance.choice(running).ask(name, work)


class SharedWorld(World):
    """One seed's world of REPLICAS."""

    def __init__(self, seed: int, folder: Path, count: int) -> None:
        self.places = [folder / f"{number}.rescue" for number in range(count)]
        self.database = Server()
        self.is_pooled = seed % POOLED_EVERY == 0
        self._started: set[Path] = set()
        """Places where a process is about to start."""
        super().__init__(seed, folder)

    def _make_witness(self) -> SharedWitness:
        return SharedWitness(self)

    def _make_people(self) -> People:
        return _People(self)

    def _begin(self) -> None:
        self.files = self.places
        for number, place in enumerate(self.places):
            self._started.add(place)
            self.at(3.0 * number, lambda place=place: self._start_process(place))  # type: ignore[misc]  # a lambda with a default
        self._plan(10.0, self.people.act)
        self._plan(20.0, self._mood_begins)
        self._plan(60.0 * self.steadiness, self._disk_fails)
        self._plan(CUT_OFF_EVERY, self._cut_off)

    def sharing(self, process: Process) -> dict[str, Any]:
        wrong_by = self.chance.between(-CLOCKS_WRONG_BY, CLOCKS_WRONG_BY)
        process.backends = KnownBackends(self.database, None)
        if not self.is_pooled:
            self._connect(process.backends)
        return {
            "clock": _Clock(self, wrong_by),
            "name": process.rescue_file.stem,
            "backends": process.backends,
        }

    def _go_at(self, pace: float) -> None:
        super()._go_at(pace)
        for of, name in PACED:
            setattr(of, name, _USUAL[name] * pace)

    # processes

    def _start_process(self, rescue_file: Path) -> None:
        self._started.discard(rescue_file)
        self._starting = bool(self._started)
        super()._start_process(rescue_file)
        self._starting = bool(self._started)

    def _start_later(self, rescue_file: Path) -> None:
        self._started.add(rescue_file)
        super()._start_later(rescue_file)

    def _remove(self, process: Process, *, in_order: bool) -> None:
        process.end()
        self.processes.remove(process)
        if not process.is_cut_off:  # else nobody tells the database
            self._disconnect(process.backends)
        self.witness.gone(process, self._rescued(process.rescue_file), in_order=in_order)
        if not self._stays_down:
            self._start_later(process.rescue_file)

    def _pause(self, process: Process) -> None:
        """It sleeps, perhaps for longer than its leases, and goes on as if nothing had been."""
        process.is_paused = True
        self.server.trouble()
        self.chance.seen["paused"] += 1
        duration = self.chance.around(20.0)
        if self.chance.strikes("paused for long", 0.2):
            duration += self.chance.between(60.0, LONGEST_CUT)
        self.at(duration, lambda: self._wake(process))

    def _wake(self, process: Process) -> None:
        process.is_paused, process.woke_at = False, self._now

    # the way to the database

    def disk_latency(self) -> float:
        if self.chance.strikes("held up on the way to the database", 0.002):
            self.server.trouble()
            return self.chance.between(3.0, LONGEST_ON_THE_WAY)
        return super().disk_latency()

    def _cut_off(self) -> None:
        """Cut one of them off, from the middle of an exchange on where it hurts most."""
        reached = [p for p in self.processes if p.is_running and p.is_serving and not p.is_cut_off]
        if not reached:
            return
        busy = [process for process in reached if process.in_flight]
        if not busy and self.chance.one_in(1.05):
            self.at(0.1, self._cut_off)
            return
        process = self.chance.choice(busy or reached)
        process.is_cut_off = True
        self.chance.seen["cut off"] += 1
        self.chance.seen["cut off in flight"] += bool(process.in_flight)
        self.witness.note(f"{process.rescue_file.stem} is cut off")
        self.server.trouble()
        duration = self.chance.around(20.0)
        if self.chance.strikes("cut off for long", 0.3):
            duration += self.chance.between(60.0, LONGEST_CUT)
        known, cut_at = replace(process.backends), self._now
        if self.chance.is_heads():
            # The database finds out by itself, long after it heard of that process.
            after = self.pace * (
                leases.VANISHED_WITHIN / self.pace + self.chance.between(2.0, 60.0)
            )
            self.at(after, lambda: self._vanish(process, known, cut_at))
        else:  # what cuts it off has ended one of its connections
            self.database.connected.discard(known.backend)
        self.at(duration, lambda: self._reconnect(process))

    def _vanish(self, process: Process, known: KnownBackends, cut_at: float) -> None:
        if process.is_cut_off and process.reached_at < cut_at:  # and not once more
            self._disconnect(known)

    def _connect(self, known: KnownBackends) -> None:
        known.backend, known.reading = (self.database.connect(self.now()) for _ in range(2))

    def _disconnect(self, known: KnownBackends) -> None:
        self.database.connected -= {known.backend, known.reading}

    def _reconnect(self, process: Process) -> None:
        process.is_cut_off, process.reached_at = False, self._now
        self.witness.note(f"{process.rescue_file.stem} is reached again")
        self.server.trouble()
        known = process.backends
        if process.is_alive and not self.is_pooled and known.backend not in self.database.connected:
            self._connect(known)

    # the end

    def calm_down(self) -> None:
        super().calm_down()
        for process in self.processes:
            if process.is_cut_off:
                self._reconnect(process)

    def is_able(self) -> bool:
        """Whether some replica can do everything now."""
        return not self.is_disk_out and any(
            p.is_running and p.is_serving and not p.is_cut_off for p in self.processes
        )
