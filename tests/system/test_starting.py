"""Commands while a daemon starts: it has the vault, and answers nobody yet."""

import fcntl
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE

import pytest

from refresher.cli import calling
from refresher.cli.calling import calling as reached
from refresher.errors import DaemonStarting, VaultInUse
from refresher.settings.loading import load
from refresher.vault.sqlite.file_lock import FileLock, daemon_in
from tests.support.daemon import DaemonProcess
from tests.support.waiting import wait_until


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    daemon = DaemonProcess(tmp_path)
    daemon.prepare(redis_url="redis://127.0.0.1:1", clients="")
    yield daemon
    if daemon.process is not None:
        daemon.kill()


def lock_of(daemon: DaemonProcess) -> Path:
    return daemon.folder / "refresher.db.lock"


def test_a_command_waits_for_the_daemon_that_starts(daemon: DaemonProcess) -> None:
    daemon.start_slow(0.5)
    wait_until(lambda: daemon_in(lock_of(daemon)) is not None, description="it has the vault")
    assert daemon.process is not None
    pid = daemon.process.pid
    os.kill(pid, signal.SIGSTOP)
    assert daemon.ready_count() == 0
    command = [*daemon.program, "status", "--json"]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as asking:
        assert asking.stderr is not None
        told = asking.stderr.readline()
        os.kill(pid, signal.SIGCONT)
        answer, rest = asking.communicate()
    assert (told, rest) == (f"the daemon (process {pid}) is starting: waiting for it\n", "")
    assert json.loads(answer)["daemon"]["pid"] == pid


@pytest.mark.parametrize("is_daemon", [True, False])
async def test_a_holder_that_does_not_answer_is_told_by_what_it_is(
    daemon: DaemonProcess,
    is_daemon: bool,  # noqa: FBT001  a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calling, "LOOKS", 2)
    settings = load(daemon.config).settings
    monkeypatch.setattr(calling, "_load_alone", lambda *_: settings)
    lock = FileLock(lock_of(daemon), is_daemon=is_daemon)
    lock.acquire()
    expected, told = (
        (DaemonStarting, "it is starting or ending")
        if is_daemon
        else (
            VaultInUse,
            "is in use by process",
        )
    )
    with pytest.raises(expected, match=told):
        async with reached(settings):
            pass
    lock.release()


def test_a_daemon_that_is_gone_is_waited_for_by_nobody(tmp_path: Path) -> None:
    """The text stays when it has ended, and its pid may be another process's by now."""
    path = tmp_path / "vault.db.lock"
    assert daemon_in(path) is None
    lock = FileLock(path, is_daemon=True)
    lock.acquire()
    assert daemon_in(path) is not None
    lock.release()
    assert path.read_text().endswith(" daemon\n")
    assert daemon_in(path) is None
    with path.open() as command:
        fcntl.flock(command, fcntl.LOCK_EX)
        path.write_text(path.read_text().replace(" daemon", ""))
        assert daemon_in(path) is None, "a command"
