"""What an entry of the catalogue holds.

The keys of ``settings`` are keys of a client in the settings and go to it as they are; those
of ``facts`` are what else is known. A fact that a setting exists for becomes that setting,
so each thing is written once. What no source ``says`` nobody has verified.
"""

import re
from collections.abc import Mapping
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    create_model,
)

from refresher.domain import quirks
from refresher.domain.clients import Revocation, TokenCarrier
from refresher.domain.quirks import Placement, Rotation
from refresher.providers.needs import NEEDS
from refresher.times import read_duration

NEVER = "never"
"""A token that has no end of its own."""

LONGEST_PACED = 3600.0
"""Seconds of the longest window whose quota becomes a pace: a day's may well be used at once."""

BASE_URL = "base_url"
"""The variable that paths are joined to; every other one stands in braces."""

_IN_BRACES = re.compile(r"\{(?!subject\})(\w+)\}")
"""The subject of each grant is filled in when it is asked for."""


def _known_need(word: str) -> str:
    if word not in NEEDS:
        raise ValueError(f"{word} is not one of {', '.join(NEEDS)}")
    return word


Duration = Annotated[float, BeforeValidator(read_duration), Field(gt=0)]
Life = Literal["never"] | Duration
Words = tuple[str, ...]
Phrases = tuple[Annotated[str, Field(pattern=r"^[^A-Z]+$")], ...]
"""In lower case, as they are compared."""
Need = Annotated[str, AfterValidator(_known_need)]
Endpoint = Annotated[str, Field(pattern=r"^(https://|/)\S+$")]
Page = Annotated[str, Field(pattern=r"^https://\S+$")]
RotationText = Annotated[Rotation, PlainValidator(Rotation.parse), PlainSerializer(str)]


class Entry(BaseModel):
    """A table of an entry; an unknown key is a mistake of ours."""

    # Deferred: a start without a provider builds none of them.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Variable(Entry):
    """What every customer of a provider has an own value of, filled into its URLs."""

    meaning: str
    example: str
    default: str | None = None
    pattern: str | None = None
    """A regular expression for all of a value; None where other rules judge it."""


class Source(Entry):
    """Where something of an entry was read."""

    url: Page
    read: date
    says: Words
    """The keys of ``settings`` and ``facts`` that it tells."""
    secondary: bool = False
    """Whether somebody else than the provider wrote it."""
    measured: bool = False
    """Whether it was seen at the server itself, by ``refresher providers measure``."""


class Quota(Entry):
    """How many token requests the provider answers."""

    requests: Annotated[int, Field(gt=0)]
    within: Duration
    per: Literal["client", "user", "refresh token"]


class LiveLimit(Entry):
    """How many refresh tokens can be alive at once; one more ends the oldest."""

    most: Annotated[int, Field(gt=0)] | None = None
    """None where only the fact is known."""
    per: str


class Answer(Entry):
    """An answer to a token request, and what it means."""

    status: int
    body: str
    means: Literal["dead", "later", "configuration", "early"]


class RevocationEntry(Entry):
    """How the provider revokes, where that is not RFC 7009; see ``domain.Revocation``."""

    parameter: str = "token"
    carrier: TokenCarrier = TokenCarrier.PARAMETER
    method: Literal["POST", "DELETE"] = "POST"
    token: str = "refresh_token"
    placement: Placement = Placement.FORM
    authenticated: bool = True
    client_authentication: quirks.ClientAuthentication | None = None
    success_field: str | None = None

    def at(self, endpoint: str) -> Revocation:
        """This way of revoking at the absolute URL ENDPOINT."""
        return Revocation(endpoint=endpoint, **self.model_dump())


class _EndpointKeys(Entry):
    """Keys of a client in the settings, with the values that fit the provider."""

    authorization_endpoint: Endpoint | None = None
    token_endpoint: Endpoint | None = None
    refresh_endpoint: Endpoint | None = None
    exchange_endpoint: Endpoint | None = None
    device_authorization_endpoint: Endpoint | None = None
    revocation_endpoint: Endpoint | None = None
    introspection_endpoint: Endpoint | None = None


TOLD_BY_FACTS = frozenset(
    {"rotation", "refresh_token_idle", "refresh_token_absolute", "refresh_window"}
)
"""Quirks that a client has from the facts, where each is written once."""

READERS: Mapping[Any, Any] = {quirks.Seconds: Duration, quirks.Phrases: Phrases}
"""How a type of a quirk is read that is more than its value in the file."""

if TYPE_CHECKING:
    ClientKeys = _EndpointKeys
