"""Only a process that is stopped for long, and really holds the lock, is ended."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from refresher.vault.sqlite.fence import LOOKS, Fence
from tests.support.waiting import wait_until

HOLDER = """
import sys, time
from pathlib import Path
from refresher.vault.sqlite.file_lock import FileLock
lock = FileLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "vault.db.lock"


@pytest.fixture
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: ") T " in stat.read_text(), description="it is stopped")


def test_a_stopped_holder_is_ended_in_the_end(lock: Path, holder: subprocess.Popen[str]) -> None:
    fence = Fence(lock)
    stop(holder)
    looks = [fence.ends(holder.pid) for _ in range(LOOKS)]
    assert looks == [False] * (LOOKS - 1) + [True]
    assert holder.wait(5) == -signal.SIGKILL


def test_a_holder_that_woke_is_counted_anew(lock: Path, holder: subprocess.Popen[str]) -> None:
    fence = Fence(lock)
    stop(holder)
    for _ in range(LOOKS - 1):
        assert not fence.ends(holder.pid)
    holder.send_signal(signal.SIGCONT)
    stat = Path(f"/proc/{holder.pid}/stat")
    wait_until(lambda: ") T " not in stat.read_text(), description="it runs")
    assert not fence.ends(holder.pid)
    stop(holder)
    assert not any(fence.ends(holder.pid) for _ in range(LOOKS - 1))
    assert fence.ends(holder.pid)


def test_a_holder_that_runs_is_left_alone(lock: Path, holder: subprocess.Popen[str]) -> None:
    fence = Fence(lock)
    assert not any(fence.ends(holder.pid) for _ in range(2 * LOOKS))
    assert holder.poll() is None


def test_a_process_that_holds_nothing_is_left_alone(
    lock: Path, holder: subprocess.Popen[str]
) -> None:
    """The file names a pid that died, and somebody else has it now."""
    with subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], text=True
    ) as other:
        stop(other)
        fence = Fence(lock)
        assert not any(fence.ends(other.pid) for _ in range(2 * LOOKS))
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("pid", [None, 2**22 + 1])
def test_nobody_is_nobody(lock: Path, pid: int | None) -> None:
    lock.touch()
    fence = Fence(lock)
    assert not any(fence.ends(pid) for _ in range(2 * LOOKS))
