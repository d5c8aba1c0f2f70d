"""From a token endpoint's answer to an outcome: total, tolerant, pure.

Only a parsed OAuth error can end a grant (FAILURES 35); an answer that carries a usable
token is never thrown away (FAILURES 25).
"""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import assert_never

from refresher.domain import schedule
from refresher.domain.clients import Client
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    Refreshed,
    RefreshTokenOnly,
    RequestRejected,
    Transient,
)
from refresher.oauth.answers import read_answer
from refresher.oauth.documents import Fields, read_fields
from refresher.oauth.error_codes import ErrorCode, Meaning, find_error

LATER_STATUSES = frozenset({408, 409, 423, 425, 429})
"""Time-out, conflict, locked, too early, too many: "later", whatever the body says."""

WORDED_STATUSES = frozenset({400, 401})
"""Where an unknown ``error`` is the server's own word. Elsewhere gateways use that field
for HTTP phrases such as ``Not Found``."""

PROXY_AUTHENTICATION = 407


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    client: Client,
    now: float,
    *,
    broken: str | None = None,
) -> Outcome:
    """What an answer to a token request of CLIENT means: the outcome table of FAILURES 1.4.

    Args:
        headers: looked up without regard to case by the mapping itself.
        now: when the request was sent; dates a JWT's ``exp`` and a Retry-After date.
        broken: why BODY is not all of the answer, in a word; None when it is.
    """
    if status == PROXY_AUTHENTICATION:
        return NotSent(reason="proxy")
    if 300 <= status < 400:  # noqa: PLR2004  the class of status codes
        return Misconfigured(error="redirected", status=status)
    retry_after = read_retry_after(headers.get("Retry-After"), now)
    fields = read_fields(body, is_whole=broken is None)
    error = None if fields is None else find_error(fields, client)
    tokens = None if fields is None else _tokens(status, fields, error, client, now)
    if 200 <= status < 300:  # noqa: PLR2004  the class of status codes
        if tokens is not None:
            return tokens
        if error is not None:
            return _refused(status, error, retry_after)
        reason = broken or ("unreadable" if fields is None else "no_tokens")
        return OutcomeUnknown(reason=reason, status=status, retry_after=retry_after, body=body)
    if tokens is not None and error is None:
        reason = "tokens_in_failure"
        return OutcomeUnknown(reason=reason, status=status, retry_after=retry_after, body=body)
    return _failed(status, error, retry_after)


def read_retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait (RFC 9110 10.2.3: seconds or a date), at most an hour."""
    if value is None:
        return None
    text = value.strip()
    if re.fullmatch(r"\d{1,300}(\.\d{0,9})?", text, re.ASCII):
        return schedule.capped_retry_after(float(text))
    try:
        date = parsedate_to_datetime(text)
        instant = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    return schedule.capped_retry_after(instant - now)


def _tokens(
    status: int, fields: Fields, error: ErrorCode | None, client: Client, now: float
) -> Refreshed | RefreshTokenOnly | None:
    """The tokens in FIELDS; they win over an error beside them. None when there are none."""
    odd = () if error is None else (f"tokens came together with the error {error.word}",)
    answer = read_answer(fields, client, now, odd)
    if answer.access_token is not None:
        return Refreshed(answer=answer, status=status)
    if answer.refresh_token is not None:
        return RefreshTokenOnly(answer=answer, status=status)
    return None


def _failed(status: int, error: ErrorCode | None, retry_after: float | None) -> Outcome:
    """The outcome of a status that is neither success nor redirect."""
    word = f"http_{status}"
    if status in LATER_STATUSES:
        return Transient(reason=word, status=status, retry_after=retry_after)
    if not 400 <= status < 500:  # noqa: PLR2004  the class of status codes
        if error is not None and error.meaning is Meaning.LATER:
            return Transient(reason=error.word, status=status, retry_after=retry_after)
        return OutcomeUnknown(reason=word, status=status, retry_after=retry_after)
    if error is None or (error.meaning is None and status not in WORDED_STATUSES):
        return Transient(reason=word, status=status, retry_after=retry_after)
    return _refused(status, error, retry_after)


def _refused(status: int, error: ErrorCode, retry_after: float | None) -> Outcome:
    """The outcome of an error the server put into words with a status below 500."""
    match error.meaning:
        case Meaning.GRANT:
            return GrantRejected(error=error.word, status=status)
        case Meaning.CLIENT:
            return ClientRejected(error=error.word, status=status)
        case Meaning.CONFIGURATION:
            return Misconfigured(error=error.word, status=status)
        case Meaning.LATER:
            return Transient(reason=error.word, status=status, retry_after=retry_after)
        case Meaning.FAILED:
            return OutcomeUnknown(reason=error.word, status=status, retry_after=retry_after)
        case Meaning.REQUEST | None:
            return RequestRejected(error=error.word, status=status)
        case _:
            assert_never(error.meaning)
