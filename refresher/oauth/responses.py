"""From a token endpoint's answer to an outcome: total, tolerant, pure.

Only a parsed OAuth error can end a grant (FAILURES 35); an answer that carries a usable
token is never thrown away (FAILURES 25).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import assert_never
from urllib.parse import unquote, urlsplit

from refresher.domain import schedule
from refresher.domain.clients import Client
from refresher.domain.outcomes import (
    ClientRejected,
    GrantRejected,
    Misconfigured,
    NotSent,
    Outcome,
    OutcomeUnknown,
    ProofDemanded,
    Refreshed,
    RefreshTokenOnly,
    RequestRejected,
    TokenAnswer,
    TooEarly,
    Transient,
)
from refresher.oauth.answers import SHORTEST_SECRET, read_answer
from refresher.oauth.compression import decompressed
from refresher.oauth.cut_off import read_members
from refresher.oauth.documents import Fields, read_fields
from refresher.oauth.ends import read_instant
from refresher.oauth.error_codes import RETRY_LATER, ErrorCode, Meaning, find_error
from refresher.oauth.plain import read_plain
from refresher.oauth.search import is_page, may_hold_tokens, search
from refresher.oauth.shapes import is_nested, shaped

LATER_STATUSES = frozenset({408, 409, 423, 425, 429})
"""Time-out, conflict, locked, too early, too many: "later", whatever the body says."""

WORDED_STATUSES = frozenset({400, 401})
"""Where an unknown ``error`` is the server's own word. Elsewhere gateways use that field
for HTTP phrases such as ``Not Found``."""

MISSING_STATUSES = frozenset({404, 405})
"""No token endpoint there, or one that takes no POST."""

REQUEST_TIMEOUT = 408
"""Nobody knows who lost patience, a gateway or the token endpoint behind it."""

OK = 200
PROXY_AUTHENTICATION = 407

HTML_PAGE = "html_page"
REDIRECTED = "redirected"

SECRET_PARAMETERS = (
    *("refresh_token", "code", "code_verifier", "client_secret"),
    *("assertion", "subject_token", "device_code"),
)

LONGEST_PATH = 100
LONGEST_NAME = 40
"""Characters of a path that is told, and of a part of it."""

_PLAIN_TO_TLS = re.compile(
    rb"plain HTTP request was sent to HTTPS port"  # nginx
    rb"|speaking plain HTTP to an SSL-enabled server port"  # Apache
    rb"|sent an HTTP request to an HTTPS server"  # Go, Caddy
    rb"|combination of host and port requires TLS",  # Tomcat
    re.IGNORECASE,
)


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    client: Client,
    now: float,
    *,
    broken: str | None = None,
    sent: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    """What an answer to a token request of CLIENT means: the outcome table of FAILURES 1.4.

    Args:
        headers: looked up without regard to case by the mapping itself.
        now: when the request was sent; dates the instants that the answer tells.
        broken: why BODY is not all of the answer, in a word; None when it is.
        sent: the parameters of the request. What the server only repeats is no news, and
            nothing of them is told on.
    """
    if status == PROXY_AUTHENTICATION:
        return NotSent(reason="proxy")
    if 300 <= status < 400:  # noqa: PLR2004  the class of status codes
        secrets = [sent.get(name, "") for name in SECRET_PARAMETERS]
        secrets += [secret.reveal() for secret in client.authentication.secrets]
        return Misconfigured(error=_redirected(headers.get("Location"), secrets), status=status)
    fields = read_fields(body, is_whole=broken is None)
    if status == OK and broken is None and fields is not None:
        plain = read_plain(fields, client, sent)
        if plain is not None:
            return Refreshed(answer=plain, status=status)
    reader = _Reader(client, server_time(headers, now), sent)
    retry_after = read_retry_after(headers.get("Retry-After"), now)
    words = _unpacked(body) if fields is None and broken is None else fields
    error = _told_by_headers(headers, None if words is None else find_error(words, client))
    if 200 <= status < 300:  # noqa: PLR2004  the class of status codes
        answer = _adopted(body, fields, error, reader, broken)
        if answer is not None and answer.access_token is not None:
            return Refreshed(answer=answer, status=status)
        if answer is not None:
            return RefreshTokenOnly(answer=answer, status=status)
        # "Your request is being processed" beside no error may be about this very request.
        if error is not None and error.is_stated:
            return _refused(status, error, retry_after)
        return _unread(status, body, broken, retry_after, has_fields=words is not None)
    if error is None and words is not None and reader.tokens(words) is not None:
        reason = "tokens_in_failure"
        return OutcomeUnknown(reason=reason, status=status, retry_after=retry_after, body=body)
    return _failed(status, body, error, retry_after)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads token answers to one request."""

    client: Client
    now: float
    """When it was sent, by the server's clock."""
    sent: Mapping[str, str] = field(repr=False)

    def tokens(self, fields: Fields, *odd: str) -> TokenAnswer | None:
        """The answer in FIELDS, if it holds a token that was not sent."""
        told = shaped(fields, self.client.quirks)
        answer = read_answer(told, self.client, self.now, sent=self.sent, odd=odd)
        return None if answer.access_token is None and answer.refresh_token is None else answer


