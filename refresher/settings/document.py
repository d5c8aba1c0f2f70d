"""What may stand in the settings: every section, every key, its type and its meaning.

The descriptions are the settings table of the README. Every key has a default, so that
one mistake never hides another: what is required is asked for in ``checks``.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, create_model

from refresher.domain.clients import Policy
from refresher.domain.grants import GrantKind
from refresher.domain.notifications import Kind as Told
from refresher.domain.quirks import Quirks, keys
from refresher.domain.renewal import SubjectTokenType
from refresher.logs import Level
from refresher.settings.values import (
    READERS,
    Command,
    Instant,
    Kind,
    Positive,
    Scope,
    SecretValue,
    Text,
    Uris,
    Words,
    read_grant_type,
)

DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"

PathText = Annotated[str, Field(min_length=1), Kind("path")]


class Section(BaseModel):
    """A table of the settings; a key it does not know is a problem, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class VaultSection(Section):
    """Where the durable store is."""

    path: PathText | None = Field(
        default=None,
        description="The vault's SQLite file. Default: refresher.db beside the settings file; "
        "/var/lib/refresher/vault.db when that file is below /etc or there is none. Keep it on a "
        "local disk: it holds the only copy of refresh tokens that rotate. With `vault.url` it is "
        "only the name of a daemon's own files: PATH.rescue, PATH.lock and PATH.count.",
    )
    url: SecretValue | None = Field(
        default=None,
        description="The vault's PostgreSQL: postgresql://USER:PASSWORD@HOST:PORT/DATABASE, "
        "as libpq has it. May be a secret's table. Needs the extra `postgresql`. Default: a file.",
    )
    key_file: PathText | None = Field(
        default=None,
        description="The file with the master key that seals the vault's secrets. Default: the "
        "vault's name ending in .key. Back it up apart from the vault: neither is of use alone.",
    )
    keep: Positive = Field(
        default=365 * 86_400.0,
        description="How long the vault keeps answers that found no grant (`refresher kept list`), "
        "and its log of changes (`refresher audit`). Default: a year.",
    )


class RedisSection(Section):
    """Where access tokens are published."""

    url: SecretValue | None = Field(
        default=None,
        description="The server: redis://HOST:PORT/DB, rediss:// for TLS, or unix:///PATH; "
        "redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB for the master that sentinels name; "
        "redis+cluster://HOST:PORT,HOST:PORT for a cluster; rediss+... for TLS. May be a secret's "
        "table, because it may hold a password. Default: "
        f"{DEFAULT_REDIS_URL}.",
    )
    username: Text | None = Field(
        default=None, description="The ACL user, where the URL does not name one."
    )
    password: SecretValue | None = Field(
        default=None, description="The password, where the URL does not hold it."
    )
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@+-]{1,64}$")] = Field(
        default="refresher:",
        description="What every key and channel begins with, so that several daemons and other "
        "programs can share a server.",
    )


class ControlSection(Section):
    """How commands reach the daemon."""

    socket: PathText | None = Field(
        default=None,
        description="The Unix socket of the control interface; whoever may write to it commands "
        "the daemon. Default: refresher.sock beside the vault. At most 107 bytes (unix(7)).",
    )


class HttpSection(Section):
    """What the daemon serves over TCP."""

    listen: Annotated[str, Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):\d{1,5}$")] | None = (
        Field(
            default=None,
            description="HOST:PORT, such as 127.0.0.1:9464, for /metrics, /livez and /readyz. Off "
            "by default; `refresher health` asks the control socket.",
        )
    )


class LogSection(Section):
    """What is logged, on standard output."""

    level: Level = Field(
        default=Level.INFO,
        description="The lowest level that is written; error: a person must act.",
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto",
        description="json: one object a line; console: for reading; auto: console on a terminal.",
    )


class DaemonSection(Section):
    """How the daemon works."""

    workers: Annotated[int, Field(ge=1, le=1024)] = Field(
        default=64,
        description="Token requests in flight at once over all clients; each takes a connection "
        "and a few kilobytes.",
    )
    shutdown_deadline: Positive = Field(
        default=40.0,
        description="Seconds a stopping daemon waits for requests in flight, whose answers may "
        "hold the only valid refresh token. Let the service manager wait 5 s more before it kills.",
    )
    standby: bool = Field(
        default=False,
        description="Wait for the vault when another daemon holds it, instead of exiting.",
    )


