"""Clients by the keys of the settings, so that a test says only what it is about."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from refresher.domain.clients import (
    Authentication,
    Client,
    Endpoints,
    Policy,
    Route,
)
from refresher.domain.quirks import Quirks

PARTS: Mapping[str, type] = {
    "endpoints": Endpoints,
    "authentication": Authentication,
    "quirks": Quirks,
    "policy": Policy,
    "route": Route,
}

NAMES = {
    "token_endpoint": "token",
    "authorization_endpoint": "authorization",
    "client_secret": "secret",
    "registration_endpoint": "registration",
    "pushed_authorization_request_endpoint": "pushed_authorization",
}
"""Fields that have another name inside their part."""


def make_client(name: str, *, client_id: str = "id", **told: Any) -> Client:
    """A client NAME that is what the keys TOLD say."""
    endpoint = told.pop("token_endpoint", "https://x.example/token")
    client = Client(name=name, client_id=client_id, endpoints=Endpoints(token=endpoint))
    return changed(client, **told)


def changed(client: Client, **told: Any) -> Client:
    """CLIENT with the keys TOLD."""
    for part, kind in PARTS.items():
        known = {each.name for each in fields(kind)}
        ours = {key: value for key, value in told.items() if NAMES.get(key, key) in known}
        inner = replace(getattr(client, part), **{NAMES.get(key, key): ours[key] for key in ours})
        client = replace(client, **{part: inner})
        told = {key: value for key, value in told.items() if key not in ours}
    return replace(client, **told)
