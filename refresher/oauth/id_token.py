"""Who authorized: what an ID token says about the account (OpenID Connect Core 2).

Its signature is not verified: it came from the token endpoint itself, over a connection
that proved who that is (3.1.3.7, number 6), and it only names the account to people.
"""

from collections.abc import Mapping
from typing import Any

from refresher.domain.clients import Client
from refresher.domain.outcomes import ResourceOwner
from refresher.domain.secret import Secret
from refresher.oauth.documents import Fields, is_there
from refresher.oauth.ends import read_claims

NAMES = ("email", "preferred_username", "name", "sub")
"""Claims that name the account to a person, the clearest first."""

LONGEST_NAME = 255
"""Characters; a subject has no more (OpenID Connect Core 2)."""


def read_resource_owner(fields: Fields, client: Client) -> ResourceOwner | None:
    """The account in the ID token of FIELDS; None without one that is meant for CLIENT."""
    id_token = fields.get("id_token")
    claims = read_claims(Secret(id_token)) if isinstance(id_token, str) else {}
    audience = claims.get("aud")
    if client.client_id not in (audience if isinstance(audience, list) else [audience]):
        return None
    name = next(filter(None, (_text(claims, claim) for claim in NAMES)), None)
    return None if name is None else ResourceOwner(name=name, subject=_text(claims, "sub"))


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    """A claim as plain text: what a server writes into it ends in tables and on terminals."""
    value = claims.get(name)
    if not isinstance(value, str) or not is_there(value):
        return None
    return "".join(filter(str.isprintable, value)).strip()[:LONGEST_NAME] or None
