"""Clients: OAuth 2.0 applications registered at an authorization server (RFC 6749 2)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from refresher.domain.secret import Secret


class ClientAuthentication(StrEnum):
    """How the client proves itself at the token endpoint (RFC 6749 2.3.1, RFC 7591 2)."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"
    NONE = "none"


class Placement(StrEnum):
    """Where the parameters of a token request go.

    ``QUERY`` puts them in the URL, against RFC 6749 3.2, because some providers document
    it; such a URL never reaches a log or an exception.
    """

    FORM = "form"
    QUERY = "query"


class LifetimeUnit(StrEnum):
    """What a server's ``expires_in`` counts; RFC 6749 5.1 says seconds."""

    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"

    @property
    def seconds(self) -> float:
        """Seconds in one of them."""
        return 0.001 if self is LifetimeUnit.MILLISECONDS else 1.0


class RotationProfile(StrEnum):
    """What the authorization server does with a refresh token that was just used."""

    NONE = "none"
    """It stays valid: a retry is free."""
    GRACE = "grace"
    """It is accepted again for a number of seconds."""
    UNTIL_USED = "until_used"
    """It is accepted until its successor is first used."""
    STRICT = "strict"
    """It is dead at once, and its reuse may revoke the whole grant."""
    UNKNOWN = "unknown"
    """Nobody knows: treated as strict."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation profile and, for ``grace`` alone, its window in seconds."""

    profile: RotationProfile
    grace: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Rotation":
        """Read ``none``, ``grace(30)``, ``until_used``, ``strict`` or ``unknown``.

        Raises:
            ValueError: for anything else.
        """
        if match := re.fullmatch(r"grace\((\d+(?:\.\d+)?)\)", text):
            return cls(RotationProfile.GRACE, float(match[1]))
        if text in {profile.value for profile in RotationProfile} - {"grace"}:
            return cls(RotationProfile(text))
        raise ValueError(
            f"{text!r} is not a rotation profile: use none, grace(SECONDS), until_used, "
            "strict or unknown"
        )

    def __str__(self) -> str:
        if self.profile is RotationProfile.GRACE:
            return f"grace({self.grace:g})"
        return self.profile.value


class UnknownOutcome(StrEnum):
    """What to do when a request may or may not have spent a single-use refresh token."""

    REPLAY = "replay"
    """Send the same refresh token again promptly: the best odds, and the default."""
    DEFER = "defer"
    """Wait until the published access token is about to end, then replay."""
    PAUSE = "pause"
    """Pause the grant until an operator decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """How a provider revokes tokens; RFC 7009 unless its documentation says otherwise."""

    endpoint: str
    parameter: str = "token"
    """Name of the parameter that carries the token."""
    token: str = "refresh_token"
    """Which token is sent: ``refresh_token`` or ``access_token``."""
    placement: Placement = Placement.FORM
    authenticated: bool = True
    """Whether the client authenticates itself."""
    success_field: str | None = None
    """A boolean field of the JSON answer that decides, where the HTTP status does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One registered client, with everything a request to its server needs."""

    name: str
    client_id: str
    client_secret: Secret | None = field(default=None, repr=False)
    token_endpoint: str
    authorization_endpoint: str | None = None
    issuer: str | None = None
    """Of the authorization server, as its metadata name it (RFC 8414 2)."""
    revocation: Revocation | None = None
    provider: str | None = None
    description: str = ""
    redirect_uris: tuple[str, ...] = ()
    authentication: ClientAuthentication = ClientAuthentication.BASIC
    encode_basic: bool = True
    """Form-encode id and secret inside HTTP Basic, as RFC 6749 2.3.1 says; some servers
    do not decode them."""
    placement: Placement = Placement.FORM
    scope: tuple[str, ...] = ()
    """Scope asked for at login when the grant names none."""
    scope_separator: str = " "
    send_scope_on_refresh: bool = False
    """Off by default: at several servers it narrows the grant for ever."""
    send_redirect_uri_on_refresh: bool = False
    redirect_uri_parameter: str = "redirect_uri"
    pkce: bool = True
    authorization_parameters: Mapping[str, str] = field(default_factory=dict)
    token_parameters: Mapping[str, str] = field(default_factory=dict)
    """Extra parameters of every token request; never secrets."""
    extras: tuple[str, ...] = ()
    """Fields of the token response that are published with the token."""
    rejection_codes: tuple[str, ...] = ()
    """Vendor error codes that mean what ``invalid_grant`` means."""
    transient_codes: tuple[str, ...] = ()
    """Vendor error codes that mean "later"."""
    rejection_descriptions: tuple[str, ...] = ()
    """Parts of an error's description that mean "a person must act", in lower case."""
    transient_descriptions: tuple[str, ...] = ()
    """Parts of an error's description that mean "later", in lower case."""
    rotation: Rotation = Rotation(RotationProfile.UNKNOWN)
    on_unknown_outcome: UnknownOutcome = UnknownOutcome.REPLAY
    expires_in_unit: LifetimeUnit = LifetimeUnit.SECONDS
    """Of ``expires_in`` and of everything else in an answer that tells a lifetime."""
    default_expires_in: float | None = None
    """Lifetime in seconds of access tokens whose answer does not tell it."""
    refresh_token_idle: float | None = None
    """Seconds after which an unused refresh token dies, where the provider says so."""
    response_timeout: float = 30.0
    """Seconds to wait for an answer once the request has left."""
    refresh_window: float | None = None
    """Seconds before its end from when on the server refreshes an access token; None: always."""
    doubt_for: float = 86_400.0
    """Seconds after which a refused grant counts as lost although no other grant of the
    client was served since."""
    survive_outage: float = 0.0
    """Seconds of outage of the authorization server the tokens should survive."""
    concurrency: int = 8
    """Token requests in flight at once for this client."""
    rate: float | None = None
    """Token requests a second for this client; None: as many as concurrency allows."""
    proxy: str | None = field(default=None, repr=False)
    """URL of the outgoing proxy; may carry a password."""
    ca_bundle: str | None = None
    """Path of a PEM file with the certificate authorities to trust instead of the system's."""
