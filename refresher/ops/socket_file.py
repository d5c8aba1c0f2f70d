"""The control socket's file: private, and never taken from a daemon that lives.

Who may connect is decided by the file alone. Linux asks for write permission on a Unix
socket, so mode 0600 admits its owner and root; the folder must let nobody else replace
the file.
"""

import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from refresher.errors import RefresherError
from refresher.files import faults_of_own_folder

MAX_PATH = 107
"""Bytes of a socket's path: ``sun_path`` of unix(7) less its closing NUL."""


class ListenerRefused(RefresherError):
    """Raised when a socket cannot be opened; says which one, why, and what would mend it."""


@dataclass(frozen=True, slots=True)
class SocketFile:
    """A bound socket, not listening yet, and the file it stands for."""

    path: Path
    socket: socket.socket
    identity: tuple[int, int]
    """Device and inode: another daemon may have put its own file in place since."""

    def unlink(self) -> None:
        """Remove the file unless it is no longer ours."""
        if _identity(self.path) == self.identity:
            self.path.unlink(missing_ok=True)


def bind_socket_file(path: Path) -> SocketFile:
    """Bind PATH with mode 0600, replacing what a dead daemon left there.

    Connections are refused until the caller listens, so nobody gets in before the mode
    is set. A missing folder is made with mode 0700.

    Raises:
        ListenerRefused: the path is too long, its folder is open to others, somebody
            listens there already, or the system said no.
    """
    if len(bytes(path)) > MAX_PATH:
        raise ListenerRefused(
            f"the control socket's path is longer than {MAX_PATH} bytes: {path}; choose a shorter"
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        _require_private_folder(path.parent)
        _remove_stale(path)
        listener.bind(bytes(path))
        path.chmod(0o600)
        return SocketFile(path, listener, _require_identity(path))
    except OSError as error:
        listener.close()
        raise ListenerRefused(f"cannot open the control socket {path}: {error.strerror}") from error
    except ListenerRefused:
        listener.close()
        raise


def _require_private_folder(folder: Path) -> None:
    if faults := faults_of_own_folder(folder):
        raise ListenerRefused(
            f"others could replace the control socket: {faults[0].text}, or choose another folder"
        )


def _remove_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenerRefused(f"{path} exists and is not a socket; choose another path")
    if _is_listened_on(path):
        raise ListenerRefused(f"another daemon listens on the control socket {path}")
    path.unlink(missing_ok=True)


def _is_listened_on(path: Path) -> bool:
    """Whether PATH is anybody's: only a refused connection proves that it is not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(bytes(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # its queue of connections is full: it lives, if slowly
        return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        return _require_identity(path)
    except FileNotFoundError:
        return None


def _require_identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino
