"""What an endpoint answers, before HTTP carries it: a status, headers and a body.

Knows the error format of RFC 6749 section 5.2 and nothing of aiohttp.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# RFC 6749 section 5.1: both headers on every answer that may hold a token.
NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One HTTP answer.

    Args:
        error: the OAuth error code the body carries, for the log.
        cut_after: bytes of the body that are sent before the connection is closed, under a
            Content-Length that promises all of them; None sends all.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    cut_after: int | None = None


class Refused(Exception):
    """Raised when a request is refused; holds an error code of RFC 6749 section 5.2."""

    def __init__(self, error: str, description: str, *, status: int = 400) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status


def json_answer(
    payload: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Answer:
    """An answer with a JSON object; its ``error`` member, if a string, is the answer's error."""
    error = payload.get("error")
    return Answer(
        status=status,
        headers={"Content-Type": "application/json", **NO_STORE, **(headers or {})},
        body=json.dumps(payload).encode(),
        error=error if isinstance(error, str) else None,
    )


def refusal(refused: Refused) -> Answer:
    """The error answer of RFC 6749 section 5.2."""
    # Section 5.2: a client that tried the Authorization header must see this header in the
    # 401; it does no harm to the others.
    headers = {"WWW-Authenticate": 'Basic realm="sandbox"'} if refused.status == 401 else None  # noqa: PLR2004  401 is its own name
    payload = {"error": refused.error, "error_description": refused.description}
    return json_answer(payload, status=refused.status, headers=headers)


def required(parameters: Mapping[str, str], name: str) -> str:
    """The parameter NAME; without a value it counts as absent (RFC 6749 section 3.2).

    Raises:
        Refused: it is absent.
    """
    value = parameters.get(name)
    if not value:
        raise Refused("invalid_request", f"{name} is missing")
    return value


def id_token(subject: str, client_id: str) -> str:
    """Who authorized (OpenID Connect Core 2), as an unsecured JWT (RFC 7519 section 6)."""
    claims = {"sub": subject, "aud": client_id, "email": f"{subject}@sandbox.example"}
    parts = [json.dumps(part).encode() for part in ({"alg": "none"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), ""])
