"""The world: virtual time, processes that come and go, and what befalls them.

Whatever is next in time runs: a callback of a process or an event of the world. Between
any two of them a process may be killed, told to stop, or paused while another takes over.
"""

import heapq
import math
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refresher.clock import SinceBoot
from refresher.domain.grants import GrantKind
from refresher.domain.secret import Secret
from refresher.domain.seeds import Seed
from refresher.engine import revoking, watch
from refresher.engine.records import read_record
from refresher.vault.rescue import RescueFile
from refresher.vault.rows import Sealer
from refresher.vault.sealing import Fingerprinter, Keyring, Place
from tests.simulation.chance import Chance, Violated
from tests.simulation.disk import Disk, Fault
from tests.simulation.moods import Moods
from tests.simulation.network import Network
from tests.simulation.people import People
from tests.simulation.process import Process
from tests.simulation.server import KINDS, Server, make_client
from tests.simulation.witness import Witness
from tests.support.threads import Inline

START = 1_800_000_000.0
STATIC_TOKENS = 2

SLOW, SLOW_EVERY = 10.0, 3
"""In one of so many worlds tokens live so many times longer, and everything that befalls them
is as much rarer: hours pass, in which doubts are settled."""

STEADY, STEADY_EVERY = 20.0, 4
"""In one of so many worlds processes and disk fail so many times more rarely: there grants and
servers trouble each other for long, and no restart forgets it."""

CALM = 30.0
"""The pace once nothing befalls anybody any more."""

CRASH_EVERY, STOP_EVERY, PAUSE_EVERY = 1_500, 6_000, 3_000
"""Callbacks of a process between its crashes, shutdowns and pauses, on average."""

CLOCK_STEPS = (-7200.0, -600.0, -20.0, -3.0, 3.0, 20.0, 600.0, 7200.0)

SPINNING = 5_000
"""Callbacks at one instant: a task that never waits for anything."""


