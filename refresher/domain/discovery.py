"""What a client leaves to its server to tell: metadata, and a registration made by us.

Metadata are those of RFC 8414, OpenID Connect Discovery and, for a protected resource such
as an MCP server, RFC 9728; a registration is that of RFC 7591.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from refresher.domain.secret import Secret

ENDPOINTS = (
    *("authorization_endpoint", "token_endpoint", "revocation_endpoint"),
    *("registration_endpoint", "pushed_authorization_request_endpoint"),
    *("device_authorization_endpoint", "introspection_endpoint"),
)
"""Keys of the metadata, and of a client in the settings, that name an endpoint."""


DEFAULT_AUTHENTICATIONS = ("client_secret_basic",)
"""Of a server that does not say (RFC 8414 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What the settings of one client leave open."""

    issuer: str | None = None
    """Of the authorization server."""
    resource: str | None = None
    """URL of the protected resource that names its authorization server, where no issuer is
    set."""
    told: frozenset[str] = frozenset()
    """Keys that the settings or the catalogue tell: no metadata count for them."""
    allow_plain_http: bool = False

    @property
    def source(self) -> str | None:
        """Whose metadata are asked for; None where only a registration is open."""
        return self.issuer or self.resource


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What a server, and the resource that named it, say of themselves."""

    source: str
    """The issuer or resource of the settings that was asked."""
    issuer: str
    read_at: float
    endpoints: Mapping[str, str] = field(default_factory=dict)
    """By the keys of ``ENDPOINTS``."""
    client_authentications: tuple[str, ...] = DEFAULT_AUTHENTICATIONS
    """At the token endpoint."""
    challenge_methods: tuple[str, ...] | None = None
    """Of PKCE; None where it does not say."""
    promises_issuer: bool = False
    """Redirects carry ``iss`` (RFC 9207 3)."""
    requires_push: bool = False
    """Logins begin with a pushed authorization request (RFC 9126 5)."""
    offers_proof: bool = False
    """The server knows DPoP (RFC 9449 5.1)."""
    scopes: tuple[str, ...] = ()
    resource: str | None = None
    """The protected resource, as it names itself (RFC 9728 2)."""
    resource_scopes: tuple[str, ...] = ()
    demands_proof: bool = False
    """The resource takes tokens bound by DPoP alone (RFC 9728 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A client that was registered by us (RFC 7591 3.2.1)."""

    server: str
    """The issuer, or the registration endpoint where none is known: it counts for no other."""
    client_id: str
    client_authentication: str
    registered_at: float
    client_secret: Secret | None = field(default=None, repr=False)
    client_secret_expires_at: float | None = None
    """None: never."""
    registration_access_token: Secret | None = field(default=None, repr=False)
    registration_client_uri: str | None = None
    demands_proof: bool = False
    """The server binds the client's tokens by DPoP (RFC 9449 5.2)."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the server of one client beside its settings."""

    metadata: Metadata | None = None
    registration: Registration | None = None


NOTHING_KNOWN = Known()
