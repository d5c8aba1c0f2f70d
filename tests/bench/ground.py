"""The ground of every figure: cores, CPU seconds, windows, alternation, medians.

What is measured has one core for itself; the token endpoint, Valkey and this program have
the other. Nothing that is measured is asked about itself: the endpoint counts its answers,
the kernel counts the CPU of the process, and both are read at the beginning and at the end
of a window.
"""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
"""The checkout that is measured."""

BETWEEN_LOOKS = 0.01
"""Seconds between two looks at what the endpoint has answered."""

LONGEST_WAIT = 120.0
"""Seconds without any progress after which a contender counts as broken."""


class NotMeasured(Exception):
    """Raised when a figure cannot be had on this machine; says why."""


class TooLate(NotMeasured):
    """Raised when a machine was so busy that the work began before the look at it did."""


@dataclass(frozen=True)
class Cores:
    """Who runs where."""

    measured: int
    others: int

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """The first core that this process may use, and the last."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[0], usable[-1])


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Whatever is started inside runs on CORE alone, all its threads, from its first instant."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """User and system time of the process PID so far, all its threads, those that ended too.

    The clock id is the one of clock_getcpuclockid(3): exact, where /proc counts hundredths.
    """
    return time.clock_gettime((~pid << 3) | 2)


def waited_seconds(pid: int) -> float:
    """How long the main thread of PID stood ready to run while others had its core.

    On a machine that is busy with other things this is in every latency. Zero where the kernel
    does not count it.
    """
    path = Path(f"/proc/{pid}/schedstat")
    return int(path.read_text().split()[1]) / 1e9 if path.exists() else 0.0


def resident_mib(pid: int, which: str = "VmRSS") -> float:
    """Memory of the process PID in MiB; ``VmHWM`` is the most it ever had."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(f"{which}:"))
    return int(line.split()[1]) / 1024


@dataclass(frozen=True)
class Window:
    """What one contender did between two looks."""

    answers: int
    cpu: float
    """CPU seconds of what was measured."""
    wall: float
    endpoint_cpu: float
    """CPU seconds of the token endpoint."""

    @property
    def cpu_us(self) -> float:
        """CPU microseconds an answer: the figure that a busy machine does not change much."""
        return self.cpu / self.answers * 1e6

    @property
    def per_second(self) -> float:
        """Answers a second of wall time."""
        return self.answers / self.wall

    @property
    def endpoint_us(self) -> float:
        """CPU microseconds an answer cost the endpoint."""
        return self.endpoint_cpu / self.answers * 1e6


@dataclass(frozen=True)
class Look:
    """Counts and clocks at one instant."""

    answers: int
    cpu: float
    wall: float
    endpoint_cpu: float


def between(first: Look, last: Look) -> Window:
    """What happened from FIRST to LAST.

    Raises:
        NotMeasured: nothing was answered.
    """
    if last.answers == first.answers:
        raise NotMeasured("nothing was answered")
    return Window(
        last.answers - first.answers,
        last.cpu - first.cpu,
        last.wall - first.wall,
        last.endpoint_cpu - first.endpoint_cpu,
    )


def await_count(count: Callable[[], float], at_least: float) -> None:
    """Return when COUNT says AT_LEAST that.

    Raises:
        NotMeasured: nothing moved for long.
    """
    seen, moved = -1.0, time.monotonic()
    while (now_at := count()) < at_least:
        now = time.monotonic()
        if now_at > seen:
            seen, moved = now_at, now
        if now - moved > LONGEST_WAIT:
            raise NotMeasured(f"{now_at:g} of {at_least:g}, and no more for {LONGEST_WAIT:g} s")
        time.sleep(BETWEEN_LOOKS)


LEAD = 8.0
"""Seconds between the preparation of a daemon and the instant at which its work begins: it has
started by then, and has published what it found."""


def in_time(measure: Callable[[float], T]) -> T:
    """MEASURE with a lead that is long enough for this machine as busy as it is.

    Raises:
        NotMeasured: even a long one is not.
    """
    for times in (1, 2, 4, 8, 16):
        with suppress(TooLate):
            return measure(LEAD * times)
    raise NotMeasured(f"the daemon was not ready within {LEAD * 16:g} s")


Contenders = Mapping[str, Callable[[], Window]]
"""Each starts something, measures it once, and ends it."""


def alternate(
    contenders: Contenders, rounds: int, progress: Callable[[str], None]
) -> dict[str, list[Window]]:
    """Measure each of CONTENDERS once a round, in turn, so that all meet the same machine."""
    windows: dict[str, list[Window]] = {name: [] for name in contenders}
    for number in range(rounds):
        # Every other round backwards: what drifts within a round favours nobody.
        turn = list(contenders)[:: 1 if number % 2 == 0 else -1]
        for name in turn:
            window = contenders[name]()
            windows[name].append(window)
            progress(
                f"round {number + 1} of {rounds}, {name}: {window.cpu_us:.0f} us of CPU a refresh, "
                f"{window.per_second:.0f}/s"
            )
    return windows


@dataclass(frozen=True)
class Ratio:
    """How much faster ours is than theirs: medians of alternating rounds."""

    by_cpu: float
    by_wall: float
    ours_us: float
    theirs_us: float
    spread: float
    """Half the distance between the quartiles of the rounds' own ratios."""
    rounds: int
    headroom: float
    """How many times faster than theirs the endpoint was: its CPU an answer against theirs."""


def ratio(ours: Sequence[Window], theirs: Sequence[Window]) -> Ratio:
    """OURS against THEIRS, which were measured in turn."""
    ours_us = median(window.cpu_us for window in ours)
    theirs_us = median(window.cpu_us for window in theirs)
    each = [theirs.cpu_us / ours.cpu_us for ours, theirs in zip(ours, theirs, strict=True)]
    return Ratio(
        by_cpu=theirs_us / ours_us,
        by_wall=median(window.per_second for window in ours)
        / median(window.per_second for window in theirs),
        ours_us=ours_us,
        theirs_us=theirs_us,
        spread=(percentile(each, 0.75) - percentile(each, 0.25)) / 2,
        rounds=len(each),
        headroom=theirs_us / median(window.endpoint_us for window in theirs),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which SHARE of VALUES are; interpolated.

    Raises:
        NotMeasured: there are no values.
    """
    if not values:
        raise NotMeasured("nothing happened")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def machine() -> str:
    """Processor, cores, kernel and Python, and how busy the machine is with other things."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    load = " ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{models[0] if models else platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"Linux {platform.release()}, Python {platform.python_version()}, load {load}"
    )