class World:
    """One seed's world; also the clock its processes read."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.chance = Chance(seed)
        self._now = 0.0
        self._wall_offset = 0.0
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self.is_slow = seed % SLOW_EVERY == 0
        self.steadiness = STEADY if seed % STEADY_EVERY == 1 else 1.0
        self.pace = 1.0
        self.stepped_ahead = 0.0
        """Seconds by which the wall clock was ever set ahead."""
        self.steps = 0
        """Points at which a fault could have been injected."""
        self.awaits = 0
        """Those of them that were awaits of the engine into the outside."""
        self._instant, self._spins = 0.0, 0
        self.is_disk_out = False
        self.refused_at = -math.inf
        """When the disk last refused."""
        self.disk = Disk()
        self.sealer = Sealer(Keyring([b"k" * 32]), Fingerprinter(b"f" * 32))
        self.disk.seal(self.sealer.keyring)
        self.moods = Moods(self.chance, self.at)
        self.server = Server(self.chance, self.time, self.sealer.fingerprint, self.moods)
        self.network = Network(self.chance, self.server, self.at)
        self._go_at(SLOW if self.is_slow else 1.0)
        self.clients = {name: make_client(name) for name in KINDS}
        self.names = {f"{c}-{n}": c for c, kind in KINDS.items() for n in range(kind.grants)}
        seeds = [self._seed(name, client) for name, client in self.names.items()]
        self.seeds, self.imports = seeds[::6], seeds + self._static_seeds()
        """What every start finds in the settings, and what was imported once."""
        self.is_imported = False
        self.witness = self._make_witness()
        self.people = self._make_people()
        self.network.heard = self.witness.note
        self.network.gave_up = self.witness.wire.gave_up
        self.files = [folder / "here.rescue", folder / "there.rescue"]
        self._starting = self._stays_down = False
        self.processes: list[Process] = []
        self._begin()
        self.at(30.0, self._look_at_times)

    def _make_witness(self) -> Witness:
        return Witness(self)

    def _make_people(self) -> People:
        return People(self)

    def _begin(self) -> None:
        """Start a process, and plan what happens to it and around it."""
        self._start_process(self.files[0])
        self._plan(10.0, self.people.act)
        self._plan(20.0, self._mood_begins)
        self._plan(60.0, self._clock_steps)
        self._plan(60.0 * self.steadiness, self._disk_fails)

    rotates = False
    """Whether the vault's key is changed."""

    def sealer_of(self, process: Process) -> Sealer:
        """What PROCESS seals and opens with."""
        del process
        return self.sealer

    async def read_keys(self, process: Process) -> bool:
        """Have PROCESS read its key file again; whether that has changed."""
        del process
        return False

    def committed(self) -> None:
        """Look at what a visit to the disk has left there."""

    def outdated(self) -> list[str]:
        """What is sealed, and should be with another key."""
        return []

    def sharing(self, process: Process) -> dict[str, Any]:
        """How the vault of PROCESS is opened: it has the vault for itself."""
        del process
        return {"clock": self}

    def time(self) -> float:
        """Seconds since the world began; they never run backwards."""
        return self._now

    monotonic = time

    def now(self) -> float:
        """What every machine's wall clock shows."""
        return START + self._now + self._wall_offset

    def since_boot(self) -> SinceBoot | None:
        """Nothing reboots here, and a step while nobody runs is measured."""
        return SinceBoot("world", self.monotonic())

    def draw(self) -> float:
        return self.chance.draw()

    def at(self, delay: float, callback: Callable[[], None]) -> None:
        """Call CALLBACK in DELAY seconds."""
        self._count += 1
        heapq.heappush(self._agenda, (self._now + delay, self._count, callback))

    def step(self) -> None:
        """Run what is next in time, unless a fault strikes first."""
        turn = min(
            (process for process in self.processes if not process.is_paused),
            key=lambda process: process.loop.next_at(),
            default=None,
        )
        turn_at = math.inf if turn is None else turn.loop.next_at()
        if self._agenda[0][0] < max(turn_at, self._now) or turn is None:
            self._now, _, callback = heapq.heappop(self._agenda)
            callback()
        else:
            self._now = max(self._now, turn_at)
            self._run_callback(turn)
        if self.witness.violation is not None:
            raise Violated(self.witness.violation)

    def _run_callback(self, process: Process) -> None:
        self._refuse_spinning()
        if not self.chance.is_calm:
            self.steps += 1
            if self._befalls(process):
                return
        process.loop.run_one()
        if process.is_doomed:
            self._crash(process)
        elif process.main.done():
            self._ended(process)

    def _befalls(self, process: Process) -> bool:
        """Whether something happened to PROCESS that keeps it from running now."""
        if self.chance.one_in(CRASH_EVERY * self.steadiness):
            self._crash(process)
            return True
        if self.chance.one_in(STOP_EVERY * self.steadiness):
            self.chance.seen["shutdowns"] += 1
            process.terminate()
        if process.is_running and self.chance.one_in(PAUSE_EVERY * self.steadiness):
            self._pause(process)
            return True
        return False

    def count_await(self) -> None:
        """An await of the engine into the outside begins."""
        self.awaits += not self.chance.is_calm

    def broken(self, message: str, error: BaseException | None) -> None:
        """Something escaped from a task."""
        where = "".join(traceback.format_exception(error)) if error else ""
        self.witness.violation = self.witness.violation or f"{message}: {where}"

    def _refuse_spinning(self) -> None:
        self._spins = self._spins + 1 if self._now == self._instant else 0
        self._instant = self._now
        if self._spins > SPINNING:
            self.witness.violated("G7: a task spins")

    # processes

    def _start_process(self, rescue_file: Path) -> None:
        self._starting = False
        self.processes.append(Process(self, rescue_file))
        self.witness.note(f"a process starts, {len(self.processes)} now")

    def _start_later(self, rescue_file: Path) -> None:
        """The service manager starts it again, mostly soon."""
        delay = self.chance.between(0.1, 4.0)
        if self.chance.strikes("long outages", 0.05):
            delay += self.chance.between(10.0, 90.0)
            self.server.trouble()
        self._starting = True
        self.at(delay, lambda: self._start_process(rescue_file))

    def _crash(self, process: Process) -> None:
        self.chance.seen["crashes"] += 1
        self.witness.note("a process crashes")
        self.chance.seen["crashes in flight"] += bool(process.in_flight)
        self.server.trouble()
        self._remove(process, in_order=False)

    def _ended(self, process: Process) -> None:
        error = process.main.exception()
        if error is not None:
            self.broken("a process broke", error)
            return
        self.server.trouble()
        if process.is_serving:
            self.chance.seen["ended in order"] += 1
        self._remove(process, in_order=True)

    def _remove(self, process: Process, *, in_order: bool) -> None:
        process.end()
        self.witness.too_early.clear()  # what it had learned may not be written down
        self.processes.remove(process)
        self.witness.gone(process, self._rescued(process.rescue_file), in_order=in_order)
        if process.is_stale and any(
            row.lease_holder == process.vault.holder for row in self.witness.rows.values()
        ):
            # A fence ends a stopped holder before it can claim; here it died with its claim,
            # and only a recovery looks for the leases of the dead.
            for other in self.processes:
                other.terminate()
        if self._stays_down or self._starting:
            return
        if all(other.is_stale for other in self.processes):
            self._start_later(process.rescue_file)

    def _pause(self, process: Process) -> None:
        """SIGSTOP, a suspended machine: it sleeps, and perhaps another takes over."""
        process.is_paused, process.paused_at = True, self._wall_offset
        self.server.trouble()
        duration = self.chance.around(20.0)
        can_usurp = process.is_serving and len(self.processes) == 1
        if can_usurp and self.chance.strikes("usurped", 0.7):
            self.chance.seen["usurped in flight"] += bool(process.in_flight)
            other = self.files[process.rescue_file == self.files[0]]
            process.is_stale = True
            self._start_later(other)
        else:
            self.chance.seen["paused"] += 1
        self.at(duration, lambda: self._wake(process))

    def _wake(self, process: Process) -> None:
        process.is_paused, process.woke_at = False, self._now
        if process.is_alive and process.is_stale:
            process.terminate()  # it learns that it lost its place
            self._wakes_to_another_clock(process.paused_at)

    def _wakes_to_another_clock(self, offset: float) -> None:
        """A usurped process moves every instant back with the clock, its successor's too."""
        missed = offset - self._wall_offset
        if missed > 0:
            self.stepped_ahead += missed
            self.witness.refusals.clock_set_back()

    def _rescued(self, file: Path) -> set[tuple[str, int]]:
        """Grant and sequence of every answer in the rescue FILE."""
        rescue = RescueFile(file, slots=1, writer=Inline(), syncer=Inline())
        left = rescue.open().values()
        rescue.close()
        records = [
            read_record(self.sealer.keyring.open(sealed, Place("rescue", "rescue")))
            for sealed in left
        ]
        return {
            (record.name, record.intent.sequence)
            for record in records
            if record.intent is not None  # no login
        }

    # the disk

    def disk_latency(self) -> float:
        """Seconds one visit to the disk takes."""
        if self.chance.strikes("slow disk", 0.002):
            self.server.trouble()
            return self.chance.between(0.5, 5.0)
        return self.chance.around(0.002)

    def disk_failed(self, fault: Fault) -> None:
        """Count what the disk did."""
        refused, self.refused_at = fault is Fault.REFUSE, self._now
        self.chance.seen["vault refused" if refused else "commit unacknowledged"] += 1
        self.server.trouble()

    def _disk_fails(self) -> None:
        """Refuse for a while, from the middle of an exchange on where it hurts most."""
        if not any(process.in_flight for process in self.processes) and self.chance.one_in(1.05):
            self.at(0.1, self._disk_fails)
            return
        self.chance.seen["vault outages"] += 1
        self.is_disk_out = True
        self.server.trouble()
        self.at(self.chance.around(15.0), self._disk_recovers)
        if self.chance.strikes("shutdowns while the vault refuses", 0.3):
            for process in self.processes:
                process.terminate()

    def _disk_recovers(self) -> None:
        self.is_disk_out = False
        self.server.trouble()

    # people, clocks

    def _plan(self, interval: float, happening: Callable[[], None]) -> None:
        """Let HAPPENING happen every now and then until the faults end."""

        def happen() -> None:
            if not self.chance.is_calm:
                happening()
                self._plan(interval, happening)

        self.at(self.chance.around(interval) * self.pace, happen)

    def _mood_begins(self) -> None:
        """A server says what is not so, never to a client that has still to get over the last."""
        client = self.chance.choice(list(self.clients))
        grants = [name for name, other in self.names.items() if other == client]
        rows = [self.witness.rows[name] for name in grants if name in self.witness.rows]
        if all(row.refused_at is None for row in rows):
            self.moods.begin(client, grants, is_quiet=KINDS[client].is_quiet)

    def _clock_steps(self) -> None:
        """Let the wall clock step, unless a process has outlived its lock.

        On one machine nothing does; where several share a vault, its clock is the database's.
        What such a process has read before a step back would make grants due when it writes.
        """
        step = self.chance.choice(CLOCK_STEPS)
        if any(process.is_stale for process in self.processes):
            return
        self.chance.seen["clock stepped back" if step < 0 else "clock stepped ahead"] += 1
        self._wall_offset += step
        self.stepped_ahead += max(step, 0.0)
        self.witness.note(f"the wall clock steps by {step}")
        self.server.trouble()
        self.witness.too_early.clear()
        if step < 0:
            self.witness.refusals.clock_set_back()
        for process in self.processes:
            process.closing.clear()
            process.closed.clear()  # what a stepped clock does to a wait is not a promise

    def _look_at_times(self) -> None:
        self.witness.check_time()
        self.people.look()
        self.at(10.0 * self.pace, self._look_at_times)

    def _seed(self, name: str, client: str) -> Seed:
        pair = self.server.open(name, client, is_login=False)
        assert pair.refresh_token is not None
        return Seed(name=name, client=client, refresh_token=Secret(pair.refresh_token))

    def _static_seeds(self) -> list[Seed]:
        """Tokens that nobody refreshes."""
        return [
            Seed(
                name=f"static-{n}",
                kind=GrantKind.STATIC,
                access_token=Secret(f"static-{n}"),
                expires_at=self.now() + 100.0 * self.pace,
            )
            for n in range(STATIC_TOKENS)
        ]

    def _go_at(self, pace: float) -> None:
        """Let everything take PACE times as long, and look as much more rarely."""
        self.pace = pace
        self.server.slow_down(pace)
        watch.INTERVAL = revoking.INTERVAL = pace

    # the end

    def calm_down(self) -> None:
        """Let nothing befall anybody any more, and everything take its time."""
        self.chance.is_calm = True
        self._go_at(CALM)
        self.is_disk_out = False

    def take_up(self, file: Path) -> None:
        """Start a process where FILE is, once all others have ended, and let it recover."""
        self._stays_down = True
        self._run_until(lambda: not self.processes and not self._starting, ending=True)
        self._stays_down = False
        self._start_process(file)
        self._run_until(lambda: any(process.is_serving for process in self.processes))

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        until = self._now + seconds
        self.at(seconds, lambda: None)
        while self._now < until:
            self.step()

    def _run_until(self, is_reached: Callable[[], bool], *, ending: bool = False) -> None:
        began = self._now
        while not is_reached():
            if self._now > began + 600.0:
                self.witness.violated("G7: a start or a shutdown never ends")
            for process in self.processes:
                if ending and not process.is_paused:
                    process.terminate()
            self.run_for(1.0)

    def close(self) -> None:
        """Leave nothing behind."""
        for process in self.processes:
            process.end()
        self.disk.close()
