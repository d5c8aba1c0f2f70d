"""From fields to a token answer (RFC 6749 5.1): each field on its own, none able to raise.

A refresh token is found however bad the rest is (guarantee G3). What gets published is
made safe for a header, a Redis value and a log line first.
"""

import base64
import json
from typing import Any

from refresher.domain import schedule
from refresher.domain.clients import Client
from refresher.domain.outcomes import TokenAnswer
from refresher.domain.secret import Secret
from refresher.oauth.documents import Fields, is_there

LONGEST_TOKEN = 32 * 1024
"""Characters; the longest real ones (JWTs with groups) stay below 16 KiB."""

REFRESH_TOKEN_ENDS = (
    "refresh_token_expires_in",  # GitHub, LinkedIn, eBay, Google
    "x_refresh_token_expires_in",  # Intuit
    "refresh_expires_in",  # Keycloak, TikTok, Airtable
)

_REPLACEMENT = "\ufffd"
_SEGMENTS_OF_JWT = 3


def read_answer(
    fields: Fields, client: Client, now: float, odd: tuple[str, ...] = ()
) -> TokenAnswer:
    """Everything usable in FIELDS; NOW dates a JWT's ``exp``.

    Args:
        odd: what is known to be odd already, in words; more may be added.
    """
    warnings = list(odd)
    access_token = read_access_token(fields.get("access_token"))
    if access_token is None and is_there(fields.get("access_token")):
        warnings.append("the access_token is not usable")
    refresh_token = read_refresh_token(fields.get("refresh_token"))
    if refresh_token is None and is_there(fields.get("refresh_token")):
        warnings.append("the refresh_token is not usable: the one before is kept")
    unit = client.expires_in_unit.seconds
    expires_in = read_seconds(fields.get("expires_in"), unit)
    if expires_in is None and fields.get("expires_in") is not None:
        warnings.append("expires_in is not a believable number of seconds")
    if expires_in is None and access_token is not None:
        expires_in = jwt_lifetime(access_token, now)
    return TokenAnswer(
        access_token=access_token,
        refresh_token=refresh_token,
        token_type=_text(fields.get("token_type")) or "Bearer",
        expires_in=expires_in,
        refresh_in=read_seconds(fields.get("refresh_in"), unit),
        refresh_token_expires_in=_first_seconds(fields, REFRESH_TOKEN_ENDS, unit),
        scope=read_scope(fields.get("scope"), client.scope_separator),
        extras=_extras(fields, client, warnings),
        warnings=tuple(warnings),
    )


def read_access_token(value: object) -> Secret | None:
    """An access token that can travel in a header: visible characters only (RFC 6749 A.12)."""
    secret = read_refresh_token(value)
    return secret if secret is not None and secret.reveal().isprintable() else None


def read_refresh_token(value: object) -> Secret | None:
    """A refresh token that can be sent back exactly as it came.

    Control characters are no obstacle, since it only ever travels percent-encoded, and
    refusing it might lose the grant; what was corrupted in decoding is.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_TOKEN:
        return None
    return Secret(value) if _REPLACEMENT not in value and _is_encodable(value) else None


def read_seconds(value: object, unit: float = 1.0) -> float | None:
    """A positive, believable number of seconds, however it is written (FAILURES 46).

    Args:
        unit: seconds in one of VALUE.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) * unit if 0 < value <= schedule.LONGEST_EXPIRES_IN / unit else None


def read_scope(value: object, separator: str) -> str | None:
    """The scope, space-separated whatever separates it there; None when there is none."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return None
    parts = value.replace(separator or " ", " ").split()
    return " ".join(filter(None, map(_printable, parts))) or None


def jwt_lifetime(access_token: Secret, now: float) -> float | None:
    """Seconds until a JWT's ``exp`` (RFC 7519 4.1.4), believed no more than ``expires_in``."""
    parts = access_token.reveal().split(".")
    if len(parts) != _SEGMENTS_OF_JWT:
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
        claims: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    end = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(end, bool) or not isinstance(end, int | float):
        return None
    try:
        return read_seconds(end - now)
    except OverflowError:
        return None


def _extras(fields: Fields, client: Client, warnings: list[str]) -> dict[str, str]:
    """The fields to be published, as strings; never one that holds a refresh token (G4)."""
    extras: dict[str, str] = {}
    for name in client.extras:
        if fields.get(name) is None:
            continue
        text = _extra(fields[name])
        if text is None or "refresh_token" in name or "refresh_token" in text:
            warnings.append("a field of the answer that was to be published cannot be")
            continue
        extras[name] = text
    return extras


def _extra(value: object) -> str | None:
    if isinstance(value, str):
        return _printable(value)
    try:
        return json.dumps(value, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None


def _first_seconds(fields: Fields, names: tuple[str, ...], unit: float) -> float | None:
    found = (read_seconds(fields.get(name), unit) for name in names)
    return next((seconds for seconds in found if seconds is not None), None)


def _text(value: object) -> str | None:
    return _printable(value).strip() or None if isinstance(value, str) else None


def _printable(text: str) -> str:
    """TEXT without what a Redis value, a column or a terminal might choke on."""
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, from a \\u escape
        return False
    return True
