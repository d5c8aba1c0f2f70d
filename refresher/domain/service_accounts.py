"""Private keys as they are handed out: alone in PEM form, or in Google's JSON file.

The file of a service account holds the key with whom it is of, so that one setting names both
(https://developers.google.com/identity/protocols/oauth2/service-account).
"""

import json
from dataclasses import dataclass

from refresher.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """What the JSON file of a service account says, its key aside."""

    client_email: str
    """Who signs: the client's id."""
    token_uri: str | None


def read_service_account(private_key: Secret) -> ServiceAccount | None:
    """Whose PRIVATE_KEY is; None where it is no such file."""
    told = _fields(private_key)
    email, uri = told.get("client_email"), told.get("token_uri")
    if not isinstance(email, str) or not email:
        return None
    return ServiceAccount(client_email=email, token_uri=uri if isinstance(uri, str) else None)


def read_private_key(private_key: Secret) -> tuple[Secret, str | None]:
    """The key in PEM form that is in PRIVATE_KEY, and its id where that is told beside it."""
    told = _fields(private_key)
    inner, key_id = told.get("private_key"), told.get("private_key_id")
    if not isinstance(inner, str):
        return private_key, None
    return Secret(inner), key_id if isinstance(key_id, str) and key_id else None


def _fields(private_key: Secret) -> dict[str, object]:
    text = private_key.reveal()
    if not text.lstrip().startswith("{"):
        return {}
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
