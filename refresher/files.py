"""Files, and who can change them.

What is only read is opened through links, since secret stores are made of them, and judged
by what was opened and by every folder that was looked into on the way. What is written is
never reached through a link, and what is made was not there before.

Whoever may write a file that is believed must be the caller or root. A group may count as
the caller where only the daemon's own files are at stake (``is_own_group``): a platform
mounts volumes so. What may name commands to run is never judged so mildly.
"""

import errno
import grp
import os
import pwd
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
"""With an access list the group's bits are its mask: the most that anybody named there may."""

LONGEST_CHAIN = 40
"""Links that one path may lead through (path_resolution(7))."""

OVERFLOW_ID = 65_534
"""What an owner looks like who has no number in this user namespace (user_namespaces(7))."""

ABSENT = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
"""Flags for a file that must not be there yet."""


class Kind(Enum):
    """What is wrong with a file or a folder."""

    OWNER = auto()
    """It belongs to somebody who is neither the caller nor root."""
    WRITABLE = auto()
    """Its mode lets others write."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why others can change what a path leads to."""

    kind: Kind
    owner: tuple[int, int]
    """Its uid and gid."""
    text: str
    """Which file or folder, whose it is or what its mode is, and what mends it."""


class Unseen(ValueError):
    """Raised when this user cannot see a file: another user may."""


def open_to_read(path: Path) -> int:
    """Open the regular file PATH, through links and without waiting; the descriptor.

    Raises:
        Unseen: permission is denied.
        ValueError: it cannot be opened or is no regular file; begins with a verb.
    """
    try:
        # Without blocking: a FIFO would be waited for until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except PermissionError as error:
        raise Unseen(f"cannot be read: {error.strerror}") from error
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except ValueError:
        raise ValueError("cannot be read: its name holds a NUL") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("is no regular file")
    return descriptor


def read_file(path: Path, *, largest: int) -> tuple[bytes, list[Fault]]:
    """What is in the regular file PATH, and why others can change it.

    Raises:
        Unseen: permission is denied.
        ValueError: it cannot be read, is no file or has more than LARGEST bytes; begins with
            a verb and tells no content.
    """
    descriptor = open_to_read(path)
    try:
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(largest + 1)
        if len(content) > largest:
            raise ValueError(f"is larger than {largest} bytes")
        return content, faults_of(path, os.fstat(descriptor))
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def faults_of(path: Path, status: os.stat_result, *, of_daemon: bool = False) -> list[Fault]:
    """Why others can change the file PATH, open with STATUS, or put another in its place.

    Args:
        of_daemon: it is the daemon's own: a group of its own may write it.
    """
    of_itself = faults_of_one(path, status, of_daemon=of_daemon)
    return [*of_itself, *faults_of_folders(path, of_daemon=of_daemon)]


def faults_of_folders(path: Path, *, of_daemon: bool = False) -> list[Fault]:
    """Why others can put something else in the place of PATH.

    Raises:
        OSError: a folder on the way cannot be looked at.
    """
    return [
        fault
        for entry, status in _way(path)
        for fault in faults_of_one(entry, status, of_daemon=of_daemon)
    ]


def faults_of_own_folder(folder: Path) -> list[Fault]:
    """Why others can put their own files into the daemon's FOLDER, or another in its place.

    Stickiness does not help here: what is not made yet is whoever's makes it first.

    Raises:
        OSError: a folder on the way cannot be looked at.
    """
    status = folder.stat()
    of_itself = faults_of_one(folder, status, sticks=False, of_daemon=True)
    return [*of_itself, *faults_of_folders(folder, of_daemon=True)]


def opened_to_write(path: Path) -> int:
    """Open the file PATH of the daemon's own, made with mode 0600 if missing; the descriptor.

    Raises:
        OSError: it cannot be opened, or is a link.
        ValueError: it is no regular file, or others can write it; begins with a verb.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return os.open(path, flags | ABSENT, 0o600)
    status = os.fstat(descriptor)
    faults = [fault.text for fault in faults_of_one(path, status, of_daemon=True)]
    if not stat.S_ISREG(status.st_mode):
        faults = [f"{path} is no regular file"]
    if faults:
        os.close(descriptor)
        raise ValueError(faults[0])
    return descriptor


def make_folder(folder: Path) -> None:
    """Make FOLDER for its owner alone, and what is missing above it, whatever the umask.

    Raises:
        OSError: it cannot be made.
    """
    for above in reversed(folder.parents):
        if not above.exists():
            above.mkdir(mode=0o755, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)


def is_readable_by_others(path: Path) -> bool:
    """Whether more than the owner, and a group that is the caller's or root's, may read PATH."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return False
    if status.st_mode & stat.S_IROTH:
        return True
    return bool(status.st_mode & stat.S_IRGRP) and status.st_gid not in {0, os.getegid()}


def user_name(uid: int) -> str:
    """How a person knows UID."""
    with suppress(KeyError):
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    return f"uid {uid}"