class _OwnClientSection(Section):
    """One OAuth 2.0 client: an application registered at an authorization server."""

    provider: Text | None = Field(
        default=None,
        description="An entry of the catalogue (refresher providers): its endpoints and quirks "
        "are the defaults of everything else.",
    )
    base_url: Text | None = Field(
        default=None,
        description="What endpoints given as paths are joined to, where every customer or "
        "reseller of the provider has a host of its own.",
    )
    tenant: Text | None = Field(
        default=None,
        description="What the provider of the catalogue calls its customer in its URLs: a "
        "directory, a shop, a subdomain, a realm (refresher providers NAME).",
    )
    region: Text | None = Field(
        default=None,
        description="The part of the world in the URLs of a provider of the catalogue that has "
        "several, such as a data centre.",
    )
    authorization_endpoint: Text | None = Field(
        default=None, description="URL of the authorization endpoint; only login needs it."
    )
    token_endpoint: Text | None = Field(
        default=None,
        description="URL of the token endpoint. Required where no provider or metadata tell it.",
    )
    refresh_endpoint: Text | None = Field(
        default=None, description="URL that refreshes go to, where not the token endpoint."
    )
    exchange_endpoint: Text | None = Field(
        default=None, description="URL of an exchange_grant_type, where not the refresh endpoint."
    )
    device_authorization_endpoint: Text | None = Field(
        default=None,
        description="URL of the device authorization endpoint (RFC 8628), for a login by a code "
        "that is typed on another machine.",
    )
    issuer: Text | None = Field(
        default=None,
        description="The authorization server's issuer, exactly as its metadata name it (RFC 8414, "
        "OpenID Connect Discovery). Endpoints and what else the metadata tell are taken from "
        "there where the settings say nothing. Login refuses an answer that names another one, "
        "and one that names none where the metadata promise it (RFC 9207).",
    )
    resource: Text | None = Field(
        default=None,
        description="URI of the protected resource that tokens are for (RFC 8707), sent at login "
        "and at refresh. Without an issuer and a token_endpoint its own metadata name the "
        "authorization server (RFC 9728): the URL of an MCP server is enough.",
    )
    registration_endpoint: Text | None = Field(
        default=None, description="URL that registers clients (RFC 7591); only register needs it."
    )
    initial_access_token: SecretValue | None = Field(
        default=None,
        description="What the server wants to see before it registers a client (RFC 7591 3).",
    )
    pushed_authorization_request_endpoint: Text | None = Field(
        default=None,
        description="URL that takes what a login asks for (RFC 9126); only login needs it.",
    )
    revocation_endpoint: Text | None = Field(
        default=None, description="URL of the revocation endpoint (RFC 7009); only revoke needs it."
    )
    introspection_endpoint: Text | None = Field(
        default=None,
        description="URL of the introspection endpoint (RFC 7662), which is asked once for each "
        "token whose answer told no end.",
    )
    allow_plain_http: bool = Field(
        default=False,
        description="Accept http:// endpoints beyond loopback. Secrets then travel in the clear, "
        "against RFC 6749 3.2.",
    )
    description: str = Field(default="", description="For people: what the application is for.")
    redirect_uris: Uris = Field(
        default=(),
        description="Redirect URIs registered for the client, exactly as registered; login uses "
        "the first. As text they are separated by spaces.",
    )
    client_id: Text | None = Field(
        default=None,
        description="The id the server gave the client. Required, unless register gets one.",
    )
    client_secret: SecretValue | None = Field(
        default=None,
        description="The client's secret. Required for client_secret_basic and client_secret_post.",
    )
    second_client_secret: SecretValue | None = Field(
        default=None,
        description="The other secret while the server's is being replaced. It counts once the "
        "server has answered invalid_client to the first, until either is replaced.",
    )
    client_private_key: SecretValue | None = Field(
        default=None,
        description="The private key that signs assertions, in PEM form, or Google's JSON file of "
        "a service account, which tells client_id and token_endpoint as well. Required for "
        "private_key_jwt, and for grants of jwt_bearer.",
    )
    client_key_id: Text | None = Field(
        default=None, description="The kid of assertions, where the server knows several keys."
    )
    client_certificate: PathText | None = Field(
        default=None,
        description="PEM file of the client's certificate, read again when it changes. Required "
        "for tls_client_auth and self_signed_tls_client_auth (RFC 8705).",
    )
    client_certificate_key: PathText | None = Field(
        default=None,
        description="PEM file of its private key, without a passphrase. Default: the same file.",
    )
    scope: Scope = Field(
        default=(),
        description="Scope to ask for at login: a list, or a text parted at spaces and commas.",
    )
    proxy: SecretValue | None = Field(
        default=None,
        description="URL of the outgoing HTTP proxy; nothing else (no variable, no .netrc) is "
        "asked. May hold a password.",
    )
    ca_bundle: PathText | None = Field(
        default=None,
        description="PEM file of the certificate authorities to trust instead of the system's.",
    )

    @property
    def quirks(self) -> Mapping[str, Any]:
        """What it says of its server, by key."""
        return self._said(Quirks)

    @property
    def policy(self) -> Mapping[str, Any]:
        """What the operator decides, by key."""
        return self._said(Policy)

    def _said(self, of: type) -> Mapping[str, Any]:
        said = {key.name: getattr(self, key.name) for key in keys(of)}
        return {name: value for name, value in said.items() if value is not None}


