"""What a refusal of the disk means for a person, and whom it concerns."""

import errno
import os
import resource

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, ProgrammingError

from refresher.errors import GrantSetAside, VaultUnavailable

_MEANINGS = {
    "SQLITE_FULL": "the disk is full",
    "SQLITE_READONLY": "the vault is read-only",
    "SQLITE_CANTOPEN": "the vault cannot be opened: check its folder and permissions",
    "SQLITE_BUSY": "another process keeps the vault locked",
    "SQLITE_CORRUPT": "the vault is damaged: refresher vault restore FILE",
    "SQLITE_NOTADB": "the file is not a vault",
}


def unavailable(error: DBAPIError) -> VaultUnavailable:
    """What ERROR means for a person; its own text may quote parameters."""
    name = _name(error)
    if is_of_its_values(error):
        return GrantSetAside(f"one row of the vault cannot be read or written ({name})")
    if name.startswith("SQLITE_CANTOPEN") and (shortage := _descriptor_shortage()):
        return VaultUnavailable(f"{shortage} ({name})")
    for prefix, text in _MEANINGS.items():
        if name.startswith(prefix):
            return VaultUnavailable(f"{text} ({name})")
    return VaultUnavailable(f"the vault refused ({name})")


def opening_refused(what: str, error: OSError | ValueError) -> VaultUnavailable:
    """WHAT could not be done because of ERROR; a lack of file descriptors is told as that."""
    if isinstance(error, ValueError):  # of ``files``, in words
        return VaultUnavailable(f"{what}: {error}")
    if error.errno == errno.ELOOP:
        return VaultUnavailable(f"{what}: it is a link: name the file itself")
    if error.errno in {errno.EMFILE, errno.ENFILE} and (shortage := _descriptor_shortage()):
        return VaultUnavailable(shortage)
    return VaultUnavailable(f"{what}: {error.strerror}")


def is_of_one_row(error: DBAPIError) -> bool:
    """Whether ERROR, met at one row, says nothing about the others."""
    return is_of_its_values(error) or _name(error).startswith("SQLITE_CORRUPT")


def is_passing(_: DBAPIError) -> bool:
    """Never: nobody else writes, and what waits for a lock has waited."""
    return False


def is_of_its_values(error: DBAPIError) -> bool:
    """Whether ERROR is about what was to be read or written, not about the vault."""
    if isinstance(error, DataError | IntegrityError | InterfaceError | ProgrammingError):
        return True
    return _name(error).startswith("SQLITE_TOOBIG") or "decode to UTF-8" in str(error.orig)


def _name(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlite_errorname", None) or type(error.orig).__name__


def _descriptor_shortage() -> str | None:
    """Whether no file can be opened now for want of a descriptor; SQLite does not say why."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EMFILE:
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return f"this process is out of file descriptors (limit {limit}): raise LimitNOFILE"
        if error.errno == errno.ENFILE:
            return "this machine is out of file descriptors: raise fs.file-max"
    return None