def faults_of_one(
    path: Path, status: os.stat_result, *, sticks: bool = True, of_daemon: bool = False
) -> Iterator[Fault]:
    """Why others can change PATH itself, a file or a folder with STATUS.

    Args:
        sticks: count a sticky folder as safe: nobody replaces there what is another's.
        of_daemon: the daemon's own files are at stake: a group of its own may write.
    """
    is_folder = stat.S_ISDIR(status.st_mode)
    can = "could replace what is in it" if is_folder else "can change it"
    mode = stat.S_IMODE(status.st_mode)
    if _is_read_only(path):
        return
    owner = (status.st_uid, status.st_gid)
    if not _is_trusted(status.st_uid, is_folder=is_folder):
        name = user_name(status.st_uid)
        me = user_name(os.geteuid()).partition(" (")[0].removeprefix("uid ")
        yield Fault(Kind.OWNER, owner, f"{path} belongs to {name}, who {can}: chown {me} {path}")
    # In a sticky folder nobody but its owner replaces what is another's (unlink(2)).
    is_sticky = sticks and is_folder and bool(mode & stat.S_ISVTX)
    writers = mode & OTHERS_WRITE
    if of_daemon and writers == stat.S_IWGRP and is_own_group(path, status):
        return
    if writers and not is_sticky and not stat.S_ISLNK(status.st_mode):
        yield Fault(
            Kind.WRITABLE,
            owner,
            f"{path} is writable by others (mode {mode:04o}), who {can}: chmod go-w {path}",
        )


def is_own_group(path: Path, status: os.stat_result) -> bool:
    """Whether the group's rights to PATH are the caller's and root's alone, as far as is seen.

    A Kubernetes volume with ``fsGroup`` is so: at each mount whatever is on it gets that
    group, which the process is in, folders a mode such as 2775 and files 0660. So the folder
    must be setgid, and the group one of this process's without a name, or the one named
    after the user (or root), and the machine's lists must show nobody else in it. A named
    group of many, such as ``users``, is never one's own: a directory service need not list
    whose primary group it is. With an access list the bits are not the group's, but its mask.
    """
    gid = status.st_gid
    folder = status if stat.S_ISDIR(status.st_mode) else path.resolve().parent.stat()
    if not folder.st_mode & stat.S_ISGID or folder.st_gid != gid:
        return False
    if gid not in {os.getegid(), *os.getgroups()} or _has_access_list(path):
        return False
    users = pwd.getpwall()
    mine = {user.pw_name for user in users if user.pw_uid in {0, os.geteuid()}}
    names = {user.pw_name for user in users if user.pw_gid == gid}
    with suppress(KeyError):
        group = grp.getgrgid(gid)
        names |= {group.gr_name, *group.gr_mem}
    return names <= mine


def _has_access_list(path: Path) -> bool:
    """Whether more than owner, group and others have rights to PATH, or nobody can tell."""
    if sys.platform != "linux":
        return True
    try:
        os.getxattr(path, "system.posix_acl_access")
    except OSError as error:
        return error.errno not in {errno.ENODATA, errno.EOPNOTSUPP}
    return True


def _is_trusted(uid: int, *, is_folder: bool) -> bool:
    if uid in {0, os.geteuid()}:
        return True
    return is_folder and uid == OVERFLOW_ID and not _is_mapped(uid)


def _is_mapped(uid: int) -> bool:
    """Whether UID is somebody in this user namespace; outside of Linux everybody is."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/uid_map").read_text("utf-8").splitlines():
            first, _, count = map(int, line.split())
            if first <= uid < first + count:
                return True
        return False
    return True


def _is_read_only(path: Path) -> bool:
    """Whether PATH lies where nobody can write, such as a mount that a platform made."""
    with suppress(OSError):
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    return False


def _way(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every folder that is looked into while PATH is resolved, and links others may replace.

    A link is its folder's to replace; in a sticky one it is its owner's.
    """
    here, rest, links = Path("/"), _parts(path.absolute()), 0
    seen: set[Path] = set()
    while rest:
        folder = here.lstat()
        if here not in seen:
            seen.add(here)
            yield here, folder
        part = rest.pop(0)
        if part == "..":
            here = here.parent
            continue
        entry = here / part
        try:
            status = entry.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return  # what is to be made: nothing beyond it can be looked into
        if not stat.S_ISLNK(status.st_mode):
            here = entry
            continue
        if folder.st_mode & stat.S_ISVTX and folder.st_mode & OTHERS_WRITE:
            yield entry, status
        links += 1
        if links > LONGEST_CHAIN:
            return
        target = entry.readlink()
        here = Path("/") if target.is_absolute() else here
        rest = [*_parts(target), *rest]


def _parts(path: Path) -> list[str]:
    """The names in PATH, one after the other."""
    return [part for part in path.parts if part not in {"/", "//", "."}]
