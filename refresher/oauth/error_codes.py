"""What the error codes of authorization servers mean: one table, and how codes are found.

Only a code in this table or in the client's lists, or a word of ours for what a description
says, ever leaves here: a server may echo anything, a refresh token included, where a code
belongs (guarantee G5).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from refresher.domain.clients import Client
from refresher.oauth.descriptions import Prose, judge, read_descriptions
from refresher.oauth.documents import Fields
from refresher.oauth.shapes import at

UNRECOGNIZED = "unrecognized_error"


class Meaning(Enum):
    """What a code says about the request."""

    GRANT = auto()
    """The refresh token or code is dead."""
    CLIENT = auto()
    """The client itself is refused."""
    CONFIGURATION = auto()
    """What was asked for can never be had like this."""
    PROOF = auto()
    """A DPoP proof is missing (RFC 9449), whatever the code says of the grant."""
    REQUEST = auto()
    """Not understood: permanent at most servers, a passing conflict at some."""
    LATER = auto()
    """Refused before anything was done; ask again later."""
    FAILED = auto()
    """The server failed on the way, and nobody knows how far it came."""
    EARLY = auto()
    """The access token has still to live before it is refreshed; told by descriptions."""


_WORDS: Mapping[Meaning, tuple[str, ...]] = {
    # Final, and it costs a person's consent: only words that can mean nothing else.
    Meaning.GRANT: (
        "invalid_grant",  # RFC 6749 5.2
        "bad_refresh_token",  # GitHub, HubSpot
        "invalid_refresh_token",  # Slack, Twitch
        "refresh_token_not_found", "refresh_token_already_used",  # Supabase
        "refresh_token_reused",  # OpenAI
        "refresh_token_expired", "refresh_token_revoked",
        "token_inactive",  # Hydra: a refresh token that was used before (ory/hydra#3004)
        "token_revoked", "account_inactive", "authorization_not_found",  # Slack
        "invalid_code",  # Zoho: a revoked refresh token; elsewhere a code at login
        "bad_verification_code",  # GitHub: a code at login
        "interaction_required", "consent_required",  # Entra: only a person can go on
    ),
    Meaning.CLIENT: (
        "invalid_client", "unauthorized_client", "unsupported_grant_type",  # RFC 6749 5.2
        "access_denied",  # Atlassian: a wrong client secret; RFC 8628: a refusal at login
        "incorrect_client_credentials",  # GitHub
        "invalid_client_id", "invalid_client_credentials",  # Slack, Salesforce
        "bad_client_secret", "invalid_client_secret",  # Slack, Zoho
        "bad_client_id",  # HubSpot
        "deleted_client", "disabled_client",  # Google
    ),
    Meaning.CONFIGURATION: (
        "invalid_scope",  # RFC 6749 5.2
        "insufficient_scope",  # RFC 6750 3.1: more scope is wanted than was granted
        "invalid_target",  # RFC 8693, RFC 8707
        "unsupported_response_type",  # RFC 6749 4.1.2.1
        "unsupported_token_type",  # RFC 7009: revocation only
        "redirect_uri_mismatch", "bad_redirect_uri", "invalid_redirect_uri",
    ),
    Meaning.PROOF: ("use_dpop_nonce", "invalid_dpop_proof"),  # RFC 9449
    # Permanent or not, about the refresh token or about something else: who can say.
    Meaning.REQUEST: (
        "invalid_request",  # Hydra: a conflict, "please retry"; Zoom, X: a dead refresh token
        "invalid_token",  # RFC 6750 3.1: of a bearer token; at a few servers of a refresh token
        "expired_token",  # RFC 8628: a device code; Fitbit: an access token
        "login_required",  # OpenID Connect; gateways in front of the server say it too
        "inactive_user", "inactive_org",  # Salesforce: until somebody reactivates them
    ),
    Meaning.LATER: (
        "temporarily_unavailable", "slow_down", "too_many_requests", "ratelimited",
        "rate_limited", "rate_limit", "rate_limit_exceeded", "over_request_rate_limit",
        "request_limit_exceeded", "quota_exceeded", "throttled",
        "authorization_pending",  # RFC 8628
        "org_login_required", "team_added_to_org",  # Slack: a workspace being migrated
        "access denied",  # Zoho's throttle; with an underscore it is another word
    ),
    Meaning.FAILED: (
        "server_error",  # RFC 6749 4.1.2.1
        "internal_error", "fatal_error",  # Slack: "some aspect" may have succeeded
        "internal_server_error", "service_unavailable", "request_timeout",
    ),
}  # fmt: skip

NEED_A_PERSON = frozenset({"interaction_required", "consent_required"})
"""OpenID Connect Core 3.1.2.6, at the token endpoint Entra's: no other answer can follow."""