def _adopted(
    body: bytes, fields: Fields | None, error: ErrorCode | None, reader: _Reader, broken: str | None
) -> TokenAnswer | None:
    """The tokens of a 2xx; they win over an error beside them. None when there are none."""
    odd = () if error is None else (f"tokens came together with the error {error.word}",)
    if fields is not None and (standard := reader.tokens(fields, *odd)) is not None:
        return standard
    if fields is not None and is_nested(fields, reader.client.quirks):
        return None  # what else is in it is another's
    if broken is None and (found := _searched(body, reader, odd)) is not None:
        # Beside an error a refresh token alone is more likely an echo, in whatever shape.
        return found if error is None or found.access_token is not None else None
    return None if fields is not None else _of_cut_off(body, reader)


def _searched(body: bytes, reader: _Reader, odd: tuple[str, ...]) -> TokenAnswer | None:
    """What the second reader finds; nothing if several objects hold different tokens."""

    def read(fields: Fields) -> TokenAnswer | None:
        answer = reader.tokens(fields, *odd, "the tokens were not where they belong: searched for")
        # What names a grant type is a request that the server repeats, perhaps masked.
        is_request = "grant_type" in fields and (answer is None or answer.access_token is None)
        return None if is_request else answer

    answers = search(body, read)
    if len({(answer.access_token, answer.refresh_token) for answer in answers}) != 1:
        return None
    return replace(answers[0], is_searched=True)


def _of_cut_off(body: bytes, reader: _Reader) -> TokenAnswer | None:
    """The refresh token of an answer that broke off behind it; the rest is asked for again."""
    members = read_members(body)
    answer = (
        None
        if members is None
        else reader.tokens(members, "the answer was cut off: only its refresh token counts")
    )
    if answer is None or answer.refresh_token is None:
        return None
    return replace(answer, access_token=None, is_searched=True)


def _unpacked(body: bytes) -> Fields | None:
    """The fields in a body compressed without a word, for the errors in it.

    Its tokens are the second reader's, which says so.
    """
    content = decompressed(body, is_whole=True)
    return read_fields(content.body) if content is not None and content.is_whole else None


def _unread(
    status: int, body: bytes, broken: str | None, retry_after: float | None, *, has_fields: bool
) -> OutcomeUnknown:
    """A 2xx without tokens and without an error."""
    reason = broken or ("no_tokens" if has_fields else "unreadable")
    if broken is None and is_page(body):
        reason = HTML_PAGE
    return OutcomeUnknown(
        reason=reason,
        status=status,
        retry_after=retry_after,
        body=body,
        may_hold_tokens=broken is None and may_hold_tokens(body),
    )


def _told_by_headers(headers: Mapping[str, str], error: ErrorCode | None) -> ErrorCode | None:
    """ERROR, unless the headers beside it show that it is about a DPoP proof (RFC 9449 7.1, 8).

    A nonce beside the end of a grant leaves it open whether the refresh token or the missing
    proof was refused: then nobody is asked to log in for it.
    """
    settled = {Meaning.CLIENT, Meaning.LATER, Meaning.FAILED}
    challenge = headers.get("WWW-Authenticate", "")
    is_asked = re.search(r"(?:^|,)\s*DPoP(?:\s|$)", challenge, re.IGNORECASE) is not None
    if is_asked and (error is None or error.meaning not in settled):
        return ErrorCode("dpop" if error is None else error.word, Meaning.PROOF)
    if error is None or error.meaning is not Meaning.GRANT or error.needs_person:
        return error
    if "DPoP-Nonce" in headers:
        return replace(error, meaning=Meaning.PROOF)
    return error


