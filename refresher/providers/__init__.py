"""The catalogue of providers: endpoints and quirks as data, no code per provider.

An entry of ``catalogue.toml`` says what a provider's documentation says and leaves the
rest to the standard. Adding a provider means adding an entry.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    InstanceOf,
    PlainValidator,
    create_model,
    model_validator,
)

from refresher.domain.clients import Revocation
from refresher.domain.quirks import Placement, Quirks, Rotation, keys

__all__ = ["Provider", "providers"]


class _Entry(BaseModel):
    """A table of the catalogue; an unknown key is a mistake of ours."""

    model_config = ConfigDict(extra="forbid", frozen=True)


READERS = {Rotation: Annotated[Rotation, PlainValidator(Rotation.parse)]}
"""How a type of a quirk is read that is more than its value in the file."""


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


_FIELDS: dict[str, Any] = {
    key.name: (READERS.get(key.type, key.type), key.default) for key in keys(Quirks)
}
_QuirksEntry = create_model("_QuirksEntry", __base__=_Entry, **_FIELDS)


class Provider(_Entry):
    """One entry of the catalogue.

    Endpoints are URLs, or paths to be joined to a client's ``base_url``.
    """

    name: str
    title: str
    documentation: str
    base_url_example: str | None = None
    authorization_endpoint: str
    token_endpoint: str
    refresh_endpoint: str | None = None
    revocation: RevocationEntry | None = None
    scopes: tuple[str, ...] = ()
    """Every scope the provider documents; empty where the list is open."""
    notes: tuple[str, ...] = ()
    """What an operator should know, one sentence each."""

    quirks: InstanceOf[Quirks] = Quirks()
    """Stand in the entry itself, beside everything else."""

    @model_validator(mode="before")
    @classmethod
    def _gather_quirks(cls, entry: dict[str, Any]) -> dict[str, Any]:
        names = {key.name for key in keys(Quirks)} & entry.keys()
        told = _QuirksEntry.model_validate({name: entry[name] for name in names})
        quirks = Quirks(**{name: getattr(told, name) for name in names})
        return {name: entry[name] for name in entry.keys() - names} | {"quirks": quirks}

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
