"""From sections of the settings and entries of the catalogue to domain clients."""

import ssl
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from refresher.domain.clients import (
    Authentication,
    Client,
    Endpoints,
    Policy,
    Revocation,
    Route,
)
from refresher.domain.discovery import Discovery
from refresher.domain.grants import NAME_RULE, is_valid_name
from refresher.domain.quirks import ClientAuthentication, Quirks, keys
from refresher.domain.secret import Secret
from refresher.domain.service_accounts import ServiceAccount, read_service_account
from refresher.domain.urls import endpoint_fault, parts_of
from refresher.files import Unseen, read_file
from refresher.providers import Provider, Variable
from refresher.providers.lines import UNFILLED
from refresher.settings.authentication import AuthenticationBuilder
from refresher.settings.catalogued import (
    ENDPOINTS,
    Catalogued,
    read_catalogued,
    with_refresh_token_scope,
)
from refresher.settings.contradictions import check_client
from refresher.settings.document import ClientSection
from refresher.settings.layers import UNREAD, KeyPath, absolute
from refresher.settings.report import Report, suggestion
from refresher.settings.secret_reader import SecretReader
from refresher.settings.urls import (
    joined,
    proxy_doubt,
    proxy_fault,
    redirect_uri_fault,
)

T = TypeVar("T")

LARGEST_BUNDLE = 16 * 1024 * 1024
"""Bytes of a CA bundle; the system's has a few hundred thousand."""


