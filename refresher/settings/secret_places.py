"""Where a secret is kept outside the settings, and how it is read: at start, and again later.

Everything here may block, for as long as a file system or a command likes: a daemon calls
it in a thread. No text of a failure holds anything of a secret.
"""

import os
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from refresher.domain.secret import Secret
from refresher.settings.layers import KeyPath, decoded, read_text_file
from refresher.settings.report import shown
from refresher.settings.urls import proxy_fault, redis_fault

COMMAND_TIMEOUT = 10.0
"""Seconds: a password manager that takes longer waits for a person who is not there."""

LONGEST_COMPLAINT = 200
"""Characters of a failed command's first line of complaint that are shown."""

Stamp = tuple[int, ...]
"""What tells one content of a file from the next without reading it."""


@dataclass(frozen=True, slots=True)
class InFiles:
    """The secret is the content of the first of FILES that exists."""

    files: tuple[Path, ...]

    def stamp(self) -> Stamp | None:
        """Which file it is and when it was last changed; None where it cannot be told.

        Symlinks are followed: Kubernetes swaps the link of a whole folder. The time of the
        last change of the inode is part of it, because copying tools set the other one back.
        """
        try:
            found = self.find().stat()
        except (OSError, ValueError):
            return None
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

    def read(self) -> str:
        """The content without the newline at its end.

        Raises:
            ValueError: says which file and why.
        """
        file = self.find()
        try:
            return read_text_file(file)
        except ValueError as error:
            raise ValueError(f"is in the file {file}, which {error}") from error

    def find(self) -> Path:
        """The file that counts; the last one if there is none."""
        *preferred, last = self.files
        return next((file for file in preferred if os.path.lexists(file)), last)


@dataclass(frozen=True, slots=True)
class Printed:
    """The secret is what a command prints."""

    arguments: Sequence[str] = field(repr=False)
    """Not shown: a person may have put something secret among them."""
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    """Where it is started."""

    def read(self) -> str:
        """What it prints now, without the newline at its end; its complaints are left out.

        Raises:
            ValueError: see ``run``.
        """
        return run(self.arguments, self.environment, self.folder, complains=False)


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at one look at a file."""

    stamp: Stamp | None
    value: Secret | None = None
    """None where it was not read, or cannot be used."""
    fault: str | None = None
    """Why it cannot be used."""


@dataclass(frozen=True, slots=True)
class Rereadable:
    """A secret that may change while the daemon runs, because it is kept elsewhere."""

    path: KeyPath
    """Its key in the settings."""
    place: InFiles | Printed

    @property
    def key(self) -> str:
        """Its key as a person would write it."""
        return shown(self.path)

    def read(self) -> Look:
        """What is there now."""
        # The stamp first: what is written between the two is found at the next look.
        stamp = self.place.stamp() if isinstance(self.place, InFiles) else None
        try:
            value = self.place.read()
        except ValueError as error:
            return Look(stamp, fault=str(error))
        fault = "is empty" if not value else FAULTS.get(str(self.path[-1]), _no_fault)(value)
        return Look(stamp, fault=fault) if fault else Look(stamp, Secret(value))

    def read_if_changed(self, known: Stamp | None) -> Look:
        """What is there now, unread if the file is the one with the stamp KNOWN."""
        if known is not None and isinstance(self.place, InFiles) and self.place.stamp() == known:
            return Look(known)
        return self.read()


def _no_fault(_: str) -> None:
    """Whatever is not empty can be a password."""


FAULTS: Mapping[str, Callable[[str], str | None]] = {"proxy": proxy_fault, "url": redis_fault}
"""What is wrong with a value, by the key's last part."""


def is_world_readable(file: Path) -> bool:
    """Whether every user of this machine may read FILE."""
    try:
        return bool(stat.S_IMODE(file.stat().st_mode) & stat.S_IROTH)
    except (OSError, ValueError):
        return False


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    timeout: float = COMMAND_TIMEOUT,
    complains: bool = True,
) -> str:
    """What the command ARGUMENTS prints, without the newline at its end.

    It gets no shell, no input and no terminal, and at most TIMEOUT seconds.

    Args:
        complains: tell the first line of a failed command's complaint; a log may not hold
            it, since nobody knows what a command complains of.

    Raises:
        ValueError: it cannot be started, takes too long, fails or prints no text.
    """
    try:
        process = subprocess.Popen(  # noqa: S603  the operator's own command, without a shell
            arguments,
            env=dict(environment),
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
            output, complaint = process.communicate(timeout=timeout)
        except BaseException as error:
            # The whole group: a child it left behind would keep the pipes open. Also where
            # SIGTERM ends the daemon meanwhile, which would wait for the command else.
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            # Not chained: the error carries what was printed so far.
            raise ValueError(
                f"comes from the command {arguments[0]}, which took more than {timeout:g} s"
            ) from None
    if process.returncode != 0:
        told = _first_line(complaint, output) if complains else ""
        raise ValueError(
            f"comes from the command {arguments[0]}, which failed with exit code "
            f"{process.returncode}{told}"
        )
    try:
        return decoded(output)
    except ValueError as error:
        raise ValueError(f"comes from the command {arguments[0]}, whose output {error}") from error


def _first_line(complaint: bytes, output: bytes) -> str:
    """The first line of a failed command's complaint, freed of anything it also printed."""
    text = complaint.decode("utf-8", "replace").strip()
    for printed in output.decode("utf-8", "replace").split():
        text = text.replace(printed, "***")
    line = text.partition("\n")[0][:LONGEST_COMPLAINT]
    return f": {line}" if line else ""
