"""What both ends of the control socket agree on.

``POST /v1/{operation}`` with a JSON object is answered by a JSON object, or by a problem
(``problems``). ``GET /openapi.json`` describes all of it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeAlias

from refresher.domain.secret import Secret

JSON: TypeAlias = "str | int | float | bool | Sequence[JSON] | Mapping[str, JSON] | None"
"""What ``json.loads`` gives and an operation may answer."""

Sendable: TypeAlias = (
    "str | int | float | bool | Secret | Sequence[Sendable] | Mapping[str, Sendable] | None"
)
"""What a parameter may hold; a ``Secret`` is revealed only in the bytes of the request."""

Operation: TypeAlias = Callable[[Mapping[str, JSON]], Awaitable[JSON]]
"""One thing the daemon does when asked. It receives the parameters as they came."""

MAX_BODY = 1024 * 1024
"""Bytes of one request; longer input (an import) is sent in several requests."""


TYPES = "/openapi.json#/x-problems/"
"""What the type of every problem begins with; its kind follows."""


class Fault(StrEnum):
    """The kinds of error that are not a ``RefresherError`` of the daemon."""

    UNKNOWN_OPERATION = "UnknownOperation"
    """The daemon has no such operation: it is older or newer than the command."""
    MALFORMED_REQUEST = "MalformedRequest"
    """The body of the request was not one JSON object."""
    WRONG_METHOD = "WrongMethod"
    """The request was not a POST."""
    REQUEST_TIMEOUT = "RequestTimeout"
    """The body of the request did not come in time."""
    REQUEST_TOO_LARGE = "RequestTooLarge"
    """The request was longer than ``MAX_BODY``."""
    INTERNAL_ERROR = "InternalError"
    """A bug; where it came from is in the daemon's log."""
    NO_ANSWER = "NoAnswer"
    """The request was sent but no answer came: it may still be carried out."""
    STOPPED = "Stopped"
    """The daemon ended before the operation did: it may have been carried out in part."""
    PERMISSION_DENIED = "PermissionDenied"
    """The control socket belongs to another user."""