class ClientBuilder:
    """Builds domain clients; whatever is wrong with one goes to the report.

    Args:
        base: the folder relative paths start at.
        signing: the clients that sign what their grants present, by name.
    """

    def __init__(
        self, *, base: Path, secrets: SecretReader, report: Report, signing: Collection[str] = ()
    ) -> None:
        self._base = base
        self._secrets = secrets
        self._signing = signing
        self._authentication = AuthenticationBuilder(
            base=base, secrets=secrets, report=report, signing=signing
        )
        self._report = report

    def build(self, name: str, section: ClientSection) -> Client | None:
        """The client NAME, or None if so much is wrong that there is none."""
        path: KeyPath = ("clients", name)
        check_name(path, name, self._report)
        catalogued = read_catalogued(path, section, self._report)
        provider = catalogued.provider
        quirks = _told(Quirks, section.quirks, catalogued)
        is_signing = name in self._signing
        if (
            is_signing
            and section.client_secret is None
            and "client_authentication" not in section.quirks
        ):
            # RFC 7521 4.1: what it signs proves it.
            quirks = replace(quirks, client_authentication=ClientAuthentication.NONE)
        authentication = self._authentication.build(path, section, quirks) if is_signing else None
        account = None if authentication is None else _account(authentication)
        endpoints = self._endpoints(path, section, catalogued, account)
        discovery = self._discovery(path, section, catalogued, endpoints)
        if authentication is None:
            if discovery is not None and _is_open(discovery):
                quirks = replace(quirks, client_authentication=_authentication_of(section, quirks))
            authentication = self._authentication.build(path, section, quirks)
        self._check_redirect_uris(path, section.redirect_uris)
        warn_of_scope((*path, "scope"), section.scope, provider, self._report)
        proxy = self._proxy(path, section)
        ca_bundle = self._ca_bundle(path, section)
        client_id = section.client_id or (None if account is None else account.client_email)
        if discovery is None or section.client_secret is not None:
            self._require(path, "client_id", client_id, "set the id the server gave it")
        if section.client_id == UNFILLED:
            self._report.warning(
                (*path, "client_id"), f'is still "{UNFILLED}": set the id the server gave it'
            )
        is_known = client_id is not None and "token_endpoint" in endpoints
        if discovery is None and not is_known:
            return None
        client = Client(
            name=name,
            client_id=client_id or "",
            endpoints=Endpoints(
                token=endpoints.get("token_endpoint", ""),
                authorization=endpoints.get("authorization_endpoint"),
                device_authorization=endpoints.get("device_authorization_endpoint"),
                refresh=endpoints.get("refresh_endpoint"),
                exchange=endpoints.get("exchange_endpoint"),
                revocation=_revocation(provider, endpoints.get("revocation_endpoint")),
                introspection=endpoints.get("introspection_endpoint"),
                registration=endpoints.get("registration_endpoint"),
                pushed_authorization=endpoints.get("pushed_authorization_request_endpoint"),
                issuer=self._issuer(path, section),
            ),
            authentication=authentication,
            quirks=quirks,
            policy=_told(Policy, section.policy, catalogued),
            route=Route(proxy=proxy, ca_bundle=ca_bundle),
            provider=section.provider,
            description=section.description,
            redirect_uris=section.redirect_uris,
            scope=with_refresh_token_scope(section.scope, provider),
            resource=section.resource,
            discovery=discovery,
        )
        check_client(path, section, client, self._report)
        return client

    def _endpoints(
        self,
        path: KeyPath,
        section: ClientSection,
        catalogued: Catalogued,
        account: ServiceAccount | None,
    ) -> dict[str, str]:
        """Absolute URLs of the endpoints that are known and right."""
        given = {key: getattr(section, key) or catalogued.endpoints.get(key) for key in ENDPOINTS}
        if account is not None and given["token_endpoint"] is None:
            given["token_endpoint"] = account.token_uri
        base_url = self._base_url(path, section, catalogued.base_url, given)
        provider = catalogued.provider
        is_told = provider is not None and provider.settings.token_endpoint is not None
        is_told = is_told or section.issuer is not None or section.resource is not None
        if not (is_told or self._report.is_faulty((*path, "provider"))):
            self._require(
                path,
                "token_endpoint",
                given["token_endpoint"],
                f"set it: the catalogue has none of {provider.name}"
                if provider
                else "set it, or the issuer whose metadata tell it, or a provider of the catalogue "
                "(`refresher providers` lists it)",
            )
        found: dict[str, str] = {}
        for key, endpoint in given.items():
            if endpoint is None or (endpoint.startswith("/") and base_url is None):
                continue
            url = joined(base_url, endpoint)
            fault = endpoint_fault(url, allow_plain_http=section.allow_plain_http)
            if fault is None:
                found[key] = url
            elif getattr(section, key) is not None or url == (account and account.token_uri):
                self._report.problem((*path, key), fault)
        return found

    def _issuer(self, path: KeyPath, section: ClientSection) -> str | None:
        if section.issuer is None:
            return None
        fault = endpoint_fault(section.issuer, allow_plain_http=section.allow_plain_http)
        if fault is None and "?" in section.issuer:
            fault = "has a query (?...), which an issuer must not have (RFC 8414 2)"
        if fault is not None:
            self._report.problem((*path, "issuer"), fault)
        return section.issuer

    def _discovery(
        self,
        path: KeyPath,
        section: ClientSection,
        catalogued: Catalogued,
        endpoints: Mapping[str, str],
    ) -> Discovery | None:
        """What the settings leave to the server to tell; None where they leave nothing."""
        asks_resource = (
            section.resource is not None
            and section.issuer is None
            and "token_endpoint" not in endpoints
            and not self._report.is_faulty((*path, "token_endpoint"))
        )
        self._check_resource(path, section, is_asked=asks_resource)
        may_register = section.client_id is None and "registration_endpoint" in endpoints
        if section.issuer is None and not asks_resource and not may_register:
            return None
        keys = {*endpoints, *section.quirks, *catalogued.keys}
        keys |= {key for key in ("client_id", "scope") if getattr(section, key)}
        return Discovery(
            issuer=section.issuer,
            resource=section.resource if asks_resource else None,
            told=frozenset(keys),
            allow_plain_http=section.allow_plain_http,
        )

    def _check_resource(self, path: KeyPath, section: ClientSection, *, is_asked: bool) -> None:
        if section.resource is None:
            return
        parts = parts_of(section.resource)
        fault = None
        if parts is None or not parts.scheme:
            fault = "is not an absolute URI (RFC 8707 2): write it with its scheme"
        elif "#" in section.resource:
            fault = "has a fragment (#...), which RFC 8707 2 forbids"
        elif is_asked:
            fault = endpoint_fault(section.resource, allow_plain_http=section.allow_plain_http)
        if fault is not None:
            self._report.problem((*path, "resource"), fault)

    def _base_url(
        self,
        path: KeyPath,
        section: ClientSection,
        variable: Variable | None,
        endpoints: Mapping[str, str | None],
    ) -> str | None:
        if section.base_url is None:
            if variable is not None and variable.default is not None:
                return variable.default
            relative = [key for key, url in endpoints.items() if url and url.startswith("/")]
            hint = f", {variable.meaning} (for example {variable.example})" if variable else ""
            if relative:
                self._require(
                    path,
                    "base_url",
                    None,
                    f"{', '.join(relative)} {'are paths' if relative[1:] else 'is a path'} on a "
                    f"host of your own: set its URL{hint}",
                )
            return None
        fault = endpoint_fault(section.base_url, allow_plain_http=section.allow_plain_http)
        if fault is None and "?" in section.base_url:
            fault = "has a query (?...), so nothing can be joined to it"
        if fault is not None:
            self._report.problem((*path, "base_url"), fault)
            return None
        return section.base_url

    def _check_redirect_uris(self, path: KeyPath, uris: Sequence[str]) -> None:
        for position, uri in enumerate(uris):
            fault = redirect_uri_fault(uri)
            if fault is not None:
                self._report.problem((*path, "redirect_uris", position), fault)

    def _proxy(self, path: KeyPath, section: ClientSection) -> str | None:
        secret = self._secrets.read((*path, "proxy"), section.proxy, is_url=True)
        if secret is None:
            return None
        # The domain holds it as text: the HTTP library needs it for every connection.
        url = secret.reveal()
        fault = proxy_fault(url)
        if fault is not None:
            self._report.problem((*path, "proxy"), fault)
        elif (doubt := proxy_doubt(url)) is not None:
            self._report.warning((*path, "proxy"), doubt)
        return url

    def _ca_bundle(self, path: KeyPath, section: ClientSection) -> str | None:
        if section.ca_bundle is None:
            return None
        file = absolute(self._base, section.ca_bundle)
        key: KeyPath = (*path, "ca_bundle")
        try:
            content, faults = read_file(file, largest=LARGEST_BUNDLE)
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(
                cadata=content.decode("ascii", "replace")
            )
        except ssl.SSLError:
            self._report.problem(key, f"is {file}, which holds no certificates in PEM form")
        except Unseen as error:
            self._report.unseen(key, f"is {file}, which {error}", of_service=False)
        except ValueError as error:
            self._report.problem(key, f"is {file}, which {error}")
        else:
            if faults:
                self._report.problem(key, f"others can change: {faults[0].text}")
        return str(file)

    def _require(self, path: KeyPath, key: str, value: object, mend: str) -> None:
        if value is None and not self._report.is_faulty((*path, key)):
            self._report.problem((*path, key), f"is missing: {mend}")


