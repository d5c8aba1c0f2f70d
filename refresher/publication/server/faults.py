"""Why Redis cannot be used, in words an operator can act on.

redis-py raises wrong passwords, TLS failures and full pools as connection errors, and a
server's refusals may quote the command with its arguments, tokens among them: so errors
are classified by type and code, and their texts are never passed on (guarantee G5).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from redis import exceptions

from refresher.errors import PublicationUnavailable

CLUSTER = "it is one node of a cluster: write redis+cluster:// instead of redis:// in its URL"

REFUSALS = {
    "NOAUTH": "Redis asks for a password and none is configured",
    "WRONGPASS": "Redis does not accept the user name and password",
    "DENIED": "it is in protected mode: it takes no connections from other machines",
    "READONLY": "this server is a replica and takes no writes",
    "OOM": "Redis is out of memory (maxmemory reached, nothing it may evict)",
    "LOADING": "Redis is still loading its data",
    "MASTERDOWN": "this replica has lost its master",
    "NOREPLICAS": "Redis has too few replicas in reach to accept writes (min-replicas-to-write)",
    "MISCONF": "Redis cannot save its data to disk and takes no writes",
    "CLUSTERDOWN": "the cluster is down: a master is gone, or some slots have no node",
    **dict.fromkeys(("MOVED", "ASK", "TRYAGAIN", "CROSSSLOT"), CLUSTER),
    "BUSY": "Redis is busy with a script of somebody else",
    "UNKILLABLE": "Redis is busy with a script of somebody else",
    "NOSCRIPT": "Redis forgets the publish script as soon as it is loaded",
    "WRONGTYPE": "a key of refresher holds something of another type",
    "NOPROTO": "the server is older than Redis 6 and does not speak RESP3",
}
"""What the first word of a refusal means."""

ERRORS = {
    "DB index is out of range": "it has no database of the number that its URL names",
    "invalid DB index": "it has no database of the number that its URL names",
    "SELECT is not allowed in cluster mode": CLUSTER,
    "cluster support disabled": "it is no node of a cluster: write redis:// in its URL",
    "Client sent AUTH": "a password is configured and Redis has none",
    "AUTH <password> called without": "a password is configured and Redis has none",
    "invalid password": REFUSALS["WRONGPASS"],
    "max number of clients": "it has too many clients",
    "operation not permitted": REFUSALS["NOAUTH"],
}
"""What some refusals mean that begin with the word ERR alone."""

STANDING = frozenset({"NOPERM", "ERR"})
"""Words that are about one command or key: what else there is to do can still be done."""


TLS_FILES = "TLS files"
"""What ``tls`` says of files that cannot be used, in the text of a connection error."""


class Unauthenticated(PublicationUnavailable):
    """Raised when Redis does not accept our password, or asks for one."""


class Moved(PublicationUnavailable):
    """Raised when other servers than were found take the writes now, in whole or in part."""


class Refused(PublicationUnavailable):
    """Raised when Redis answered, and refused; ``code`` is its word for why."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def is_standing(self) -> bool:
        """Whether it is about this command or key alone, until somebody changes a right."""
        return self.code in STANDING


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn every fault of Redis inside into ``PublicationUnavailable``.

    Args:
        where: the server, without credentials.
    """
    try:
        yield
    except exceptions.ResponseError as refusal:
        raise unavailable(refusal, where) from None  # its text may quote a token
    except (exceptions.RedisError, OSError) as error:
        raise unavailable(error, where) from error


def unavailable(error: Exception, where: str) -> PublicationUnavailable:
    """What to raise for ERROR, which redis-py raised or gave back in a pipeline."""
    message = f"Redis at {where}: {describe(error)}"
    if isinstance(error, exceptions.AuthenticationError):
        return Unauthenticated(message)
    if isinstance(error, exceptions.ResponseError | exceptions.BusyLoadingError):
        return Refused(message, _code_of(error))
    return PublicationUnavailable(message)


def refused_in_script(text: str, where: str) -> Refused:
    """What TEXT, an error that a script caught and handed on, means."""
    code, _, rest = text.partition(" ")
    return Refused(f"Redis at {where}: {_refusal(code, rest)}", _standing_code(code, rest))


def is_spoilt(reply: object) -> bool:
    """Whether REPLY says that a key holds what it never should: it must be deleted first."""
    return isinstance(reply, exceptions.ResponseError) and (
        str(reply).startswith("WRONGTYPE") or "exhausted the last possible ID" in str(reply)
    )


def describe(error: Exception) -> str:
    """One sentence without secrets."""
    text = str(error)
    if isinstance(error, exceptions.AuthenticationError):
        return _authentication(text)
    if isinstance(error, exceptions.MaxConnectionsError):
        return "every connection of the pool is busy"
    if isinstance(error, exceptions.ResponseError | exceptions.BusyLoadingError):
        return _refusal(error.status_code or text.partition(" ")[0], text)
    if isinstance(error, exceptions.InvalidResponse):
        return "what answers there is no Redis"
    return _lost_connection(error, text)


def _code_of(error: exceptions.ResponseError | exceptions.BusyLoadingError) -> str:
    """The first word of a refusal; redis-py cuts some off, and remembers them beside it."""
    text = str(error)
    return _standing_code(error.status_code or text.partition(" ")[0], text)


def _standing_code(code: str, text: str) -> str:
    is_acl = "ACL failure" in text or code == "The" or "executing the script" in text
    return "NOPERM" if is_acl else code


def _authentication(text: str) -> str:
    for sign, meaning in ERRORS.items():
        if sign in text:
            return meaning
    asked = "NOAUTH" in text or "HELLO must be called" in text or "required" in text
    return REFUSALS["NOAUTH" if asked else "WRONGPASS"]


def _lost_connection(error: Exception, text: str) -> str:
    """What became of a connection; redis-py tells the errno in the text only."""
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return "no answer in time"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its TLS certificate is not trusted or is for another name"
    if "SSL" in text:
        return "TLS could not be agreed on"
    signs = {
        "Error 111": "connection refused",
        "Error 61": "connection refused",
        "Connect call failed": "connection refused",
        TLS_FILES: "a file that its URL names with ssl_... cannot be used",
        "Error 2 ": "its socket does not exist",
        "Error 13 ": "its socket may not be used by this user",
        "Error -2 ": "its host name is unknown",
        "Error -3 ": "its host name cannot be resolved now",
        "Error -5 ": "its host name is unknown",
        "max number of clients": "it has too many clients",
        "No connection available": "every connection of the pool is busy",
    }
    for sign, meaning in signs.items():
        if sign in text:
            return meaning
    return "connection lost"


def _refusal(code: str, text: str) -> str:
    """What a refusal with the first word CODE means; TEXT may begin with it."""
    if code in REFUSALS:
        return REFUSALS[code]
    if code == "NOPERM":
        return _missing_permission(text)
    if "ACL failure in script" in text:  # Valkey and Redis from 7.2
        return f"{_missing_permission(text)}; the publish script uses it"
    if "executing the script" in text:
        # Redis 7.0 does not say which command inside a script was forbidden.
        what = "a key" if "access at least one of the keys" in text else "a command or channel"
        return f"the ACL of refresher's user forbids {what} that the publish script uses"
    # Behind the command's name come its arguments.
    if unknown := re.search(r"unknown (?:sub)?command ['`]?([A-Za-z|]{1,20})", text):
        if unknown[1].upper() == "HELLO":
            return REFUSALS["NOPROTO"]
        return (
            f"it does not know the command {unknown[1].upper()}: it is disabled, or what answers "
            "is a Sentinel (write redis+sentinel:// in its URL), a proxy or an older server"
        )
    for sign, meaning in ERRORS.items():
        if sign in text:
            return meaning
    if re.fullmatch(r"[A-Z]{2,20}", code) and code != "ERR":
        return f"refused with {code}"
    return "refused a command that it should know"


def _missing_permission(text: str) -> str:
    if command := re.search(r"run the '([a-z|]+)' command", text):
        return f"the ACL of refresher's user forbids {command[1]}: add +{command[1]}"
    if "channel" in text:
        return "the ACL of refresher's user forbids its channels: add &PREFIX*"
    return "the ACL of refresher's user forbids its keys: add ~PREFIX*"
