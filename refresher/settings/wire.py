"""What a client's settings say of names on the wire: parameters, headers, fields of answers.

What the daemon fills in itself is filled in once, and nothing secret stands where settings
are no secrets or where consumers read along.
"""

import re
from collections.abc import Iterator, Mapping

from refresher.domain.clients import Client
from refresher.settings.document import ClientSection
from refresher.settings.layers import KeyPath
from refresher.settings.report import Report

SENT_IN_TOKEN_REQUESTS: Mapping[str, str] = {
    "client_id": "client_id, and client_authentication where the server wants it as a parameter",
    "client_secret": "client_secret",
    "code": "refresher login",
    "code_verifier": "pkce",
    "grant_type": "grant_type of a grant",
    "redirect_uri": "redirect_uris, and send_redirect_uri_on_refresh",
    "refresh_token": "refresh_token of a grant",
    "resource": "resource, and send_resource_on_refresh",
    "scope": "scope, and send_scope_on_refresh",
}
"""Parameters of token requests that the daemon fills in itself, and the settings for them."""

SENT_IN_AUTHORIZATION_REQUESTS: Mapping[str, str] = {
    "client_id": "client_id",
    "client_secret": "client_secret: a browser would show it",
    "code_challenge": "pkce",
    "code_challenge_method": "pkce",
    "redirect_uri": "redirect_uris",
    "resource": "resource",
    "response_type": "nothing: refresher knows code only",
    "scope": "scope",
    "state": "nothing: refresher draws it for each login",
}
"""The same of authorization requests."""

OURS: Mapping[str, Mapping[str, str]] = {
    "token_parameters": SENT_IN_TOKEN_REQUESTS,
    "refresh_parameters": SENT_IN_TOKEN_REQUESTS,
    "code_parameters": SENT_IN_TOKEN_REQUESTS,
    "authorization_parameters": SENT_IN_AUTHORIZATION_REQUESTS,
}
"""Both, by the key whose parameters must be others."""

SECRET_WORDS = (
    *("api_key", "apikey", "assertion", "passphrase", "passwd", "password", "private_key"),
    *("secret", "subject_token", "actor_token", "access_token", "id_token"),
)
"""What a parameter that holds a secret is called, among other words."""

NO_SECRETS = ("_type", "_hint")
"""What the names of parameters about such a one end in."""

HEADERS = ("token_headers", "refresh_headers", "code_headers")

OUR_HEADERS = frozenset(
    {"authorization", "connection", "content-length", "content-type", "cookie", "expect", "host"}
    | {"proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Headers that the daemon, its HTTP library or a secret of the client fills in."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 5.6.2: the name of a header."""

FIELDS = (
    *("access_token", "refresh_token", "token_type", "expires_in", "refresh_in", "scope"),
    "refresh_token_expires_in",
)
"""Fields of an answer that can have another name."""

PUBLISHED = frozenset({"access_token", "token_type", "expires_at", "issued_at", "version", "scope"})
"""Fields of the Redis contract, which no field of an answer replaces."""


def check_wire(path: KeyPath, section: ClientSection, client: Client, report: Report) -> None:
    """Report names in SECTION, at PATH, that cannot be sent, read or published."""
    for key, text in (
        *_parameters(section, client),
        *_headers(section),
        *_names(section, client),
    ):
        report.problem((*path, *key), text)
    for name, text in _published(client):
        report.warning((*path, name), text)
    parameters = client.quirks.authorization_parameters
    if parameters.get("response_mode", "query") != "query":
        report.warning(
            (*path, "authorization_parameters", "response_mode"),
            "keeps the code out of the URL in which login looks for it: take it away",
        )


def _parameters(section: ClientSection, client: Client) -> Iterator[tuple[KeyPath, str]]:
    """What the daemon sends itself wins over parameters of the same name, or stands twice."""
    for table, sent in OURS.items():
        given: Mapping[str, str] = section.quirks.get(table, {})
        for name in given:
            is_uri = name == client.quirks.redirect_uri_parameter
            asked = "redirect_uri" if is_uri else name.lower()
            if asked == "resource" and client.resource is None:
                continue  # where another parameter of this name is meant
            if asked in sent:
                yield (table, name), f"is filled in by the daemon: use {sent[asked]}"
            elif _sounds_secret(name):
                yield (
                    (table, name),
                    (
                        "sounds like a secret, and parameters are not kept as secrets: a client's "
                        "goes into client_secret, a token into refresh_token or static_token of a "
                        "grant"
                    ),
                )


def _headers(section: ClientSection) -> Iterator[tuple[KeyPath, str]]:
    for table in HEADERS:
        given: Mapping[str, str] = section.quirks.get(table, {})
        for name, value in given.items():
            if not _TOKEN.fullmatch(name):
                yield (table, name), "is no name of a header (RFC 9110 5.6.2)"
            elif name.lower() in OUR_HEADERS:
                yield (table, name), "is filled in by the daemon: take it away"
            elif _sounds_secret(name):
                yield (
                    (table, name),
                    "sounds like a secret, and headers are not kept as secrets: take it away",
                )
            elif not (value.isascii() and value.isprintable()):
                yield (table, name), "holds characters that no header has (RFC 9110 5.5)"


def _names(section: ClientSection, client: Client) -> Iterator[tuple[KeyPath, str]]:
    known = {*SENT_IN_TOKEN_REQUESTS, *SENT_IN_AUTHORIZATION_REQUESTS} - {"redirect_uri"}
    given: Mapping[str, str] = section.quirks.get("parameter_names", {})
    for name in given:
        if name == "redirect_uri":
            yield ("parameter_names", name), "has a key of its own: use redirect_uri_parameter"
        elif name not in known:
            yield (
                ("parameter_names", name),
                f"is no parameter of the standard: name one of {', '.join(sorted(known))}",
            )
    names = client.quirks.parameter_names.values()
    if len(set(names)) < len(names):
        yield ("parameter_names",), "gives two parameters one name: each needs its own"
    for name in section.quirks.get("answer_names", {}):
        if name not in FIELDS:
            yield (
                ("answer_names", name),
                f"is no field of the standard: name one of {', '.join(FIELDS)}",
            )
    for name in client.quirks.callback_extras:
        if name in {client.quirks.code_parameter, "code", "state"}:
            yield ("callback_extras",), f"has {name}, which is a secret of the login: take it out"


def _published(client: Client) -> Iterator[tuple[str, str]]:
    for key in ("extras", "callback_extras"):
        names: tuple[str, ...] = getattr(client.quirks, key)
        for name in names:
            if name in PUBLISHED:
                yield key, f"has {name}, which is published anyway: take it out"
            elif "refresh_token" in name:
                yield key, f"has {name}: no refresh token is published; take it out"


def _sounds_secret(name: str) -> bool:
    plain = name.lower().replace("-", "_")
    return not plain.endswith(NO_SECRETS) and any(word in plain for word in SECRET_WORDS)
