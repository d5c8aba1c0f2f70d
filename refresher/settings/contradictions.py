"""Settings that say two things at once, each of them right by itself.

A problem is what can never work, or would cost a grant; a warning what has no effect, or
another one than its author may think. Every line names the way out.
"""

from collections.abc import Callable, Mapping
from itertools import product
from urllib.parse import urlsplit

from refresher.domain.clients import Client
from refresher.domain.quirks import ClientAuthentication, RotationProfile
from refresher.domain.urls import is_loopback, parts_of
from refresher.settings.catalogued import ENDPOINTS
from refresher.settings.document import ClientSection, Document
from refresher.settings.layers import KeyPath
from refresher.settings.report import Report
from refresher.settings.urls import (
    endpoint_doubt,
    redirect_uri_doubt,
    redirect_uri_fault,
)
from refresher.settings.wire import check_wire

SHARED: Mapping[str, Callable[[Client], object]] = {
    "client_secret": lambda client: client.authentication,
    "rotation": lambda client: client.quirks.rotation,
    "concurrency": lambda client: client.policy.concurrency,
    "rate": lambda client: client.policy.rate,
}
"""What two entries for one registered client should say alike."""


def check_client(path: KeyPath, section: ClientSection, client: Client, report: Report) -> None:
    """Report what SECTION, at PATH, says against itself or against its provider.

    Args:
        client: what the section and its provider come to.
    """
    _ClientCheck(path, section, client, report).run()