def _is_open(discovery: Discovery) -> bool:
    """Whether how the client proves itself follows from what it has: nobody has told it."""
    told = discovery.told
    is_whole = {"token_endpoint", "client_id"} <= told
    return not is_whole and "client_authentication" not in told


def _authentication_of(section: ClientSection, quirks: Quirks) -> ClientAuthentication:
    if section.client_private_key is not None:
        return ClientAuthentication.PRIVATE_KEY_JWT
    if section.client_certificate is not None:
        return ClientAuthentication.TLS
    return (
        ClientAuthentication.NONE if section.client_secret is None else quirks.client_authentication
    )


def check_name(path: KeyPath, name: str, report: Report) -> None:
    """Report a NAME that no client or grant may have."""
    if not is_valid_name(name):
        report.problem(path, f"is a name that is not allowed: use {NAME_RULE}")


def warn_of_scope(
    path: KeyPath, scope: Sequence[str], provider: Provider | None, report: Report
) -> None:
    """Warn of values the PROVIDER does not document, where its documentation is complete."""
    if provider is None or not provider.scopes:
        return
    for value in scope:
        if value not in provider.scopes:
            mend = suggestion(value, provider.scopes)
            report.warning(path, f"has {value}, which {provider.name} does not document{mend}")


def _told(of: type[T], ours: Mapping[str, Any], catalogued: Catalogued) -> T:
    """Quirks or policy: what the section says (OURS), else the catalogue, else the standard."""
    kind: type = of
    names = {key.name for key in keys(kind)} & catalogued.keys.keys()
    theirs = {name: catalogued.keys[name] for name in names}
    joined_tables = {
        name: {**theirs[name], **value}
        for name, value in ours.items()
        if isinstance(value, Mapping) and name in theirs
    }
    return of(**{**theirs, **ours, **joined_tables})


def _account(authentication: Authentication) -> ServiceAccount | None:
    """Who the client is by the file of its private key, where that says so."""
    private_key = authentication.private_key
    if private_key is None:
        return None
    if private_key == Secret(UNREAD):  # who it is stands in what was left unread
        return ServiceAccount(client_email=UNREAD, token_uri=UNREAD_ENDPOINT)
    return read_service_account(private_key)


UNREAD_ENDPOINT = "https://unread.invalid/"
"""Stands for what a file says that a command has no use for."""


def _revocation(provider: Provider | None, endpoint: str | None) -> Revocation | None:
    if endpoint is None:
        return None
    return provider.revocation.at(endpoint) if provider else Revocation(endpoint=endpoint)
