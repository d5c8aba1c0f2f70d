"""Bringing a new key into the key file, so that a kill at any instant costs nothing.

The file is replaced as a whole, by one that is durable before it takes the name: whoever
reads it finds the old keys, or the new one above all of them. Only a process that holds the
vault's lock does it (``keys.bring_in``). What was sealed before opens with the lines below; when
they can go is for a person to say, who knows of backups (``resealing``).
"""

import os
import stat
from pathlib import Path

from refresher.errors import VaultKeyError
from refresher.files import ABSENT


def bring_in_key(path: Path, line: str) -> None:
    """Write the key LINE above the others in the key file PATH, unless it stands there.

    Mode and owner stay what they are. Where PATH is a link, the file it names is replaced.

    Raises:
        VaultKeyError: the file cannot be written; it is as it was.
    """
    try:
        _replace(Path(os.path.realpath(path)), line.encode())
    except OSError as error:
        raise VaultKeyError(
            f"no new key can be written to {path}: {error.strerror}; where another program "
            "keeps this file, let that one put a new line above the others"
        ) from error


def _replace(path: Path, line: bytes) -> None:
    before, status = path.read_bytes(), path.stat()
    if before.startswith(line):
        return
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)  # a killed process left it, and nobody has read it
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CLOEXEC | ABSENT, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, status.st_uid, status.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            file.write(line + before)
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
