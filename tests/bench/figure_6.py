"""Where the time goes: a profile of the pipeline at saturation, by room and by function.

py-spy looks from outside, at the thread that holds the interpreter. What runs in C counts
for the function that called it. The microseconds are the shares of what a refresh costs in
the same run.
"""

import signal
import subprocess
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.bench.ground import ROOT, NotMeasured, between, in_time
from tests.bench.servers import Readers, look_when
from tests.bench.session import Bar, Found, Row, Session

TITLE = "where the time goes"

LOOKS = 200
"""Looks a second."""

ROOMS, FUNCTIONS = 20, 20
"""How many of each the table names."""

MOST = 60
"""How many of each ``--json`` has."""

OURS = f"{ROOT}/refresher/"
LIBRARY = sysconfig.get_paths()["stdlib"] + "/"

Stack = tuple[tuple[str, str], ...]
"""Files and functions, the outermost first."""


def measure(session: Session) -> Found:
    """The profile of one daemon with everything due at once."""
    stacks, cpu_us = _profiled(session)
    total = stacks.total()
    if not total:
        raise NotMeasured("the profiler saw nothing")
    rooms: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for stack, count in stacks.items():
        rooms[room(stack[-1][0])] += count
        functions[last_of_ours(stack)] += count

    def rows(found: Counter[str], most: int) -> list[Row]:
        return [
            Row(name, f"{count / total:6.1%}  {cpu_us * count / total:6.0f} us")
            for name, count in found.most_common(most)
        ]

    def shares(found: Counter[str]) -> dict[str, float]:
        return {name: round(count / total, 4) for name, count in found.most_common(MOST)}

    return Found(
        [
            Row("all of one refresh", f"{1:6.1%}  {cpu_us:6.0f} us", "", f"{total} looks"),
            *rows(rooms, ROOMS),
            Row("our function, with what it calls that is not ours", "", ""),
            *rows(functions, FUNCTIONS),
        ],
        {
            "cpu_us": round(cpu_us, 1),
            "rooms": shares(rooms),
            "functions": shares(functions),
        },
        [Bar(name, 100 * count / total) for name, count in rooms.most_common(12)],
        "share of the time that the interpreter is held, %",
    )


def _profiled(session: Session) -> tuple[Counter[Stack], float]:
    """The stacks that were seen, and CPU microseconds a refresh."""
    return in_time(lambda lead: _profiled_after(session, lead))


def _profiled_after(session: Session, lead: float) -> tuple[Counter[Stack], float]:
    ground, grants = session.ground, session.depth.profiled
    with ground.servers() as (endpoint, valkey), ground.folder() as folder:
        at = time.time() + lead
        with (
            ground.daemon(endpoint, valkey, grants, lambda _: at) as daemon,
            Readers(valkey, daemon.version) as readers,
        ):
            daemon.start_before(at, ground.cores.measured)
            profiler = _start_profiler(session, daemon.pid, folder / "stacks")
            first = look_when(endpoint, daemon.pid, endpoint.answered, 1)
            last = look_when(endpoint, daemon.pid, lambda: len(readers.renewed), grants)
            profiler.send_signal(signal.SIGINT)
            said = profiler.communicate(timeout=60)[1]
            if not (folder / "stacks").exists():
                raise NotMeasured(f"py-spy: {' '.join(said.strip().splitlines()[-1:])}")
            return read_stacks(folder / "stacks"), between(first, last).cpu_us


def _start_profiler(session: Session, pid: int, path: Path) -> "subprocess.Popen[str]":
    program = session.environments.python().with_name("py-spy")
    # Not pausing it: on a busy machine the profiler would hold the daemon for whole time slices.
    options = [
        "--gil",
        "--nonblocking",
        "--format",
        "raw",
        "--full-filenames",
        "--rate",
        str(LOOKS),
    ]
    return subprocess.Popen(
        [str(program), "record", "--pid", str(pid), *options, "--output", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_stacks(path: Path) -> Counter[Stack]:
    """The stacks in a file of py-spy's raw format: ``function (file:line);... count``."""
    stacks: Counter[Stack] = Counter()
    for line in path.read_text().splitlines():
        frames, _, count = line.rpartition(" ")
        stacks[tuple(_frames(frames))] += int(count)
    return stacks


def _frames(text: str) -> Iterator[tuple[str, str]]:
    for frame in text.split(";"):
        function, _, place = frame.rpartition(" (")
        yield place.rpartition(":")[0] or place.rstrip(")"), function


def room(file: str) -> str:
    """The room, the library or the module of Python that FILE belongs to."""
    if file.startswith(OURS):
        return f"refresher {file.removeprefix(OURS).split('/')[0].removesuffix('.py')}"
    if "/site-packages/" in file:
        return file.partition("/site-packages/")[2].split("/")[0].removesuffix(".py")
    if file.startswith(LIBRARY):
        return f"Python {file.removeprefix(LIBRARY).split('/')[0].removesuffix('.py')}"
    return "Python itself"


def last_of_ours(stack: Stack) -> str:
    """The innermost function of refresher in STACK."""
    for file, function in reversed(stack):
        if file.startswith(OURS):
            return f"{file.removeprefix(OURS)} {function}"
    return "no function of refresher: the event loop"
