"""Processes of refresher that are forked from one which has done the imports.

They are real processes all the same, with a pid, files and an end of their own. Only the
imports are spared, the longest part of a short life: a second of CPU for each of some hundred
daemons and commands.
"""

import atexit
import importlib
import multiprocessing
import multiprocessing.process
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import BinaryIO

import refresher.cli
from tests.support.waiting import PATIENCE

NOTHING = Path(os.devnull)

FORKS = multiprocessing.get_context("forkserver")

REFRESHER = refresher.cli.__name__

COMMANDS = [
    f"refresher.cli.{path.stem}" for path in Path(refresher.cli.__file__).parent.glob("*.py")
]

FORKS.set_forkserver_preload(
    [
        *COMMANDS,
        "refresher.app.looking",
        "refresher.app.standby",
        "refresher.app.without_daemon",
        "refresher.cli.status.command",
        "anyio._backends._asyncio",
        "tests.support.emitted",
        "tests.support.probed_daemon",
        "tests.support.stepped_daemon",
        "pytest",
        "tests.support.warmed",
        "tests.support.frozen",
    ]
)
# pytest: a fork imports whatever started the tests, which is pytest's own command.
# frozen: the last, so that it freezes what the others made.


_DAEMONS: set[BaseProcess] = set()


def start(process: BaseProcess) -> None:
    """Start PROCESS, whose end its owner alone asks for.

    Whoever starts a process asks for the end of all that multiprocessing knows, in any thread.
    Of two that ask at once only one is told; the other takes the silence for exit status 255.
    """
    process.start()
    multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]  # not public
    if process.daemon:
        _DAEMONS.add(process)


@atexit.register
def _end_daemons() -> None:
    for process in _DAEMONS:
        if process.is_alive():
            process.kill()


def run_command(
    arguments: Sequence[str],
    *,
    text: str = "",
    environment: Mapping[str, str] = os.environ,
    folder: Path | None = None,
    within: float = PATIENCE,
) -> subprocess.CompletedProcess[str]:
    """Run ``refresher ARGUMENTS`` to its end, as ``subprocess.run`` would.

    Args:
        text: its standard input.
        environment: all of its environment.
        folder: where it runs, if not here.
        within: seconds it may take.
    """
    with tempfile.TemporaryDirectory() as place:
        stdin, stdout, stderr = (Path(place) / name for name in ("stdin", "stdout", "stderr"))
        stdin.write_text(text)
        files = (stdin, stdout, stderr)
        process = FORKS.Process(
            target=_be, args=(arguments, dict(environment), files, folder or Path.cwd())
        )
        start(process)
        process.join(within)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), within)
        return subprocess.CompletedProcess(
            list(arguments), process.exitcode, stdout.read_text(), stderr.read_text()
        )


class ForkedProcess:
    """``refresher ARGUMENTS`` with its output at the end of LOG, as ``subprocess.Popen`` has it.

    Args:
        stdin: a pipe with a name, or a file; nothing if none is given.
        module: whose ``main`` it is, if not refresher's.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str] = os.environ,
        stdin: Path = NOTHING,
        module: str = REFRESHER,
    ) -> None:
        log.touch()
        files = (stdin, log, log)
        self._process = FORKS.Process(
            target=_be,
            args=(arguments, dict(environment), files, Path.cwd(), module),
            daemon=True,
        )
        start(self._process)
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended.

        Raises:
            TimeoutExpired: it has not after TIMEOUT seconds.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("refresher", timeout or 0.0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it the signal NUMBER, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def take_streams(stdin: BinaryIO, stdout: BinaryIO, stderr: BinaryIO) -> None:
    """Have these files as one's standard streams from now on."""
    for number, file in enumerate((stdin, stdout, stderr)):
        os.dup2(file.fileno(), number)


def _be(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    files: tuple[Path, Path, Path],
    folder: Path,
    module: str = REFRESHER,
) -> None:
    """The whole of a forked command; it may end with SystemExit."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    stdin, stdout, stderr = files
    with stdin.open("rb") as given, stdout.open("ab") as said, stderr.open("ab") as complained:
        take_streams(given, said, complained)
    sys.argv = ["refresher", *arguments]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  multiprocessing has put /dev/null there
    try:
        importlib.import_module(module).main()
    finally:
        atexit._run_exitfuncs()  # multiprocessing leaves them out; the log's last lines are there
