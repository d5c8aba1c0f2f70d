"""Running the commands that secrets come from: little environment, little output, little time."""

import os
import selectors
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

from refresher.settings.layers import LARGEST_FILE, decoded

COMMAND_TIMEOUT = 10.0
"""Seconds: a password manager that takes longer waits for a person who is not there."""

PASSED_ON = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TERM", "TMPDIR",
        # where a password manager finds its agent, its store, and what systemd gave us
        "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "GNUPGHOME", "GPG_TTY",
        "PASSWORD_STORE_DIR", "CREDENTIALS_DIRECTORY",
        # where a browser finds its screen
        "BROWSER", "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "WSL_DISTRO_NAME", "WSL_INTEROP",
    }
)  # fmt: skip
"""Variables that programs get which we start; whatever else is set may be a secret."""

PASSED_ON_PREFIXES = ("LC_", "XDG_")

Complain = Callable[[str, str], None]
"""Takes the name of a command that failed, and what it complained of."""


def clean(environment: Mapping[str, str]) -> dict[str, str]:
    """What of ENVIRONMENT other programs get."""
    return {
        name: value
        for name, value in environment.items()
        if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }


def clean_own_environment() -> None:
    """Leave in this process's environment only what programs get that it starts."""
    for name in set(os.environ) - set(clean(os.environ)):
        del os.environ[name]


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    timeout: float = COMMAND_TIMEOUT,
    complain: Complain | None = None,
) -> str:
    """What the command ARGUMENTS prints, without the newline at its end.

    It gets no shell, no input and no terminal, little of ENVIRONMENT (``PASSED_ON``), and at
    most TIMEOUT seconds.

    Args:
        complain: takes what a failed command complained of. Nobody else does: a command may
            complain of anything, its secret included.

    Raises:
        ValueError: it cannot be started, takes too long, prints too much, fails or prints no
            text.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  the operator's own command, without a shell
            arguments,
            env=clean(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ValueError(
            f"comes from the command {arguments[0]}, which cannot be started: {error.strerror}"
        ) from error
    except ValueError:
        # Not chained: the error may quote a word of the command.
        raise ValueError("comes from a command with a NUL in it") from None
    with process:
        try:
            output, complaint = _read(process, timeout)
        except BaseException as error:
            # The whole group: a child it left behind would keep the pipes open. Also where
            # SIGTERM ends the daemon meanwhile, which would wait for the command else.
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, ValueError):
                raise
            raise ValueError(f"comes from the command {arguments[0]}, which {error}") from None
    if process.returncode != 0:
        if complain is not None:
            complain(arguments[0], complaint.decode("utf-8", "replace"))
        raise ValueError(
            f"comes from the command {arguments[0]}, which failed with exit code "
            f"{process.returncode}"
        )
    try:
        return decoded(output)
    except ValueError as error:
        raise ValueError(f"comes from the command {arguments[0]}, whose output {error}") from error


def _read(process: subprocess.Popen[bytes], timeout: float) -> tuple[bytes, bytes]:
    """What PROCESS prints and complains of, until it ends.

    Raises:
        ValueError: it took more than TIMEOUT, or printed more than a secret has.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    printed, complained = process.stdout.fileno(), process.stderr.fileno()
    received = {printed: b"", complained: b""}
    with selectors.DefaultSelector() as selector, _alarm(timeout) as alarm:
        for pipe in (printed, complained, alarm):
            selector.register(pipe, selectors.EVENT_READ)
        while len(selector.get_map()) > 1:
            for key, _ in selector.select():
                chunk = os.read(key.fd, LARGEST_FILE)
                if key.fd == alarm:
                    raise ValueError(f"took more than {timeout:g} s")
                if not chunk:
                    selector.unregister(key.fd)
                # Of a complaint the beginning will do.
                received[key.fd] = (received[key.fd] + chunk)[: LARGEST_FILE + 1]
            if len(received[printed]) > LARGEST_FILE:
                raise ValueError(f"printed more than {LARGEST_FILE} bytes: no secret has that many")
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        raise ValueError(f"took more than {timeout:g} s") from None
    return received[printed], received[complained]


@contextmanager
def _alarm(seconds: float) -> Iterator[int]:
    """A descriptor that can be read once SECONDS have passed."""
    end, begin = os.pipe()
    timer = Timer(seconds, os.write, (begin, b"!"))
    timer.daemon = True
    timer.start()
    try:
        yield end
    finally:
        timer.cancel()
        timer.join()
        os.close(end)
        os.close(begin)
