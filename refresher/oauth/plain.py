"""The answer that nearly every server gives, read without a search for anything odd.

It says what the full reader would say, in a tenth of the time: nothing is in the answer but
the fields of RFC 6749 5.1, as the standard has them. Whatever else is told, or left out, is
the full reader's (``answers``); the tests hold both equal.
"""

import re
from collections.abc import Mapping
from string import ascii_letters, digits

from refresher.domain import schedule
from refresher.domain.clients import Client
from refresher.domain.outcomes import TokenAnswer
from refresher.domain.secret import Secret
from refresher.oauth.answers import LONGEST_ACCESS_TOKEN, TELLING_LENGTH, read_scope
from refresher.oauth.documents import Fields
from refresher.oauth.ends import LEAST_INSTANT

NAMES = frozenset({"access_token", "token_type", "expires_in", "refresh_token", "scope"})
"""All that a plain answer has."""

_SHORTEST = 24
"""Characters that are too many for a word that says "none"."""

_PLAIN = (ascii_letters + digits + "._~+/=:|-").encode()
"""What a plain token is made of: no blanks, escapes and masks."""

BEARER = "Bearer"
"""What nearly every access token is (RFC 6750)."""

_TYPE = re.compile(r"[A-Za-z]+")
_SCOPE = re.compile(r"[!-~ ]*")
_DOTS_OF_JWT = 2


def read_plain(fields: Fields, client: Client, sent: Mapping[str, str]) -> TokenAnswer | None:
    """The answer in FIELDS of a success, if it is a plain one.

    Args:
        sent: the parameters of the request.
    """
    quirks = client.quirks
    if not fields.keys() <= NAMES or quirks.error_field in fields:
        return None
    if quirks.extras or quirks.answer_path or quirks.answer_names:
        return None
    if quirks.renews_with_access_token:
        return None
    access_token, refresh_token = fields.get("access_token"), fields.get("refresh_token")
    if not isinstance(access_token, str) or not _is_plain_access_token(access_token):
        return None
    if refresh_token is not None and not _is_successor(refresh_token, sent):
        return None
    expires_in, scope = fields.get("expires_in"), fields.get("scope", "")
    token_type = fields.get("token_type", BEARER)
    if type(expires_in) is not int or not (type(token_type) is type(scope) is str):
        return None
    seconds = expires_in * quirks.expires_in_unit.seconds
    if not 0 < seconds < LEAST_INSTANT or not (token_type == BEARER or _TYPE.fullmatch(token_type)):
        return None
    if scope and not _SCOPE.fullmatch(scope):
        return None
    return TokenAnswer(
        access_token=Secret(access_token),
        refresh_token=None if refresh_token is None else Secret(refresh_token),
        token_type=token_type,
        expires_in=min(seconds, schedule.LONGEST_EXPIRES_IN),
        scope=read_scope(scope, quirks.scope_separator) if scope else None,
    )


def _is_plain_access_token(value: str) -> bool:
    """Whether VALUE is an access token that tells nothing of its own end."""
    return (
        len(value) <= LONGEST_ACCESS_TOKEN and value.count(".") != _DOTS_OF_JWT and _is_plain(value)
    )


def _is_successor(value: object, sent: Mapping[str, str]) -> bool:
    """Whether VALUE is another refresh token than the one SENT, and no stunted one."""
    presented = sent.get("refresh_token", "")
    return (
        isinstance(value, str)
        and _is_plain(value)
        and value != presented.strip()
        and (len(presented) < TELLING_LENGTH or 4 * len(value) >= len(presented))
    )


def _is_plain(value: str) -> bool:
    """Whether VALUE is made of nothing but what plain tokens are, and long enough."""
    # A table of 256 bytes: of a thousand characters a fifth of the time of an expression.
    return (
        len(value) >= _SHORTEST and value.isascii() and not value.encode().translate(None, _PLAIN)
    )