else:
    ClientKeys = create_model(
        "ClientKeys",
        __base__=_EndpointKeys,
        **{
            key.name: (READERS.get(key.type, key.type) | None, None)
            for key in quirks.keys(quirks.Quirks)
            if key.name not in TOLD_BY_FACTS
        },
    )


class Facts(Entry):
    """What is known of the provider's tokens."""

    rotation: RotationText | None = None
    rotation_varies: str | None = None
    """What decides between which profiles, where it is not the provider alone."""
    access_token_lifetime: Life | None = None
    refresh_token_idle: Life | None = None
    refresh_token_absolute: Life | None = None
    """From the consent on; no refresh prolongs it."""
    lifetimes_vary: str | None = None
    grant_type: Literal["client_credentials", "jwt_bearer"] | None = None
    """What renews a grant where no person can."""
    has_refresh_token: bool | None = None
    kills_access_token: bool | None = None
    """Whether a refresh ends the access token before it."""
    reuse_kills_grant: bool | None = None
    live_refresh_tokens: LiveLimit | None = None
    quotas: tuple[Quota, ...] | None = None
    refresh_window: Duration | None = None
    """Seconds before its end from when on an access token is refreshed."""
    refresh_token_scope: str | None = None
    """The scope that makes a refresh token come; every login asks for it."""
    https_redirect_uri: bool | None = None
    """Whether redirect URIs are https, those of this machine included."""
    discovery: Endpoint | None = None
    answers: tuple[Answer, ...] | None = None

    def settings(self) -> dict[str, Any]:
        """What a client is told of them, by the keys of the settings."""
        return {
            "rotation": self.rotation,
            "default_expires_in": _seconds(self.access_token_lifetime),
            "no_expiry": True if self.access_token_lifetime == NEVER else None,
            "refresh_token_idle": _seconds(self.refresh_token_idle),
            "refresh_token_absolute": _seconds(self.refresh_token_absolute),
            "refresh_window": self.refresh_window,
            "rate": self._rate(),
        }

    def _rate(self) -> float | None:
        paced = [
            quota.requests / quota.within
            for quota in self.quotas or ()
            if quota.per == "client" and quota.within <= LONGEST_PACED
        ]
        return min(paced, default=None)


class Provider(Entry):
    """One entry of the catalogue."""

    name: str
    title: str
    documentation: Page
    console: str
    """What to click at the provider, in one or two sentences."""
    notes: Words = ()
    """What an operator should know, one sentence each."""
    needs: tuple[Need, ...] = ()
    scopes: Words = ()
    """Every scope the provider documents; empty where the list is open."""
    tested: Literal["sandbox profile", "independent server"] | None = None
    """What the tests run the provider's ways against."""
    variables: Mapping[str, Variable] = Field(default_factory=dict)
    settings: ClientKeys
    revocation: RevocationEntry = RevocationEntry()
    facts: Facts = Facts()
    sources: tuple[Source, ...] = ()

    @cached_property
    def defaults(self) -> Mapping[str, Any]:
        """What a client of the provider is without a word of its own, by keys of the settings."""
        given = {key: getattr(self.settings, key) for key in ClientKeys.model_fields}
        told = {key: value for key, value in self.facts.settings().items() if value is not None}
        return {key: value for key, value in {**given, **told}.items() if value is not None}

    @cached_property
    def statements(self) -> Mapping[str, Any]:
        """Everything the entry says of settings and facts, by key."""
        tables = (self.settings, self.facts)
        pairs = ((key, getattr(each, key)) for each in tables for key in type(each).model_fields)
        return {key: value for key, value in pairs if value is not None}

    def source_of(self, key: str) -> Source | None:
        """Who says KEY: the provider, or else somebody; None where nobody verified it."""
        saying = [source for source in self.sources if key in source.says]
        return min(saying, key=lambda source: source.secondary, default=None)

    def variables_in(self, value: Any) -> set[str]:
        """The names of the variables that VALUE, of the settings or facts, is made with."""
        if isinstance(value, Mapping):
            return set().union(*map(self.variables_in, value.values()))
        if not isinstance(value, str):
            return set()
        return {*_IN_BRACES.findall(value), *([BASE_URL] if value.startswith("/") else [])}


def filled(value: Any, variables: Mapping[str, str]) -> Any:
    """VALUE, a text or a table of texts, with VARIABLES in place of their names in braces."""
    if isinstance(value, Mapping):
        return {key: filled(each, variables) for key, each in value.items()}
    if not isinstance(value, str) or _IN_BRACES.search(value) is None:
        return value  # an enumeration stays one
    return _IN_BRACES.sub(lambda match: variables.get(match[1], match[0]), value)


def _seconds(life: str | float | None) -> float | None:
    return None if life is None or isinstance(life, str) else life
