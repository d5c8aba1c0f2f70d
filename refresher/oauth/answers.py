"""From fields to a token answer (RFC 6749 5.1): each field on its own, none able to raise.

A refresh token is found however bad the rest is (guarantee G3). What gets published is
made safe for a header, a Redis value and a log line first.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from urllib.parse import unquote

from refresher.domain.clients import Client
from refresher.domain.outcomes import TokenAnswer
from refresher.domain.secret import Secret
from refresher.oauth.documents import Fields, is_there
from refresher.oauth.ends import read_duration, read_end, read_refresh_token_end
from refresher.oauth.id_token import read_resource_owner
from refresher.oauth.shapes import at

SHORTEST_SECRET = 6
"""Characters of a secret that cannot stand in a text by chance."""

LONGEST_EXTRA = 2048
"""Characters of a field that is published with the token, which every consumer reads along."""

LONGEST_ACCESS_TOKEN = 64 * 1024
"""Characters that can still travel in a header; the longest real ones have half as many."""

TELLING_LENGTH = 24
"""Characters of a presented refresh token from which the length of its successor says something."""

BOUND = "token_type is DPoP: the access token is bound to a key that no consumer has (RFC 9449)"

_REPLACEMENT = "\ufffd"


def read_answer(
    fields: Fields,
    client: Client,
    now: float,
    *,
    sent: Mapping[str, str] = MappingProxyType({}),
    odd: tuple[str, ...] = (),
) -> TokenAnswer:
    """Everything usable in FIELDS.

    Args:
        now: when the request was sent, by the clock of the server: dates the instants told.
        sent: the parameters of the request; a refresh token that was in it is none.
        odd: what is known to be odd already, in words; more may be added.
    """
    warnings = list(odd)
    access_token = read_access_token(fields.get("access_token"))
    if access_token is None and is_there(fields.get("access_token")):
        warnings.append(_why_unusable(fields["access_token"]))
    renewing = "access_token" if client.quirks.renews_with_access_token else "refresh_token"
    written = _unwrapped(fields.get(renewing))
    refresh_token = read_refresh_token(written)
    if refresh_token is None and is_there(fields.get(renewing)):
        warnings.append(f"the {renewing} is not usable: the one before is kept")
    if refresh_token is not None and _is_echo(refresh_token, sent):
        refresh_token = None
    is_odd = False
    if refresh_token is not None and _is_stunted(refresh_token, sent):
        is_odd = True
        warnings.append(f"the {renewing} is far shorter than the one before, which is kept too")
    elif refresh_token is not None and written is not fields[renewing]:
        is_odd = True
        warnings.append(f"the {renewing} is no string: the one before is kept too")
    unit = client.quirks.expires_in_unit.seconds
    end = read_end(fields, access_token, unit, now)
    warnings += [
        f"{name} is not understood as the end of the access token" for name in end.not_understood
    ]
    token_type = _text(fields.get("token_type")) or "Bearer"
    if token_type.lower() == "dpop":
        warnings.append(BOUND)
    return TokenAnswer(
        access_token=access_token,
        refresh_token=refresh_token,
        token_type=token_type,
        expires_in=end.expires_in,
        ends_in=end.until,
        since_issue=end.since_issue,
        refresh_in=read_duration(fields.get("refresh_in"), unit),
        refresh_token_expires_in=read_refresh_token_end(fields, unit, now),
        scope=read_scope(fields.get("scope"), client.quirks.scope_separator),
        extras=_extras(fields, client, [refresh_token, *_secrets_of(client, sent)], warnings),
        resource_owner=read_resource_owner(fields, client),
        warnings=tuple(warnings),
        is_searched=is_odd,
    )


def read_access_token(value: object) -> Secret | None:
    """An access token that can travel in a header: visible characters only (RFC 6749 A.12)."""
    secret = read_refresh_token(value)
    if secret is None or len(secret.reveal()) > LONGEST_ACCESS_TOKEN:
        return None
    return secret if secret.reveal().isprintable() else None


def read_refresh_token(value: object) -> Secret | None:
    """A refresh token that can be sent back exactly as it came.

    Neither control characters nor its length are an obstacle: it only ever travels
    percent-encoded, no answer is longer than the transport allows, and refusing it might
    lose the grant. What was corrupted in decoding is refused.
    """
    if not isinstance(value, str) or not is_there(value):
        return None
    return Secret(value) if _REPLACEMENT not in value and _is_encodable(value) else None


def _unwrapped(value: object) -> object:
    """What stands for a refresh token in VALUE: a whole number's digits, a list's only text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def read_scope(value: object, separator: str) -> str | None:
    """The scope, space-separated whatever separates it there; None when there is none."""
    if isinstance(value, list):
        value = " ".join(part for part in value if isinstance(part, str))
    if not isinstance(value, str):
        return None
    parts = value.replace(separator or " ", " ").split()
    return " ".join(filter(None, map(_printable, parts))) or None


def _is_echo(refresh_token: Secret, sent: Mapping[str, str]) -> bool:
    """Whether the server repeats what it was sent: that tells of no new refresh token."""
    presented, told = sent.get("refresh_token", "").strip(), refresh_token.reveal().strip()
    return presented in {told, unquote(told)}


def _is_stunted(refresh_token: Secret, sent: Mapping[str, str]) -> bool:
    """Whether it is less than a quarter of the one presented: "0" or "[REDACTED]", perhaps."""
    presented = len(sent.get("refresh_token", ""))
    return presented >= TELLING_LENGTH and 4 * len(refresh_token.reveal().strip()) < presented


def _why_unusable(value: object) -> str:
    if isinstance(value, str) and len(value) > LONGEST_ACCESS_TOKEN:
        return f"the access_token is longer than {LONGEST_ACCESS_TOKEN} characters: not usable"
    return "the access_token is not usable"


def with_extras(answer: TokenAnswer, told: Mapping[str, str]) -> TokenAnswer:
    """ANSWER with what the redirect of its login TOLD beside the code, fit to be published."""
    found = {name: _printable(value)[:LONGEST_EXTRA] for name, value in told.items()}
    return replace(answer, extras=found | dict(answer.extras))


def _extras(
    fields: Fields, client: Client, secrets: Iterable[Secret | None], warnings: list[str]
) -> dict[str, str]:
    """The fields to be published, as strings; never one that holds a secret (G4, G5)."""
    hidden = [secret.reveal() for secret in secrets if secret is not None]
    extras: dict[str, str] = {}
    for name in client.quirks.extras:
        if (value := at(fields, name)) is None:
            continue
        text = _extra(value)
        if text is None or len(text) > LONGEST_EXTRA or _is_secret(name, text, hidden):
            warnings.append("a field of the answer that was to be published cannot be")
            continue
        extras[name] = text
    return extras


def _secrets_of(client: Client, sent: Mapping[str, str]) -> list[Secret | None]:
    presented = sent.get("refresh_token")
    return [*client.authentication.secrets, None if presented is None else Secret(presented)]


def _is_secret(name: str, text: str, hidden: Iterable[str]) -> bool:
    is_named = "refresh_token" in name or "refresh_token" in text
    return is_named or any(len(secret) >= SHORTEST_SECRET and secret in text for secret in hidden)


def _extra(value: object) -> str | None:
    if isinstance(value, str):
        return _printable(value)
    try:
        return json.dumps(value, separators=(",", ":"))
    except (ValueError, RecursionError):
        return None


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
