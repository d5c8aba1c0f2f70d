"""Measures what a start costs: CPU of commands, imports that cost most, an idle daemon's memory."""

import os
import re
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.daemon import DaemonProcess
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until

_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*(\S+)")

CLIENT = """
[clients.acme]
authorization_endpoint = "https://auth.example.com/authorize"
token_endpoint = "https://auth.example.com/token"
redirect_uris = ["http://127.0.0.1/callback"]
client_id = "acme"
client_secret = "not-a-secret"
"""

SECONDS_PER_TICK = 1 / os.sysconf("SC_CLK_TCK")


@contextmanager
def idle_daemon() -> Iterator[DaemonProcess]:
    """A real daemon with a client and no grant, ready, beside a Valkey of its own."""
    with TemporaryDirectory(prefix="refresher-startup-") as folder:
        server = Valkey()
        server.start()
        daemon = DaemonProcess(Path(folder))
        try:
            daemon.prepare(redis_url=server.url, clients=CLIENT)
            daemon.process = daemon.spawn("run")
            wait_until(daemon.ready_count, description="it is ready")
            yield daemon
        finally:
            if daemon.process is not None:
                daemon.stop()
            server.stop()


def cpu_seconds(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Seconds of CPU, user and system, that COMMAND and all its children take."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def median_cpu(command: Sequence[str], times: int) -> float:
    """The median of what COMMAND takes TIMES times."""
    return statistics.median(cpu_seconds(command) for _ in range(times))


def costly_imports(command: Sequence[str], most: int) -> list[tuple[str, float]]:
    """The packages whose modules took the longest to import in COMMAND, in seconds.

    What tracing adds is in these figures; they compare with each other only.
    """
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    costs: Counter[str] = Counter()
    for own, module in _IMPORT.findall(done.stderr):
        costs[module.partition(".")[0]] += int(own)
    return [(name, micros / 1e6) for name, micros in costs.most_common(most)]


def rss_megabytes(pid: int) -> float:
    """What the process PID has in memory, in MB of a million bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def own_megabytes(pid: int) -> float:
    """What of it is the process's own, and neither shared with others nor a page of a file."""
    told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.findall(r"^Private_Dirty: +(\d+) kB", told, flags=re.MULTILINE)[0]) * 1024 / 1e6


def process_cpu_seconds(pid: int) -> float:
    """Seconds of CPU that the process PID has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * SECONDS_PER_TICK
