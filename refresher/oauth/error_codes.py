"""What the error codes of authorization servers mean: one table, and how codes are found.

Only a code in this table or in the client's lists ever leaves here, since a server may
echo anything, a refresh token included, where a code belongs (guarantee G5).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from refresher.domain.clients import Client
from refresher.oauth.documents import Fields

UNRECOGNIZED = "unrecognized_error"


class Meaning(Enum):
    """What a code says about the request."""

    GRANT = auto()
    """The refresh token or code is dead."""
    CLIENT = auto()
    """The client itself is refused."""
    CONFIGURATION = auto()
    """What was asked for can never be had like this."""
    REQUEST = auto()
    """Not understood: permanent at most servers, a passing conflict at some."""
    LATER = auto()
    """Refused before anything was done; ask again later."""
    FAILED = auto()
    """The server failed on the way; with a 5xx nobody knows how far it came."""


_WORDS: Mapping[Meaning, tuple[str, ...]] = {
    Meaning.GRANT: (
        "invalid_grant",  # RFC 6749 5.2
        "bad_refresh_token",  # GitHub, HubSpot
        "invalid_refresh_token",  # Slack, Twitch
        "refresh_token_not_found", "refresh_token_reused", "refresh_token_already_used",
        "refresh_token_expired", "refresh_token_revoked",
        "token_revoked", "account_inactive", "authorization_not_found",  # Slack
        "invalid_code",  # Zoho
        "bad_verification_code",  # GitHub
        "interaction_required", "consent_required", "login_required",  # Entra, OpenID Connect
        "inactive_user", "inactive_org",  # Salesforce
    ),
    Meaning.CLIENT: (
        "invalid_client", "unauthorized_client", "unsupported_grant_type",  # RFC 6749 5.2
        "access_denied",  # Atlassian: a wrong client secret
        "incorrect_client_credentials",  # GitHub
        "invalid_client_id", "bad_client_secret", "invalid_client_secret",  # Slack, Zoho
    ),
    Meaning.CONFIGURATION: (
        "invalid_scope",  # RFC 6749 5.2
        "invalid_target",  # RFC 8707
        "redirect_uri_mismatch", "bad_redirect_uri", "invalid_redirect_uri",
        "use_dpop_nonce", "invalid_dpop_proof",  # RFC 9449, which is not spoken here
    ),
    Meaning.REQUEST: ("invalid_request",),
    Meaning.LATER: (
        "temporarily_unavailable", "slow_down", "too_many_requests", "ratelimited",
        "rate_limited", "rate_limit", "rate_limit_exceeded", "over_request_rate_limit",
        "request_limit_exceeded", "quota_exceeded", "throttled",
        "access denied",  # Zoho's throttle; with an underscore it is another word
    ),
    Meaning.FAILED: (
        "server_error", "internal_error", "internal_server_error", "fatal_error",
        "service_unavailable", "request_timeout",
    ),
}  # fmt: skip

MEANINGS: Mapping[str, Meaning] = {
    word: meaning for meaning, words in _WORDS.items() for word in words
}
"""Every code known without being told, in lower case."""


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A code fit to be shown; ``meaning`` is None for one that nobody knows."""

    word: str
    meaning: Meaning | None


def find_error(fields: Fields, client: Client) -> ErrorCode | None:
    """The error FIELDS state, by the client's lists first; None when they state none."""
    stated = list(_codes_in_error(fields))
    for code in (*stated, *_codes_elsewhere(fields)):
        if (known := _known(code, client)) is not None:
            return known
    is_refusal = bool(stated) or any(fields.get(name) is False for name in ("ok", "success"))
    return ErrorCode(UNRECOGNIZED, None) if is_refusal else None


def _known(code: str, client: Client) -> ErrorCode | None:
    if code in client.transient_codes:
        return ErrorCode(_shown(code), Meaning.LATER)
    if code in client.rejection_codes:
        return ErrorCode(_shown(code), Meaning.GRANT)
    for word in (code.lower(), re.sub(r"[\s-]+", "_", code.lower())):
        if (meaning := MEANINGS.get(word)) is not None:
            return ErrorCode(_shown(word), meaning)
    return None


def _shown(word: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", word)[:64]


def _codes_in_error(fields: Fields) -> Iterator[str]:
    """``error`` as a string, as Meta's object, and Fitbit's list ``errors``."""
    error, errors = fields.get("error"), fields.get("errors")
    listed = errors if isinstance(errors, list) else []
    for item in (error, *listed[:10]):
        if isinstance(item, dict):
            yield from _texts(item, ("code", "type", "errorType", "status", "error"))
        else:
            yield from _texts({"error": item}, ("error",))


def _codes_elsewhere(fields: Fields) -> Iterator[str]:
    """Places that hold a code at a few vendors and anything else at the others."""
    return _texts(fields, ("error_code", "code", "status", "reason", "message"))


def _texts(fields: Fields, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value:
            yield str(value)
        elif isinstance(value, str) and value.strip():
            yield value.strip()
