"""Where a secret is kept outside the settings, and how it is read: at start, and again later.

Everything here may block, for as long as a file system or a command likes: a daemon calls
it in a thread. No text of a failure holds anything of a secret.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from refresher.domain.secret import Secret
from refresher.files import Unseen
from refresher.settings.commands import run
from refresher.settings.layers import KeyPath, read_text_file
from refresher.settings.report import shown
from refresher.settings.urls import proxy_fault, redis_fault

Stamp = tuple[int, ...]
"""What tells one content of a file from the next without reading it."""


class OfService(Unseen):
    """Raised when a credential is the service's alone: no user sees it (systemd.exec(5))."""


class Needed(Enum):
    """Which secrets a command has a use for: no other is read, and no command of one run."""

    NONE = auto()
    VAULT = auto()
    """To open a vault that is no file."""
    REDIS = auto()
    """To reach Redis too."""
    ALL = auto()


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
            Unseen: permission is denied.
            ValueError: says which file and why.
        """
        file = self.find()
        try:
            return read_text_file(file)
        except Unseen as error:
            raise Unseen(f"is in the file {file}, which {error}") from error
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
        """What it prints now, without the newline at its end.

        Raises:
            ValueError: see ``commands.run``.
        """
        return run(self.arguments, self.environment, self.folder)


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
