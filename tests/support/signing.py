"""A key that clients sign assertions with, and the file that Google hands one out in."""

import json
from functools import cache

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa


@cache
def key_pair() -> tuple[str, str]:
    """A private key and its public half, both in PEM form."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


def service_account(client_email: str, token_uri: str) -> str:
    """What Google's console downloads for a service account."""
    return json.dumps(
        {
            "type": "service_account",
            "private_key_id": "kid-1",
            "private_key": key_pair()[0],
            "client_email": client_email,
            "token_uri": token_uri,
        }
    )
