"""When an access token ends, as its answer tells it: durations, instants, and a JWT's ``exp``.

Servers write the end under many names and in many ways (RFC 6749 5.1 knows ``expires_in``
alone). A number that is too large for a duration is an instant: a thousand million seconds
are 31 years as the one, and the year 2001 as the other.
"""

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from refresher.domain import schedule
from refresher.domain.secret import Secret
from refresher.oauth.documents import Fields, is_there

DURATIONS = (
    "expires_in", "expire_in", "expiry_in", "expiration_in", "expires_in_seconds",
    "access_token_expires_in", "access_token_expire_in", "access_expires_in", "token_expires_in",
    "token_expire_in",
)  # fmt: skip
"""Names of a duration, the standard one first. Case, ``_``, ``-`` and ``.`` do not count, so
that ``expiresIn`` and ``.expires`` are found as well."""

INSTANTS = (
    "expires_at", "expires_on", "expires", "expiry", "expiration", "expire", "expire_at",
    "expires_date", "expires_time", "expire_date", "expire_time", "expiry_date", "expiry_time",
    "expiration_date", "expiration_time", "expiration_at", "expires_at_utc", "expires_utc", "exp",
    "access_token_expires_at", "access_token_expires_on", "access_token_expires",
    "access_token_expiry", "access_token_expiration", "access_token_expire_time",
    "access_token_expiration_date", "access_token_expiration_time", "access_token_expires_date",
    "access_token_expiry_date", "token_expires_at", "token_expires", "token_expiry",
    "token_expiration", "token_expiration_date", "valid_until",
)  # fmt: skip
"""Names of an instant, or of a duration at servers that mean one: the size tells."""

REFRESH_TOKEN_ENDS = (
    "refresh_token_expires_in",  # GitHub, LinkedIn, eBay, Google
    "x_refresh_token_expires_in",  # Intuit
    "refresh_expires_in",  # Keycloak, TikTok, Airtable
    "refresh_token_expires_at",  # Square
)

LEAST_INSTANT = 1e9
"""Seconds since 1970 from which a number is an instant, and up to which a duration."""

_LARGEST_IN_SECONDS = 1e11
"""A larger instant (the year 5138) counts in milliseconds, or in something smaller still."""

_LARGEST_INSTANT = 1e20

_NUMBER = re.compile(r"[+-]?\d{1,400}(?:\.\d{0,40})?(?:[eE][+-]?\d{1,3})?")
_PERIOD = re.compile(
    r"(?:P(?=[\dT]))?(?:(?P<d>\d{1,6})\s*D(?:AYS?)?)?\s*T?(?:(?P<h>\d{1,8})\s*H(?:OURS?|RS?)?)?\s*"
    r"(?:(?P<m>\d{1,9})\s*M(?:IN(?:UTE)?S?)?)?\s*"
    r"(?:(?P<s>\d{1,10}(?:\.\d{1,9})?)\s*S(?:EC(?:OND)?S?)?)?",
    re.IGNORECASE,
)
"""A duration with units: ``3600s``, ``1h30m``, ``60 minutes``, ISO 8601's ``PT1H``."""

_DOT_NET = re.compile(r"/Date\((\d{1,16})(?:[+-]\d{4})?\)/")
_LONGEST_DATE = 100
_SEGMENTS_OF_JWT = 3


@dataclass(frozen=True, slots=True)
class End:
    """Seconds until the access token ends, as far as the answer tells."""

    duration: float | None = None
    """From the sending on, or from an earlier one if the answer is an echo of that."""
    until: float | None = None
    """From the sending on, by an instant that was told: true of an echo as well."""
    since_issue: float | None = None
    """From the issue that a JWT tells (RFC 7519 4.1.6) up to the sending."""
    not_understood: tuple[str, ...] = ()
    """What told an end that is no believable one."""

    @property
    def expires_in(self) -> float | None:
        """The earlier of the two; None when neither is told."""
        told = [end for end in (self.duration, self.until) if end is not None]
        return min(told, default=None)


