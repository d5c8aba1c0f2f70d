"""Clients: OAuth 2.0 applications registered at an authorization server (RFC 6749 2)."""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from refresher.domain.discovery import Discovery
from refresher.domain.quirks import (
    ClientAuthentication,
    Count,
    Pause,
    Placement,
    Quirks,
    Rate,
    Seconds,
    key,
)
from refresher.domain.secret import Secret

SUBJECT = "{subject}"
"""Stands in a token endpoint for the subject of the grant: GitHub names installations there."""


class UnknownOutcome(StrEnum):
    """What to do when a request may or may not have spent a single-use refresh token."""

    REPLAY = "replay"
    """Send the same refresh token again promptly: the best odds, and the default."""
    DEFER = "defer"
    """Wait until the published access token is about to end, then replay."""
    PAUSE = "pause"
    """Pause the grant until an operator decides."""


class TokenCarrier(StrEnum):
    """Where in a request the token is that is to be revoked."""

    PARAMETER = "parameter"
    PATH = "path"
    """The last part of the URL's path; such a URL never reaches a log or an exception."""
    BEARER = "bearer"
    """It authorizes its own end (RFC 6750 2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """How a provider revokes tokens; RFC 7009 unless its documentation says otherwise."""

    endpoint: str
    """``CLIENT_ID`` in it stands for the client's id."""
    parameter: str = "token"
    """Name of the parameter that carries the token."""
    carrier: TokenCarrier = TokenCarrier.PARAMETER
    method: str = "POST"
    """``POST`` or ``DELETE``."""
    token: str = "refresh_token"
    """Which token is sent: ``refresh_token`` or ``access_token``."""
    placement: Placement = Placement.FORM
    authenticated: bool = True
    """Whether the client authenticates itself."""
    client_authentication: ClientAuthentication | None = None
    """How, where that is not as at the token endpoint."""
    success_field: str | None = None
    """A boolean field of the JSON answer that decides, where the HTTP status does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where the authorization server is asked (RFC 6749 3)."""

    token: str
    """Empty until the metadata of the server were read."""
    authorization: str | None = None
    """Only login needs it."""
    device_authorization: str | None = None
    """Where device codes come from (RFC 8628 3.1)."""
    refresh: str | None = None
    """Where refreshes go, if not to the token endpoint."""
    exchange: str | None = None
    """Where the access token of a login is exchanged, if not there either."""
    revocation: Revocation | None = None
    registration: str | None = None
    """RFC 7591; only register needs it."""
    pushed_authorization: str | None = None
    """RFC 9126; only login needs it."""
    introspection: str | None = None
    """Where its answers do not tell when a token ends, and it may be asked (RFC 7662)."""
    issuer: str | None = None
    """Of the server, as its metadata name it (RFC 8414 2)."""
    promises_issuer: bool | None = None
    """Its redirects carry ``iss`` (RFC 9207 3); None where nobody knows."""
    offers_proof: bool = False
    """It knows DPoP (RFC 9449 5.1), so it may demand it of this client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """What the client proves itself with; how it does so is a quirk of its server."""

    secret: Secret | None = field(default=None, repr=False)
    second_secret: Secret | None = field(default=None, repr=False)
    """The other one, while the server's secret is being replaced."""
    is_second: bool = False
    """The server has refused the first."""
    private_key: Secret | None = field(default=None, repr=False)
    """In PEM form."""
    initial_access_token: Secret | None = field(default=None, repr=False)
    """What a server wants to see before it registers a client (RFC 7591 3)."""
    key_id: str | None = None
    certificate: str | None = None
    """Path of a PEM file."""
    certificate_key: str | None = None
    """Path of the PEM file of its private key; None: in the same file."""

    @property
    def password(self) -> Secret | None:
        """The client secret that counts (RFC 6749 2.3.1)."""
        return self.second_secret if self.is_second else self.secret

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Everything of it that must be shown nowhere."""
        known = (self.secret, self.second_secret, self.private_key, self.initial_access_token)
        return tuple(secret for secret in known if secret is not None)

    def switched(self) -> "Authentication | None":
        """With the second secret, the server having refused the first; None without another."""
        if self.is_second or self.second_secret is None:
            return None
        return replace(self, is_second=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator decides, whatever the server does."""

    on_unknown_outcome: UnknownOutcome = key(
        UnknownOutcome.REPLAY,
        "After a lost answer under strict or unknown: replay at once, defer until the access "
        "token nears its end, or pause for an operator.",
    )
    doubt_for: Seconds = key(
        86_400.0,
        "Seconds after which a refused grant counts as lost although no other grant of the client "
        "was served since.",
    )
    survive_outage: Pause = key(
        0.0,
        "Seconds of outage of the authorization server that tokens should outlive; refreshes "
        "earlier, up to half the lifetime.",
    )
    concurrency: Count = key(8, "Token requests in flight at once for this client.")
    rate: Rate | None = key(
        None, "Token requests a second for this client. None: as concurrency allows."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The way from here to the authorization server."""

    proxy: str | None = field(default=None, repr=False)
    """URL of the outgoing proxy; may carry a password."""
    ca_bundle: str | None = None
    """Path of a PEM file with the certificate authorities to trust instead of the system's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One registered client, with everything a request to its server needs."""

    name: str
    client_id: str
    """Empty until the client is registered, where the settings name none."""
    endpoints: Endpoints
    authentication: Authentication = Authentication()
    quirks: Quirks = Quirks()
    policy: Policy = Policy()
    route: Route = Route()
    provider: str | None = None
    description: str = ""
    redirect_uris: tuple[str, ...] = ()
    scope: tuple[str, ...] = ()
    """Scope asked for at login when the grant names none."""
    resource: str | None = None
    """The protected resource that tokens are for (RFC 8707)."""
    discovery: Discovery | None = None
    """What of all this the server is to tell."""

    @property
    def missing(self) -> str | None:
        """What keeps every request from being sent, in a word."""
        if self.discovery is None:
            return None
        if not self.endpoints.token:
            return "not_discovered"
        return None if self.client_id else "not_registered"