ENTRA_NEEDS_A_PERSON = frozenset({
    50034, 51004,  # the account is not in the directory
    50055, 50144,  # the password has expired
    50057,  # the account is disabled
    50072, 50074, 50076, 50078, 50079,  # a second factor must be enrolled or shown
    50085, 50089, 50097, 50105, 50125, 50129, 50131, 50135, 50158, 50199,
    50132, 50133, 50173,  # the password was changed, or the session revoked
    53000, 53001, 53002, 53003, 53004,  # conditional access
    65001, 65004,  # consent is missing, or was declined
    70008, 700082,  # not used for too long
    70043, 70044,  # the tenant's sign-in frequency
    700081, 700084,  # the fixed life of a single-page application's refresh token is over
})  # fmt: skip
"""Numbers in ``error_codes`` and behind ``AADSTS`` that only a person can answer, beside a code
that says the same (https://learn.microsoft.com/entra/identity-platform/reference-error-codes).
70000 is none of them: it comes now and then for good refresh tokens."""

ABOUT_ONE_GRANT = frozenset({"unauthorized_client", "access_denied"})
"""Words about the client that some servers say of one refresh token (Atlassian does)."""

BEING_PROCESSED = "being_processed"
RETRY_LATER = "retry_later"
TOO_EARLY = "too_early"
"""Our words for what only a description says."""

_ERROR_NAME = re.compile(r"err|fault", re.IGNORECASE)
_PRESENTED = re.compile(r"refresh_token|grant")

MEANINGS: Mapping[str, Meaning] = {
    word: meaning for meaning, words in _WORDS.items() for word in words
}
"""Every code known without being told, in lower case."""


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """A code fit to be shown; ``meaning`` is None for one that nobody knows."""

    word: str
    meaning: Meaning | None
    needs_person: bool = False
    is_explained: bool = False
    """The prose beside it says that the refresh token itself is dead."""
    is_stated: bool = True
    """False where nothing but a word in passing says so, as ``message`` beside no error."""


def find_error(fields: Fields, client: Client) -> ErrorCode | None:
    """The error FIELDS state, by the client's lists first; None when they state none.

    A description is more specific than its code, so it comes first in the lists, and in what
    is known of both.
    """
    description = read_descriptions(fields)
    own = _own(fields, client)
    if own is not None and own in client.quirks.success_codes:
        return None
    listed = _listed(fields, own, description, client)
    return listed or _described(_coded(fields, own), description, fields)


def _own(fields: Fields, client: Client) -> str | None:
    """What the field holds in which this server says that it failed."""
    path = client.quirks.error_field
    return next(_texts({path: at(fields, path)}, (path,), zero=True), None) if path else None


def _listed(fields: Fields, own: str | None, description: str, client: Client) -> ErrorCode | None:
    """What the client's own lists make of the error; later beats rejection in each pair."""
    quirks, prose = client.quirks, description.lower()
    if any(phrase in prose for phrase in quirks.in_progress_descriptions):
        return ErrorCode(BEING_PROCESSED, Meaning.LATER)
    if any(phrase in prose for phrase in quirks.transient_descriptions):
        return ErrorCode("transient_descriptions", Meaning.LATER)
    if any(phrase in prose for phrase in quirks.rejection_descriptions):
        return ErrorCode("rejection_descriptions", Meaning.GRANT, needs_person=True)
    codes = [*_codes_in_error(fields), *_codes_elsewhere(fields)]
    codes = codes if own is None else [own, *codes]
    if any(code in quirks.in_progress_codes for code in codes):
        return ErrorCode(BEING_PROCESSED, Meaning.LATER)
    for listed, meaning in (
        (quirks.transient_codes, Meaning.LATER),
        (quirks.rejection_codes, Meaning.GRANT),
    ):
        if (told := next((code for code in codes if code in listed), None)) is not None:
            return ErrorCode(_shown(told), meaning)
    return None


