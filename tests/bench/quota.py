"""A part of a core for a process and all its threads: a quota of its control group.

Two daemons on one core show what a second one brings only if neither may take the other's part.
Linux keeps such a quota in both versions of its control groups; whoever is not root, or is in a
container that shows none, gets none.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.bench.ground import NotMeasured

PERIOD_US = 20_000
"""Short against an exchange: a daemon that has used its part up is a slow one, not a stopped one,
and keeps no lock of the database for long."""

VERSION_1 = Path("/sys/fs/cgroup/cpu")
VERSION_2 = Path("/sys/fs/cgroup")

GONE_WITHIN = 5.0
"""Seconds in which the system forgets processes that have ended."""


class Quota:
    """Groups that hold whoever is put into one to SHARE of a core.

    Args:
        share: of one core, for each group.
        version_1: where the first version is mounted, if it is.
        version_2: the same of the second.
    """

    def __init__(
        self, share: float, *, version_1: Path = VERSION_1, version_2: Path = VERSION_2
    ) -> None:
        self.share = share
        self._version_1, self._version_2 = version_1, version_2

    @contextmanager
    def group(self, name: str) -> Iterator["Group"]:
        """A group NAME, which is gone afterwards with the processes in it.

        Raises:
            NotMeasured: this machine gives none to this user.
        """
        named = f"refresher-bench-{os.getpid()}-{name}"
        quota = str(int(PERIOD_US * self.share))
        if (self._version_1 / "cpu.cfs_quota_us").exists():
            folder = self._version_1 / named
            settings = {"cpu.cfs_period_us": str(PERIOD_US), "cpu.cfs_quota_us": quota}
        elif (self._version_2 / "cgroup.controllers").exists():
            folder = self._version_2 / named
            settings = {"cpu.max": f"{quota} {PERIOD_US}"}
        else:
            raise NotMeasured("no control group of this machine can hold a process to a quota")
        try:
            if "cpu.max" in settings:
                (self._version_2 / "cgroup.subtree_control").write_text("+cpu")
            folder.mkdir()
        except OSError as error:
            raise NotMeasured(f"no control group can be made: {error.strerror}") from error
        try:
            for setting, value in settings.items():
                (folder / setting).write_text(value)
            yield Group(folder)
        except OSError as error:
            raise NotMeasured(f"the control group takes no quota: {error.strerror}") from error
        finally:
            _remove(folder)


class Group:
    """One group."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, pid: int) -> None:
        """Hold the process PID, all its threads, to the quota from now on."""
        (self._folder / "cgroup.procs").write_text(str(pid))


def _remove(folder: Path) -> None:
    until = time.monotonic() + GONE_WITHIN
    while folder.exists():
        with suppress(OSError):  # busy: its last process has ended just now
            folder.rmdir()
            return
        if time.monotonic() > until:
            return  # an empty group costs nothing
        time.sleep(0.05)
