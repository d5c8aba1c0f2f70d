"""What a person pastes into the settings for a client of a provider."""

import re
from collections.abc import Iterator

from refresher.domain.clients import SUBJECT
from refresher.domain.quirks import ClientAuthentication
from refresher.providers.entries import Provider

REDIRECT_URI = "http://127.0.0.1:8765/callback/{}"
"""Where a login on this machine waits; each client has one of its own (RFC 9700 4.4)."""

HTTPS_REDIRECT_URI = "https://acme.example/callback/{}"
"""Where nothing waits: the person pastes the address."""

UNFILLED = "..."
"""A client_id that the person has still to fill in."""


def settings_lines(provider: Provider, client: str | None = None) -> tuple[str, ...]:
    """TOML for a client of PROVIDER that loads as it is, to be filled in.

    Args:
        client: its name; None is the provider's.
    """
    return tuple(_lines(provider, client or provider.name))


def keys_to_fill_in(provider: Provider) -> dict[str, str]:
    """Keys that only the customer of PROVIDER knows, each with an example."""
    own = {key: each.example for key, each in provider.variables.items() if each.default is None}
    is_told = provider.settings.token_endpoint is not None
    return own if is_told else {**own, "token_endpoint": "https://auth.acme.example/token"}


def _lines(provider: Provider, client: str) -> Iterator[str]:
    is_bare = re.fullmatch(r"[A-Za-z0-9_-]+", client) is not None
    yield f"[clients.{client}]" if is_bare else f'[clients."{client}"]'
    yield f'provider = "{provider.name}"'
    for key, example in keys_to_fill_in(provider).items():
        yield f'{key} = "{example}"'
    yield f'client_id = "{UNFILLED}"'
    signs = provider.facts.grant_type == "jwt_bearer"
    if signs:
        yield f'client_private_key = {{ file = "{client}.pem" }}'
    elif provider.defaults.get("client_authentication") is not ClientAuthentication.NONE:
        yield f'client_secret = {{ file = "{client}.secret" }}'
    if provider.facts.grant_type is not None:
        yield f"[grants.{client}]" if is_bare else f'[grants."{client}"]'
        yield f'client = "{client}"'
        if SUBJECT in (provider.settings.token_endpoint or ""):
            yield 'subject = "..."'
        return
    settings = provider.settings
    if settings.device_authorization_endpoint and not settings.authorization_endpoint:
        return  # nothing is sent to a browser
    uri = HTTPS_REDIRECT_URI if provider.facts.https_redirect_uri else REDIRECT_URI
    yield f'redirect_uris = ["{uri.format(client)}"]'