if TYPE_CHECKING:
    ClientSection = _OwnClientSection
else:
    ClientSection = create_model(
        "ClientSection",
        __base__=_OwnClientSection,
        **{
            key.name: (READERS[key.type] | None, Field(default=None, description=key.description))
            for key in (*keys(Quirks), *keys(Policy))
        },
    )


GrantTypeText = Annotated[GrantKind, PlainValidator(read_grant_type), Kind("grant type")]


class GrantSection(Section):
    """One grant: an account that authorized a client, or a static token."""

    client: Text | None = Field(
        default=None,
        description="Name of the client. Required, except for a static token.",
    )
    grant_type: GrantTypeText | None = Field(
        default=None,
        description="What renews it: refresh_token, after a login or with one given here; or, "
        "without a person, client_credentials, jwt_bearer (an assertion that the client signs) or "
        "token_exchange (the token of another grant). Default: the provider's, else refresh_token.",
    )
    scope: Scope = Field(default=(), description="Scope to ask for instead of the client's.")
    audience: Words = Field(
        default=(),
        description="Whom the token is for, as its server calls them, where nobody logs in.",
    )
    resource: Words = Field(default=(), description="The same as URIs (RFC 8707).")
    subject: Text | None = Field(
        default=None,
        description="Of token_exchange: the grant whose token is exchanged. Of jwt_bearer: the "
        "user for whom the client asks, or the installation of a GitHub App.",
    )
    subject_token: SubjectTokenType | None = Field(
        default=None,
        description="Of token_exchange: which token of the subject is exchanged. None: its "
        "access_token.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict,
        description="Published with the token as label.KEY; keys of a-z 0-9 _ only.",
    )
    refresh_token: SecretValue | None = Field(
        default=None,
        description="A refresh token to begin with. It is adopted once: its successors live in "
        "the vault, and only another one written here replaces them.",
    )
    static_token: SecretValue | None = Field(
        default=None,
        description="An access token made by hand, published as it is and never refreshed.",
    )
    expires_at: Instant | None = Field(
        default=None,
        description="End of the static token: 2030-01-31T12:00:00Z or unix seconds. None: never.",
    )
    token_type: Text | None = Field(
        default=None, description="Type of the static token. None: Bearer."
    )


class NotifySection(Section):
    """One receiver of notifications: a webhook or a command."""

    url: SecretValue | None = Field(
        default=None,
        description="Where each notification is sent, signed as a Standard Webhook: https, or http "
        "to this machine. May be a secret's table, for at many services the URL is all it takes.",
    )
    secret: SecretValue | None = Field(
        default=None,
        description="What signs: whsec_ and 24 to 64 bytes in base64. Required with url.",
    )
    command: Command = Field(
        default=(),
        description="Instead of url: a program that gets each notification on its standard input. "
        "It has taken it if it exits with 0 within 30 s. No shell.",
    )
    events: Annotated[tuple[Told, ...], Kind("list of strings")] = Field(
        default=(),
        description=f"What is told, of {', '.join(Told)}. All of it where nothing is named.",
    )


class Document(Section):
    """The whole of the settings."""

    secrets_dir: PathText | None = Field(
        default=None,
        description="Directory of Docker or Kubernetes secrets. A file in it named like a variable "
        '(REFRESHER_CLIENTS__acme__CLIENT_SECRET) sets that key; { credential = "NAME" } reads the '
        "file NAME. Default: /run/secrets.",
    )
    vault: VaultSection = VaultSection()
    redis: RedisSection = RedisSection()
    control: ControlSection = ControlSection()
    http: HttpSection = HttpSection()
    log: LogSection = LogSection()
    daemon: DaemonSection = DaemonSection()
    clients: dict[str, ClientSection] = Field(default_factory=dict)
    grants: dict[str, GrantSection] = Field(default_factory=dict)
    notify: list[NotifySection] = Field(default_factory=list)
