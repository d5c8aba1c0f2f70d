"""What an operation may answer besides its answer: problems (RFC 9457), one type for each.

The ``type`` of a problem is a place in the description that the control socket serves; behind
its last slash stands the class name of the ``RefresherError``, or a ``Fault``. Its ``repair``
says what to do: a command, or a sentence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from refresher.errors import RefresherError
from refresher.ops.protocol import TYPES, Fault

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """One type of problem; what it was this time stands in ``detail``."""

    status: HTTPStatus
    title: str
    repair: str


_READ = "read /openapi.json, which says what each operation takes"

PROBLEMS: Mapping[str, Problem] = {
    Fault.MALFORMED_REQUEST: Problem(
        HTTPStatus.BAD_REQUEST, "The request is not a POST of one JSON object", _READ
    ),
    "ParameterRefused": Problem(
        HTTPStatus.BAD_REQUEST, "A parameter is missing, unknown or wrong", _READ
    ),
    Fault.UNKNOWN_OPERATION: Problem(
        HTTPStatus.NOT_FOUND,
        "There is no such operation",
        "restart the daemon if it is older than the command; else " + _READ,
    ),
    "UnknownGrant": Problem(
        HTTPStatus.NOT_FOUND, "There is no such grant", "refresher status --all"
    ),
    "UnknownAnswer": Problem(
        HTTPStatus.NOT_FOUND, "There is no such kept answer", "refresher kept list"
    ),
    Fault.WRONG_METHOD: Problem(
        HTTPStatus.METHOD_NOT_ALLOWED, "An operation is asked for by POST", _READ
    ),
    Fault.REQUEST_TIMEOUT: Problem(
        HTTPStatus.REQUEST_TIMEOUT, "The body did not come in time", "send it again"
    ),
    "DuplicateRefreshToken": Problem(
        HTTPStatus.CONFLICT,
        "Another grant of the client has this refresh token",
        "give each grant a login of its own, or remove one of both",
    ),
    "GrantConflict": Problem(
        HTTPStatus.CONFLICT,
        "It would harm a grant as it is now; nothing was changed",
        "refresher status GRANT",
    ),
    "NotThisAnswer": Problem(
        HTTPStatus.CONFLICT,
        "This is no answer to the login under way, which goes on",
        "paste the whole address that the browser was sent to",
    ),
    "AuthorizationFailed": Problem(
        HTTPStatus.CONFLICT,
        "It cannot be done with this grant or client, or its server refused",
        "do what detail says",
    ),
    "RegistrationFailed": Problem(
        HTTPStatus.CONFLICT,
        "The client is not to be registered, or its server refused",
        "do what detail says",
    ),
    Fault.REQUEST_TOO_LARGE: Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large", "send it in several"
    ),
    RefresherError.__name__: Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, "It was refused", "do what detail says"
    ),
    Fault.INTERNAL_ERROR: Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The daemon met a bug",
        "look for operation.failed in the daemon's log",
    ),
    "VaultUnavailable": Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The vault refuses, or does not answer",
        "mend what the daemon's log says at vault.refused, then ask again",
    ),
    "GrantSetAside": Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The row of this grant cannot be read or written",
        "do what the daemon's log says at grant.set_aside",
    ),
    "VaultKeyError": Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, "The vault's key file cannot be used", "refresher check"
    ),
    Fault.STOPPED: Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The daemon stopped before it was done",
        "ask the next daemon how it is, then ask again",
    ),
}
"""Every type. What is no type of its own is of the next class that it is a kind of."""


def type_of(error: RefresherError) -> str:
    """The kind that ERROR is told as."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return next(name for name in names if name in PROBLEMS)


def problem(kind: str, detail: str, *, parameter: str | None = None) -> dict[str, str | int]:
    """A problem of KIND as it is sent.

    Args:
        parameter: the first one that is missing, unknown or wrong.
    """
    known = PROBLEMS[kind]
    told: dict[str, str | int] = {
        "type": TYPES + kind,
        "title": known.title,
        "status": known.status.value,
        "detail": detail,
        "repair": known.repair,
    }
    return told if parameter is None else told | {"parameter": parameter}