def _described(coded: ErrorCode | None, description: str, fields: Fields) -> ErrorCode | None:
    """CODED, unless DESCRIPTION knows better."""
    meaning = None if coded is None else coded.meaning
    if coded is not None and meaning is Meaning.GRANT:
        is_told = bool(ENTRA_NEEDS_A_PERSON & set(_entra_numbers(fields, description)))
        if is_told or coded.word in NEED_A_PERSON:
            return replace(coded, needs_person=True)
    is_stated = coded is not None or any(_ERROR_NAME.search(name) for name in fields)
    match judge(description):
        case Prose.PROOF if meaning not in {Meaning.LATER, Meaning.FAILED}:
            # oidc-provider: invalid_grant, "DPoP proof JWT not provided".
            word = UNRECOGNIZED if coded is None else coded.word
            return ErrorCode(word, Meaning.PROOF, is_stated=is_stated)
        case Prose.BEING_PROCESSED:
            return ErrorCode(BEING_PROCESSED, Meaning.LATER, is_stated=is_stated)
        case Prose.TOO_EARLY:
            return ErrorCode(TOO_EARLY, Meaning.EARLY)
        case Prose.DEAD:
            return _dead(coded)
        case Prose.LATER if meaning not in {Meaning.LATER, Meaning.FAILED}:
            return ErrorCode(RETRY_LATER, Meaning.LATER, is_stated=is_stated)
        case _:
            return coded


def _dead(coded: ErrorCode | None) -> ErrorCode:
    """CODED beside words that the refresh token is dead: final where the code leaves it open."""
    if coded is None or coded.meaning is None:
        return ErrorCode("invalid_refresh_token", Meaning.GRANT, is_explained=True)
    about_client = coded.meaning is Meaning.CLIENT and coded.word in ABOUT_ONE_GRANT
    if coded.meaning is Meaning.REQUEST or about_client:
        return replace(coded, meaning=Meaning.GRANT, is_explained=True)
    return replace(coded, is_explained=True)


def _entra_numbers(fields: Fields, description: str) -> Iterator[int]:
    numbers = fields.get("error_codes")
    for number in numbers[:10] if isinstance(numbers, list) else []:
        if isinstance(number, int):
            yield number
    for match in re.finditer(r"AADSTS(\d{5,7})", description):
        yield int(match[1])


def _coded(fields: Fields, own: str | None) -> ErrorCode | None:
    """The error by its code alone."""
    stated, elsewhere = list(_codes_in_error(fields)), list(_codes_elsewhere(fields))
    stated = stated if own is None else [own, *stated]
    codes = [*stated, *elsewhere]
    for code in codes:
        if (known := _known(code, is_stated=code in stated)) is not None:
            return known
    is_refusal = bool(stated) or any(fields.get(name) is False for name in ("ok", "success"))
    return ErrorCode(UNRECOGNIZED, None) if is_refusal else None


def _known(code: str, *, is_stated: bool) -> ErrorCode | None:
    """CODE as the table has it; a doubtful end of a grant is none.

    Words with spaces, and codes outside ``error``, may be anybody's: the "Login required" of
    a gateway would end every grant behind it. They do so only if they name what was sent.
    """
    for word in (code.lower(), re.sub(r"[\s-]+", "_", code.lower())):
        meaning = MEANINGS.get(word)
        if meaning is Meaning.GRANT and not (is_stated and word == code.lower()):
            meaning = meaning if _PRESENTED.search(word) else None
        if meaning is not None:
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
            yield from _texts(
                item, ("code", "error_subcode", "type", "errorType", "status", "error")
            )
        else:
            yield from _texts({"error": item}, ("error",))


def _codes_elsewhere(fields: Fields) -> Iterator[str]:
    """Places that hold a code at a few vendors and anything else at the others."""
    yield from _texts(fields, ("error_code", "code", "status", "reason", "message"))
    numbers = fields.get("error_codes")  # Entra: what its invalid_grant is really about
    for number in numbers[:10] if isinstance(numbers, list) else []:
        yield from _texts({"number": number}, ("number",))


def _texts(fields: Fields, names: tuple[str, ...], *, zero: bool = False) -> Iterator[str]:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and (value or zero):
            yield str(value)
        elif isinstance(value, str) and value.strip():
            yield value.strip()