class _ClientCheck:
    """The keys of one client, each read against the others."""

    def __init__(
        self, path: KeyPath, section: ClientSection, client: Client, report: Report
    ) -> None:
        self._path = path
        self._section = section
        self._client = client
        self._report = report

    def run(self) -> None:
        self._check_login()
        self._check_urls()
        check_wire(self._path, self._section, self._client, self._report)
        self._check_answers()
        self._check_rotation()
        self._check_times()

    def _problem(self, key: str | KeyPath, text: str) -> None:
        self._report.problem((*self._path, *_path(key)), text)

    def _warning(self, key: str | KeyPath, text: str) -> None:
        self._report.warning((*self._path, *_path(key)), text)

    def _check_login(self) -> None:
        section, client = self._section, self._client
        authentication = client.quirks.client_authentication
        is_public = authentication is ClientAuthentication.NONE
        if section.client_secret is not None and not authentication.has_secret:
            self._problem(
                "client_secret",
                f'is set, and client_authentication = "{authentication}" sends none: take one of '
                "the two away",
            )
        if authentication.has_certificate and client.endpoints.token.startswith("http:"):
            self._problem("client_certificate", "needs TLS, and token_endpoint is http://")
        if is_public and not client.quirks.pkce:
            self._warning(
                "pkce",
                "is off for a client without a secret: whoever sees a code can use it; "
                "set pkce = true",
            )
        if "encode_basic" in section.quirks and authentication is not ClientAuthentication.BASIC:
            self._warning(
                "encode_basic",
                f'has no effect: client_authentication is "{authentication}", not '
                f'"{ClientAuthentication.BASIC}"',
            )
        if client.quirks.send_redirect_uri_on_refresh and not client.redirect_uris:
            is_ours = "send_redirect_uri_on_refresh" in section.quirks
            tell = self._problem if is_ours else self._warning
            tell(
                "send_redirect_uri_on_refresh",
                "needs the URI to send: set redirect_uris, exactly as registered",
            )
        if "redirect_uri_parameter" in section.quirks and not client.redirect_uris:
            self._warning("redirect_uri_parameter", "has no effect without redirect_uris: set them")
        if client.endpoints.authorization is None and client.endpoints.token:
            for key in ("authorization_parameters", "pkce"):
                if key in section.quirks:
                    self._warning(key, "has no effect: login needs an authorization_endpoint")
        endpoints = [getattr(section, key) for key in ENDPOINTS]
        if section.base_url and section.provider is None and not any(map(_is_path, endpoints)):
            self._warning("base_url", "has no effect: no endpoint is a path; take it away")
        if section.ca_bundle and client.endpoints.token.startswith("http:"):
            self._warning("ca_bundle", "has no effect: token_endpoint is http://")

    def _check_urls(self) -> None:
        """What lets others read what is sent there."""
        if self._section.initial_access_token and self._section.client_id:
            self._warning(
                "initial_access_token", "has no effect: client_id says that it is registered"
            )
        endpoints = self._client.endpoints
        if endpoints.exchange and not self._client.quirks.exchange_grant_type:
            self._warning("exchange_endpoint", "has no effect without an exchange_grant_type")
        named = {
            "authorization_endpoint": endpoints.authorization,
            "token_endpoint": endpoints.token,
            "refresh_endpoint": endpoints.refresh,
            "exchange_endpoint": endpoints.exchange,
            "revocation_endpoint": endpoints.revocation.endpoint if endpoints.revocation else None,
            "introspection_endpoint": endpoints.introspection,
            "registration_endpoint": endpoints.registration,
            "pushed_authorization_request_endpoint": endpoints.pushed_authorization,
            "issuer": endpoints.issuer,
        }
        for key, url in named.items():
            if url and (doubt := endpoint_doubt(url)):
                self._warning(key, doubt)
        for position, uri in enumerate(self._client.redirect_uris):
            if redirect_uri_fault(uri) is None and (doubt := redirect_uri_doubt(uri)):
                self._warning(("redirect_uris", position), doubt)

    def _check_answers(self) -> None:
        client = self._client
        for kind in ("codes", "descriptions"):
            rejections: tuple[str, ...] = getattr(client.quirks, f"rejection_{kind}")
            for word in sorted({*rejections} & {*getattr(client.quirks, f"transient_{kind}")}):
                self._problem(
                    f"rejection_{kind}",
                    f"has {word}, which transient_{kind} has as well: either a person must act or "
                    "it is tried again later; take it out of one",
                )
        quirks = client.quirks
        for person, later in product(quirks.rejection_descriptions, quirks.transient_descriptions):
            if person != later and (person in later or later in person):
                self._warning(
                    "rejection_descriptions",
                    f'has "{person}", and transient_descriptions has "{later}": one holds the '
                    "other, so both fit the longer one; make them differ",
                )
        if "invalid_grant" in client.quirks.transient_codes:
            self._warning(
                "transient_codes",
                "has invalid_grant: a dead refresh token would be sent again for ever, and nobody "
                "asked to log in; name what means later in transient_descriptions",
            )
        for code in ("invalid_client", "unauthorized_client"):
            if code in client.quirks.rejection_codes:
                self._warning(
                    "rejection_codes",
                    f"has {code}: a wrong client_secret would end every grant of the client; "
                    "take it out",
                )

    def _check_rotation(self) -> None:
        section, client, rotation = self._section, self._client, self._client.quirks.rotation
        is_free = rotation.profile in {RotationProfile.NONE, RotationProfile.UNTIL_USED}
        if "on_unknown_outcome" in section.policy and is_free:
            self._warning(
                "on_unknown_outcome",
                f'has no effect with rotation = "{rotation}": a lost answer is asked for again',
            )
        if rotation.profile is not RotationProfile.GRACE:
            return
        if rotation.grace == 0:
            self._warning("rotation", f'has a window of 0 s: write "{RotationProfile.STRICT}"')
        elif (
            "response_timeout" in section.quirks and client.quirks.response_timeout > rotation.grace
        ):
            self._warning(
                "response_timeout",
                f'is longer than the window of rotation = "{rotation}": no replay fits behind it, '
                f'so the client counts as "{RotationProfile.STRICT}"; lower it, or say so',
            )

    def _check_times(self) -> None:
        client, window = self._client, self._client.quirks.refresh_window
        if window is not None and window < client.policy.survive_outage:
            self._problem(
                "refresh_window" if "refresh_window" in self._section.quirks else "survive_outage",
                f"cannot be kept: the server refreshes only {window:g} s before the end "
                f"(refresh_window), so no outage of {client.policy.survive_outage:g} s "
                "(survive_outage) can be survived; lower the latter",
            )
        life = client.quirks.default_expires_in
        if life is None:
            return
        if client.quirks.no_expiry:
            self._warning(
                "default_expires_in", "has no effect: no_expiry says that there is no end"
            )
        known = f"a life of {life:g} s (default_expires_in)"
        if client.policy.survive_outage > life / 2:
            self._warning(
                "survive_outage", f"is more than half of {known}, the most that can be survived"
            )
        if window is None:
            return
        if life <= window:
            self._warning("refresh_window", f"has no effect: it is no shorter than {known}")
        idle = client.quirks.refresh_token_idle
        if idle is not None and idle / 2 < life - window:
            self._warning(
                "refresh_token_idle",
                f"asks for a refresh every {idle / 2:g} s, which refresh_window refuses for "
                f"{life - window:g} s of {known}: raise refresh_window",
            )