def server_time(headers: Mapping[str, str], now: float) -> float:
    """NOW by the clock of the server, which is what the instants in its answer are told by.

    Its ``Date`` (RFC 9110 6.6.1) has no fractions: where it does not agree with our clock, the
    later end of its second counts, so that no token seems to live longer than it does (G1).
    """
    date = read_instant(headers.get("Date"))
    if date is None or date <= now < date + 1:
        return now
    return date + 1


def _redirected(location: str | None, secrets: Iterable[str]) -> str:
    """``redirected``, and the path to where, if there is nothing in it that must not be told."""
    try:
        path = urlsplit(location or "").path.partition(";")[0]
    except ValueError:
        return REDIRECTED
    told = unquote(path)
    segments = told.split("/")
    # What is this long is no name; it may be a session, or a token of somebody's.
    if not path or len(path) > LONGEST_PATH or any(len(part) > LONGEST_NAME for part in segments):
        return REDIRECTED
    if not (told.isascii() and told.isprintable()):
        return REDIRECTED
    for secret in filter(None, secrets):
        if secret in segments or (len(secret) >= SHORTEST_SECRET and secret in told):
            return REDIRECTED
    return f"{REDIRECTED}:{path}"


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


def _failed(
    status: int, body: bytes, error: ErrorCode | None, retry_after: float | None
) -> Outcome:
    """The outcome of a status that is neither success nor redirect."""
    word = f"http_{status}"
    is_in_words = error is not None and error.meaning is not None
    if not 400 <= status < 500:  # noqa: PLR2004  the class of status codes
        # Prose is no promise that a server which failed did nothing.
        if error is not None and error.meaning is Meaning.LATER and error.word != RETRY_LATER:
            return Transient(reason=error.word, status=status, retry_after=retry_after)
        return OutcomeUnknown(reason=word, status=status, retry_after=retry_after)
    if error is not None and error.meaning is Meaning.EARLY:
        return TooEarly(error=error.word, status=status)
    if status in LATER_STATUSES:
        is_own = status != REQUEST_TIMEOUT
        return Transient(reason=word, status=status, retry_after=retry_after, is_own_word=is_own)
    if error is not None and (is_in_words or status in WORDED_STATUSES):
        return _refused(status, error, retry_after)
    return Transient(
        reason=_looks_like(status, body), status=status, retry_after=retry_after, is_own_word=False
    )


def _looks_like(status: int, body: bytes) -> str:
    """What answered a token request with a 4xx and no OAuth error, in a word."""
    if _PLAIN_TO_TLS.search(body[:4096]):
        return "plain_to_tls_port"
    if status not in MISSING_STATUSES and is_page(body):
        return HTML_PAGE
    return f"http_{status}"


def _refused(status: int, error: ErrorCode, retry_after: float | None) -> Outcome:
    """The outcome of an error the server put into words with a status below 500."""
    match error.meaning:
        case Meaning.GRANT:
            return GrantRejected(
                error=error.word,
                status=status,
                needs_person=error.needs_person,
                is_explained=error.is_explained,
            )
        case Meaning.CLIENT:
            return ClientRejected(error=error.word, status=status)
        case Meaning.CONFIGURATION:
            return Misconfigured(error=error.word, status=status)
        case Meaning.PROOF:
            return ProofDemanded(error=error.word, status=status)
        case Meaning.LATER:
            return Transient(reason=error.word, status=status, retry_after=retry_after)
        case Meaning.FAILED:
            return OutcomeUnknown(reason=error.word, status=status, retry_after=retry_after)
        case Meaning.EARLY:
            return TooEarly(error=error.word, status=status)
        case Meaning.REQUEST | None:
            return RequestRejected(error=error.word, status=status)
        case _:
            assert_never(error.meaning)
