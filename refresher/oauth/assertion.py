"""Assertions: JWTs that a client signs to prove itself, or to get a token (RFC 7523)."""

import secrets
import warnings
from functools import lru_cache
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from refresher.domain.clients import SUBJECT, Client
from refresher.domain.quirks import AssertionAlgorithm, AssertionAudience
from refresher.domain.renewal import Terms
from refresher.domain.secret import Secret
from refresher.domain.service_accounts import read_private_key
from refresher.oauth.client_authentication import KeyUnusable

LIVES = 300
"""Seconds an assertion is accepted: longer than clocks are apart, shorter than any server's
limit."""

BEHIND = 60
"""Seconds the clock of a server may be behind ours without taking an assertion for one of the
future; GitHub advises so many."""

_KINDS: dict[AssertionAlgorithm, type[RSAKey | ECKey | OKPKey]] = {
    AssertionAlgorithm.RS256: RSAKey,
    AssertionAlgorithm.PS256: RSAKey,
    AssertionAlgorithm.ES256: ECKey,
    AssertionAlgorithm.EDDSA: OKPKey,
}


def client_assertion(client: Client, now: float) -> str:
    """An assertion of CLIENT, fresh for one request: no server sees a ``jti`` twice.

    Raises:
        KeyUnusable: the key is missing, is none, or is of another kind than the algorithm.
    """
    return _signed(client, _claims(client, now))


def bearer_assertion(client: Client, terms: Terms, now: float, *, scope: tuple[str, ...]) -> str:
    """An assertion that CLIENT presents instead of a person's consent (RFC 7523 2.1 and 3).

    The scope is in it as well as beside it: some servers read it here alone (Google, DocuSign),
    and whoever reads it there ignores a claim that it does not know (RFC 7519 4).

    Raises:
        KeyUnusable: as for ``client_assertion``.
    """
    claims = _claims(client, now - BEHIND)
    if scope:
        claims["scope"] = client.quirks.scope_separator.join(scope)
    claims |= client.quirks.assertion_claims
    if terms.subject is not None and SUBJECT not in client.endpoints.token:
        claims["sub"] = terms.subject
    return _signed(client, {name: value for name, value in claims.items() if value != ""})


def _claims(client: Client, now: float) -> dict[str, str | int]:
    return {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": _audience(client),
        "jti": secrets.token_urlsafe(24),
        "iat": int(now),
        "exp": int(now) + LIVES,
    }


def _signed(client: Client, claims: dict[str, str | int]) -> str:
    algorithm, private_key = client.quirks.assertion_algorithm, client.authentication.private_key
    text, key_id = read_private_key(private_key or Secret(""))
    key_id = client.authentication.key_id or key_id
    header = {"alg": algorithm.value} | ({} if key_id is None else {"kid": key_id})
    try:
        key = _key(text, algorithm)
        with warnings.catch_warnings():
            # RFC 9864 renames EdDSA; the servers that ask for it know the old name alone.
            warnings.simplefilter("ignore")
            return jwt.encode(header, claims, key, algorithms=[algorithm.value])
    except (ValueError, TypeError, JoseError) as error:
        # Its text may quote the key.
        raise KeyUnusable(type(error).__name__) from None


def public_key_set(client: Client) -> dict[str, Any]:
    """What a server verifies the assertions of CLIENT with, as a JWK set (RFC 7517 5).

    Raises:
        KeyUnusable: the key is missing, is none, or is of another kind than the algorithm.
    """
    algorithm = client.quirks.assertion_algorithm
    try:
        key = _key(client.authentication.private_key or Secret(""), algorithm)
    except (ValueError, TypeError, JoseError) as error:
        raise KeyUnusable(type(error).__name__) from None
    named = {"use": "sig", "alg": algorithm.value}
    if client.authentication.key_id is not None:
        named["kid"] = client.authentication.key_id
    return {"keys": [{**key.as_dict(private=False), **named}]}


@lru_cache(maxsize=256)
def _key(private_key: Secret, algorithm: AssertionAlgorithm) -> RSAKey | ECKey | OKPKey:
    key = _KINDS[algorithm].import_key(private_key.reveal())
    if not key.is_private:
        raise ValueError("a public key cannot sign")
    return key


def _audience(client: Client) -> str:
    endpoints = client.endpoints
    if client.quirks.assertion_audience is AssertionAudience.ISSUER and endpoints.issuer:
        return endpoints.issuer
    return endpoints.token
