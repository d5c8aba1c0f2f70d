"""The catalogue of providers: endpoints and quirks as data, no code per provider.

An entry of ``catalogue.toml`` says what a provider's documentation says and leaves the
rest to the standard. Adding a provider means adding an entry.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from refresher.domain.clients import (
    ClientAuthentication,
    LifetimeUnit,
    Placement,
    Revocation,
    Rotation,
    RotationProfile,
)

__all__ = ["Provider", "providers"]


class _Entry(BaseModel):
    """A table of the catalogue; an unknown key is a mistake of ours."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RevocationEntry(_Entry):
    """How the provider revokes, where that is not RFC 7009; see ``domain.Revocation``."""

    endpoint: str
    parameter: str = "token"
    token: str = "refresh_token"
    placement: Placement = Placement.FORM
    authenticated: bool = True
    success_field: str | None = None

    def at(self, endpoint: str) -> Revocation:
        """The same way of revoking at the absolute URL ENDPOINT."""
        return Revocation(**{**self.model_dump(), "endpoint": endpoint})


class Provider(_Entry):
    """One entry of the catalogue.

    Endpoints are URLs, or paths to be joined to a client's ``base_url``. The quirks mean
    what the fields of the same name mean in ``domain.clients.Client``, whose defaults
    they share.
    """

    name: str
    title: str
    documentation: str
    base_url_example: str | None = None
    authorization_endpoint: str
    token_endpoint: str
    revocation: RevocationEntry | None = None
    scopes: tuple[str, ...] = ()
    """Every scope the provider documents; empty where the list is open."""
    notes: tuple[str, ...] = ()
    """What an operator should know, one sentence each."""

    client_authentication: ClientAuthentication = ClientAuthentication.BASIC
    encode_basic: bool = True
    placement: Placement = Placement.FORM
    scope_separator: str = " "
    send_scope_on_refresh: bool = False
    send_redirect_uri_on_refresh: bool = False
    redirect_uri_parameter: str = "redirect_uri"
    pkce: bool = True
    authorization_parameters: Mapping[str, str] = Field(default_factory=dict)
    token_parameters: Mapping[str, str] = Field(default_factory=dict)
    extras: tuple[str, ...] = ()
    rejection_codes: tuple[str, ...] = ()
    transient_codes: tuple[str, ...] = ()
    rejection_descriptions: tuple[str, ...] = ()
    transient_descriptions: tuple[str, ...] = ()
    rotation: Annotated[Rotation, PlainValidator(Rotation.parse)] = Rotation(
        RotationProfile.UNKNOWN
    )
    expires_in_unit: LifetimeUnit = LifetimeUnit.SECONDS
    default_expires_in: float | None = None
    refresh_token_idle: float | None = None
    response_timeout: float | None = None
    refresh_window: float | None = None

    @property
    def needs_base_url(self) -> bool:
        """Whether every customer of the provider has a host of its own."""
        return self.token_endpoint.startswith("/")


@cache
def providers() -> Mapping[str, Provider]:
    """Every provider of the catalogue by its name."""
    text = resources.files(__name__).joinpath("catalogue.toml").read_text("utf-8")
    entries = tomllib.loads(text)
    return MappingProxyType({name: Provider(name=name, **entries[name]) for name in entries})
