"""Processes of refresher that are forked from one which has done the imports.

They are real processes all the same, with a pid, files and an end of their own. Only the
imports are spared, the longest part of a short life: half a second for each of some hundred
commands.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from refresher.cli import main

FORKS = multiprocessing.get_context("forkserver")

FORKS.set_forkserver_preload(
    ["refresher.cli", "refresher.app.standby", "tests.support.probed_daemon", "pytest"]
)
# pytest: a fork imports whatever started the tests, which is pytest's own command.


def run_command(
    arguments: Sequence[str], *, text: str, environment: Mapping[str, str], within: float
) -> subprocess.CompletedProcess[str]:
    """Run ``refresher ARGUMENTS`` to its end, as ``subprocess.run`` would.

    Args:
        text: its standard input.
        environment: all of its environment.
        within: seconds it may take.
    """
    with tempfile.TemporaryDirectory() as folder:
        stdin, stdout, stderr = (Path(folder) / name for name in ("stdin", "stdout", "stderr"))
        stdin.write_text(text)
        files = (stdin, stdout, stderr)
        process = FORKS.Process(target=_be, args=(arguments, dict(environment), files, Path.cwd()))
        process.start()
        process.join(within)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(list(arguments), within)
        return subprocess.CompletedProcess(
            list(arguments), process.exitcode, stdout.read_text(), stderr.read_text()
        )


def take_streams(stdin: BinaryIO, stdout: BinaryIO, stderr: BinaryIO) -> None:
    """Have these files as one's standard streams from now on."""
    for number, file in enumerate((stdin, stdout, stderr)):
        os.dup2(file.fileno(), number)


def _be(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    files: tuple[Path, Path, Path],
    folder: Path,
) -> None:
    """The whole of a forked command; it ends with SystemExit."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    stdin, stdout, stderr = files
    with stdin.open("rb") as given, stdout.open("wb") as said, stderr.open("wb") as complained:
        take_streams(given, said, complained)
    sys.argv = ["refresher", *arguments]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  multiprocessing has put /dev/null there
    main()
