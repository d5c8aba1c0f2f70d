"""How a client proves itself at an endpoint of its server (RFC 6749 2.3).

The configured way alone is used. Another one is never tried: some servers spend the refresh
token of a request whose client they refuse.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import assert_never
from urllib.parse import quote_plus

from refresher.domain.clients import Client
from refresher.domain.quirks import ClientAuthentication

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""RFC 7523 2.2."""


class KeyUnusable(Exception):
    """Raised when the client's private key cannot sign; nothing was sent."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What goes into a request; it shows nothing of itself (guarantee G5)."""

    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def authenticate(client: Client, now: float) -> Proof:
    """What CLIENT puts into one request, sent NOW, to prove itself.

    Raises:
        KeyUnusable: its private key cannot sign.
    """
    secret, named = client.authentication.password, {"client_id": client.client_id}
    match client.quirks.client_authentication:
        case ClientAuthentication.BASIC:
            password = "" if secret is None else secret.reveal()
            is_encoded = client.quirks.encode_basic
            return Proof(headers=_basic(client.client_id, password, is_encoded=is_encoded))
        case ClientAuthentication.POST:
            told = {} if secret is None else {"client_secret": secret.reveal()}
            return Proof({**named, **told})
        case ClientAuthentication.PRIVATE_KEY_JWT:
            return Proof({**named, **_assertion(client, now)})
        case ClientAuthentication.TLS | ClientAuthentication.SELF_SIGNED_TLS:
            return Proof(named)  # RFC 8705 2: the connection proves the rest
        case ClientAuthentication.NONE:
            return Proof(named)  # RFC 6749 3.2.1
        case _:
            assert_never(client.quirks.client_authentication)


def _assertion(client: Client, now: float) -> dict[str, str]:
    # Whoever signs nothing does without the library: it takes longer to load than we do.
    from refresher.oauth.assertion import client_assertion  # noqa: PLC0415

    signed = client_assertion(client, now)
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}


@lru_cache(maxsize=128)
def _basic(user: str, password: str, *, is_encoded: bool) -> Mapping[str, str]:
    """HTTP Basic; RFC 6749 2.3.1 form-encodes both parts first, some servers do not decode."""
    if is_encoded:
        user, password = quote_plus(user), quote_plus(password)
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return MappingProxyType({"Authorization": f"Basic {encoded}"})
