"""What can go wrong that a caller must handle, one class per condition.

The result of an exchange is never an exception: it is a value, see
``refresher.domain.outcomes``. No message here ever holds a secret, a request URL or a
response body.
"""


class RefresherError(Exception):
    """Base of every error raised on purpose; its text is fit to be shown to a person."""


class SettingsError(RefresherError):
    """Raised when the configuration cannot be used; lists every problem found.

    Args:
        problems: one line each: the place, what is wrong, and what would mend it.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class VaultError(RefresherError):
    """Base of everything the vault raises."""


class VaultUnavailable(VaultError):
    """Raised when the vault refuses a read or a write now but may accept it later.

    A full or read-only disk, a locked database, a lost connection.
    """


class GrantSetAside(VaultUnavailable):
    """Raised when the row of one grant cannot be read or written, and every other can.

    The grant is set aside in memory, told once, and tried again each minute.
    """


class VaultKeyError(VaultError):
    """Raised when the vault's key file is missing, too open, unreadable or the wrong one."""


class VaultInUse(VaultError):
    """Raised when another process holds the vault's file lock.

    Args:
        pid: the holder's process id, or None when it could not be read.
        is_daemon: it is a daemon, not a command.
    """

    def __init__(self, path: str, pid: int | None, *, is_daemon: bool = False) -> None:
        holder = f"process {pid}" if pid is not None else "another process"
        super().__init__(f"the vault {path} is in use by {holder}")
        self.pid = pid
        self.is_daemon = is_daemon


class VaultTooNew(VaultError):
    """Raised when the vault was written by a newer version of refresher."""


class DuplicateRefreshToken(VaultError):
    """Raised when a refresh token already belongs to another grant of the same client.

    Two grants that spend one refresh token would destroy each other.
    """

    def __init__(self, name: str, owner: str) -> None:
        super().__init__(f"grant {name}: its refresh token already belongs to grant {owner}")
        self.owner = owner


class GrantConflict(VaultError):
    """Raised when a seed contradicts a grant in a way that could cost its refresh token."""


class UnknownGrant(RefresherError):
    """Raised when a grant is named that the vault does not hold."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no grant named {name}")


class UnknownAnswer(RefresherError):
    """Raised when a kept answer is named that the vault does not hold."""

    def __init__(self, answer: str) -> None:
        super().__init__(f"there is no kept answer {answer}")


class AuthorizationFailed(RefresherError):
    """Raised when an authorization (login) ended without tokens; says why and what to do."""


class DiscoveryFailed(AuthorizationFailed):
    """Raised when the metadata of a server cannot be had, or count for nothing; says what to do.

    Args:
        passes: it may be better by itself: the server was not reached, or failed.
    """

    def __init__(self, text: str, *, passes: bool = False) -> None:
        super().__init__(text)
        self.passes = passes


class RegistrationFailed(RefresherError):
    """Raised when a client could not be registered; says why and what to do."""


class NotThisAnswer(AuthorizationFailed):
    """Raised when what came is no answer to the login under way, which goes on waiting."""


class PublicationUnavailable(RefresherError):
    """Raised when Redis cannot take a publication now; it is retried for ever."""


class ParameterRefused(RefresherError):
    """Raised when what a command asks for has a parameter that is missing, unknown or wrong.

    Args:
        faults: each parameter with what is wrong with it; no value of one.
    """

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{place} {fault}".strip() for place, fault in faults))
        self.parameter = faults[0][0]


class ControlUnavailable(RefresherError):
    """Raised when no daemon answers on the control socket."""


class DaemonStarting(RefresherError):
    """Raised when a daemon has the vault and does not answer commands yet, or no longer."""


class ControlError(RefresherError):
    """Raised when the daemon answered with an error, or took the request and did not answer.

    Args:
        kind: the class name of the daemon's ``RefresherError``, or a ``Fault`` of
            ``refresher.ops.protocol``.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def kind_of(error: RefresherError) -> str:
    """The class name of ERROR, raised here or by the daemon."""
    return error.kind if isinstance(error, ControlError) else type(error).__name__