def _path(key: str | KeyPath) -> KeyPath:
    return (key,) if isinstance(key, str) else key


def check_together(document: Document, clients: Mapping[str, Client], report: Report) -> None:
    """Report what clients say against each other, and against the sections beside them."""
    _check_scopes_on_refresh(document, clients, report)
    _check_response_times(document, clients, report)
    _check_redirect_uris(clients, report)
    known: dict[tuple[str, str], Client] = {}
    for client in clients.values():
        if client.missing is not None:
            continue
        first = known.setdefault((client.endpoints.token, client.client_id), client)
        differing = [key for key, of in SHARED.items() if of(first) != of(client)]
        if differing:
            report.warning(
                ("clients", client.name),
                f"is the same client of the same server as {first.name}, with another "
                f"{', '.join(differing)}: give both the same, or let their grants share one",
            )


def _check_redirect_uris(clients: Mapping[str, Client], report: Report) -> None:
    """One redirect URI for two servers: either gets the codes of the other (RFC 9700 4.4)."""
    known: dict[tuple[str, ...], Client] = {}
    for client in clients.values():
        for position, uri in enumerate(client.redirect_uris):
            if redirect_uri_fault(uri) is not None:
                continue
            first = known.setdefault(_landing(uri), client)
            if _server(first) != _server(client):
                report.problem(
                    ("clients", client.name, "redirect_uris", position),
                    f"leads where one of {first.name} leads, which is a client of another server: "
                    "either server could get codes of the other (mix-up, RFC 9700 4.4); register "
                    f"one of its own for each, such as one that ends in /callback/{client.name}",
                )


def _landing(uri: str) -> tuple[str, ...]:
    """Where a browser ends at URI; the port of a loopback one is any (RFC 8252 7.3)."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"}:
        return (uri,)
    host = parts.hostname or ""
    port = "" if parts.scheme == "http" and is_loopback(host) else str(_port(uri))
    return parts.scheme, host, port, parts.path.rstrip("/")


def _server(client: Client) -> tuple[str, str | None, int | None]:
    """The one that a code of CLIENT is sent to, or that tells where it is."""
    source = None if client.discovery is None else client.discovery.source
    url = client.endpoints.token or source or ""
    if parts_of(url) is None:
        return url, None, None  # a fault, and told as one
    return urlsplit(url).scheme, urlsplit(url).hostname, _port(url)


def _port(url: str) -> int | None:
    parts = urlsplit(url)
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _is_path(endpoint: str | None) -> bool:
    return endpoint is not None and endpoint.startswith("/")


def _check_scopes_on_refresh(
    document: Document, clients: Mapping[str, Client], report: Report
) -> None:
    """A scope to send can stand at the client or at its grants."""
    for name, client in clients.items():
        scopes = [client.scope]
        scopes += [grant.scope for grant in document.grants.values() if grant.client == name]
        if client.quirks.send_scope_on_refresh and not any(scopes):
            report.warning(
                ("clients", name, "send_scope_on_refresh"),
                "has no scope to send: set scope, at the client or at its grants",
            )


def _check_response_times(
    document: Document, clients: Mapping[str, Client], report: Report
) -> None:
    """A daemon that stops should wait for every answer that it may be owed."""
    deadline = document.daemon.shutdown_deadline
    silent: list[float] = []
    for name, client in clients.items():
        if client.quirks.response_timeout <= deadline:
            continue
        if "response_timeout" not in document.clients[name].quirks:
            silent.append(client.quirks.response_timeout)
            continue
        report.warning(
            ("clients", name, "response_timeout"),
            f"is longer than daemon.shutdown_deadline ({deadline:g} s): an answer that a stopping "
            "daemon does not wait for may hold the only valid refresh token; raise that one too",
        )
    if silent:
        report.warning(
            ("daemon", "shutdown_deadline"),
            f"is shorter than the {max(silent):g} s an answer may take, which may hold the only "
            "valid refresh token: raise it",
        )