def read_end(fields: Fields, access_token: Secret | None, unit: float, now: float) -> End:
    """The end of ACCESS_TOKEN by FIELDS, and by itself where it is a JWT.

    Args:
        unit: seconds in one of a duration.
        now: when the request was sent, by the clock of the server: instants are measured
            against it, so that a clock that is off does not matter.
    """
    values = _by_plain_name(fields)
    duration: float | None = None
    instants: list[float] = []
    doubts: list[str] = []
    for name, plain in _PLAIN_NAMES.items():
        value = values.get(plain)
        if not is_there(value) or (value == 0 and name in INSTANTS):
            continue
        if (seconds := read_duration(value, unit)) is not None:
            duration = seconds if duration is None else duration
        elif (until := _until(value, now)) is not None:
            instants.append(until)
        else:
            doubts.append(name)
    claims = {} if access_token is None else read_claims(access_token)
    if "exp" in claims:
        if (until := _until(claims["exp"], now)) is not None:
            instants.append(until)
        elif duration is None and not instants:
            doubts.append("the exp of a JWT")
    issued_at = read_instant(claims.get("iat"))
    return End(
        duration=duration,
        until=min(instants, default=None),
        since_issue=None if issued_at is None else max(now - issued_at, 0.0),
        not_understood=tuple(doubts),
    )


def read_refresh_token_end(fields: Fields, unit: float, now: float) -> float | None:
    """Seconds until the refresh token ends, where FIELDS tell it."""
    for name in REFRESH_TOKEN_ENDS:
        value = fields.get(name)
        seconds = read_duration(value, unit)
        if seconds is None:
            seconds = _until(value, now)
        if seconds is not None:
            return seconds
    return None


def read_duration(value: object, unit: float = 1.0) -> float | None:
    """A positive duration in seconds, however it is written (FAILURES 46).

    One of twenty years is meant (ORCID), so it counts, but as ten: whoever says "never" in
    some such number gets a token that is looked after once in a while.

    Args:
        unit: seconds in one of VALUE, where it names no unit itself.
    """
    number = _number(value)
    if number is not None:
        seconds = number * unit
    elif isinstance(value, str) and (period := _PERIOD.fullmatch(value.strip())):
        parts = {name: float(part or 0) for name, part in period.groupdict().items()}
        seconds = parts["d"] * 86400 + parts["h"] * 3600 + parts["m"] * 60 + parts["s"]
    else:
        return None
    return min(seconds, schedule.LONGEST_EXPIRES_IN) if 0 < seconds < LEAST_INSTANT else None


def read_instant(value: object) -> float | None:
    """Unix seconds of an instant: epoch, ISO 8601 (UTC if no zone is told) or HTTP date."""
    number = _number(value)
    if number is None and isinstance(value, str):
        text = value.strip()
        if dot_net := _DOT_NET.fullmatch(text):
            number = float(dot_net[1])
        else:
            return _date(text)
    if number is None or not LEAST_INSTANT <= number <= _LARGEST_INSTANT:
        return None
    while number > _LARGEST_IN_SECONDS:
        number /= 1000
    return number


def read_claims(access_token: Secret) -> Mapping[str, Any]:
    """The claims of a JWT (RFC 7519), not verified; none for anything else."""
    parts = access_token.reveal().split(".")
    if len(parts) != _SEGMENTS_OF_JWT:
        return {}
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _until(value: object, now: float) -> float | None:
    """Seconds until an instant that is still ahead; an older one is not understood."""
    instant = read_instant(value)
    if instant is None or instant <= now:
        return None
    return min(instant - now, schedule.LONGEST_EXPIRES_IN)


def _number(value: object) -> float | None:
    if isinstance(value, str):
        value = value.strip() if _NUMBER.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _date(text: str) -> float | None:
    """The instant that TEXT writes out."""
    if len(text) > _LONGEST_DATE:
        return None
    try:
        iso = re.sub(r"\s*(?:UTC|GMT)$|\s+(?=[+-]\d\d:?\d\d$)", "", text.upper())
        moment = datetime.fromisoformat(iso)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _by_plain_name(fields: Fields) -> dict[str, Any]:
    """FIELDS by their plain names; of several, the first that says something."""
    plain: dict[str, Any] = {}
    for name, value in fields.items():
        if is_there(value):
            plain.setdefault(_plain(name), value)
    for name in _PLAIN_NAMES.keys() & fields.keys():  # the exact name beats its relatives
        if is_there(value := fields[name]):
            plain[_PLAIN_NAMES[name]] = value
    return plain


_SEPARATORS = re.compile(r"[_.\s-]")


def _plain(name: str) -> str:
    return _SEPARATORS.sub("", name).lower()


_PLAIN_NAMES = {name: _plain(name) for name in (*DURATIONS, *INSTANTS)}
