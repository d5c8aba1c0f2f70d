"""A real daemon process for tests: its settings, its vault, its log."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refresher.vault.sealing import write_key_file
from tests.support.emitted import note
from tests.support.forked import NOTHING, ForkedProcess, run_command
from tests.support.waiting import PATIENCE, wait_until

SETTINGS = """
[vault]
path = "refresher.db"
[redis]
url = "{redis_url}"
[log]
format = "json"
level = "debug"
{clients}
"""

CLIENT = """
[clients.{name}]
authorization_endpoint = "{base_url}/authorize"
token_endpoint = "{base_url}/token"
redirect_uris = ["http://127.0.0.1/callback/{name}"]
client_id = "{client_id}"
client_secret = "{client_secret}"
rotation = "{rotation}"
{more}
"""


@dataclass(slots=True)
class DaemonProcess:
    """One folder with settings, key and vault, and the daemon that runs on it."""

    folder: Path
    process: subprocess.Popen[bytes] | ForkedProcess | None = None
    kills: list[float] = field(default_factory=list)
    """Wall times at which a daemon was killed."""
    _lines: list[dict[str, Any]] = field(default_factory=list)
    _read: int = 0

    @property
    def config(self) -> Path:
        """The settings file."""
        return self.folder / "refresher.toml"

    @property
    def log(self) -> Path:
        """Stdout and stderr of every daemon and command run here."""
        return self.folder / "daemon.log"

    @property
    def program(self) -> list[str]:
        """What every command line begins with."""
        return [sys.executable, "-m", "refresher", "--config", str(self.config)]

    def prepare(self, *, redis_url: str, clients: str) -> None:
        """Write settings and key."""
        self.config.touch(0o600)
        self.config.write_text(SETTINGS.format(redis_url=redis_url, clients=clients))
        write_key_file(self.folder / "refresher.key")

    def start(
        self,
        *arguments: str,
        wait: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start the daemon; WAIT until it says that it is ready.

        It is forked with its imports done; one that is started as a person does is ``spawn``'s.
        """
        seen = self.ready_count()
        self.process = self.fork("run", *arguments, environment=environment)
        if wait:
            wait_until(
                lambda: self.ready_count() > seen,
                description=f"the daemon is ready: {self.log.read_text()[-3000:]}",
            )

    def fork(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdin: Path = NOTHING,
        log: Path | None = None,
    ) -> ForkedProcess:
        """Start one refresher command that writes to LOG, the daemon's if that is None."""
        return ForkedProcess(
            ["--config", str(self.config), *arguments],
            log=log or self.log,
            environment={**os.environ, **(environment or {})},
            stdin=stdin,
        )

    def spawn(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdin: Path = NOTHING,
        log: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """The same with a first line and a command line of its own."""
        with (log or self.log).open("ab") as output, stdin.open("rb") as given:
            return subprocess.Popen(
                [*self.program, *arguments],
                stdin=given,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )

    def start_stepped(self, offset_file: Path) -> None:
        """Start the daemon on a clock that OFFSET_FILE steps, and return at once."""
        self._start_as("tests.support.stepped_daemon", str(offset_file))

    def start_slow(self, seconds: float) -> None:
        """Start the daemon on a disk that takes SECONDS more, and return at once."""
        self._start_as("tests.support.slow_daemon", str(seconds))

    def start_measured(self, lags_file: Path) -> None:
        """Start the daemon that measures its loop, and return at once."""
        self._start_as("tests.hostile.daemon", str(lags_file))

    def start_hasty(self, times: float) -> None:
        """Start the daemon in which doubt passes TIMES as fast, and return at once."""
        self._start_as("tests.support.hasty_daemon", str(times))

    def start_faulty(self, faults: Path) -> None:
        """Start the daemon on a machine with the FAULTS of that folder, and return at once."""
        self._start_as("tests.support.faulty_daemon", str(faults))

    def _start_as(self, module: str, argument: str) -> None:
        arguments = [str(self.config), argument]
        self.process = ForkedProcess(arguments, log=self.log, module=module)

    def hang_up(self) -> None:
        """SIGHUP: read the settings again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the daemon at once and see it dead."""
        assert self.process is not None
        self.kills.append(time.time())
        self.process.send_signal(number)
        self.process.wait(timeout=PATIENCE)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=PATIENCE)

    def ready_count(self) -> int:
        """How often a daemon has become ready here."""
        return len(self.events("daemon.ready"))

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The log lines whose event is one of NAMES."""
        return [line for line in self.lines() if line.get("event") in names]

    def lines(self) -> list[dict[str, Any]]:
        """Every line logged so far."""
        self._read_on()
        return self._lines

    def _read_on(self) -> None:
        """Read what was logged since the last time: some runs ask a thousand times."""
        if not self.log.exists():
            return
        with self.log.open("rb") as log:
            log.seek(self._read)
            content = log.read()
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if line.startswith(b"{"):
                with suppress(ValueError):  # cut short: by a kill, or by a full disk
                    self._lines.append(json.loads(line))
                    note(str(self._lines[-1].get("event")))

    def command(
        self,
        *arguments: str,
        text: str = "",
        check: int | None = 0,
        environment: Mapping[str, str] | None = None,
        logged: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run one refresher command.

        Args:
            check: the exit code it must have.
            logged: keep its output in the log, where no secret may be.
        """
        done = run_command(
            ["--config", str(self.config), *arguments],
            text=text,
            environment={**os.environ, **(environment or {})},
        )
        with self.log.open("a") as log:
            log.write((done.stdout if logged else "") + done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        if check is not None:
            assert done.returncode == check, (arguments, done.returncode, done.stderr)
        return done
