"""Registered applications (OAuth clients) and how they prove who they are.

Pure state. Client authentication is RFC 6749 section 2.3.1: HTTP Basic with form-encoded
halves, parameters of the request, or, for public clients, the client id alone.
"""

import base64
import binascii
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus, urlsplit

from refresher.sandbox.answers import Refused
from refresher.sandbox.families import TokenPolicy

_LOOPBACK_HOSTS = {"127.0.0.1", "::1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """A client: what its owner typed in, and what the server gave back.

    Args:
        client_secret: None for a public client.
        policy: how its tokens live and die.
        public_key: of its assertions, in PEM form; None where it signs none.
    """

    client_id: str
    client_secret: str | None
    name: str
    description: str
    redirect_uris: tuple[str, ...]
    policy: TokenPolicy
    public_key: str | None = None

    def allows_redirect(self, uri: str, *, any_loopback_port: bool) -> bool:
        """Whether the redirect URI is a registered one.

        Args:
            any_loopback_port: RFC 8252 section 7.3, the port of a loopback URI is free.
        """
        if uri in self.redirect_uris:
            return True
        return any_loopback_port and _without_loopback_port(uri) in map(
            _without_loopback_port, self.redirect_uris
        )


class Applications:
    """Every registered application by its client id."""

    def __init__(self) -> None:
        self._applications: dict[str, Application] = {}

    def __iter__(self) -> Iterator[Application]:
        return iter(self._applications.values())

    def add(self, application: Application) -> None:
        """Register an application; one of the same id is replaced (a rotated secret)."""
        self._applications[application.client_id] = application

    def find(self, client_id: str) -> Application | None:
        return self._applications.get(client_id)

    def authenticate(self, parameters: Mapping[str, str], authorization: str | None) -> Application:
        """The application that sent a request.

        Args:
            authorization: the Authorization header, or None where the server reads none.

        Raises:
            Refused: invalid_client, or invalid_request for two methods at once.
        """
        client_id, client_secret = parameters.get("client_id"), parameters.get("client_secret")
        if authorization is not None:
            if client_secret is not None:
                raise Refused("invalid_request", "more than one way of client authentication")
            basic_id, client_secret = _read_basic(authorization)
            if client_id not in {None, basic_id}:
                raise Refused("invalid_request", "two different client ids")
            client_id = basic_id
        application = self._applications.get(client_id or "")
        if application is None:
            raise Refused("invalid_client", "the client is unknown", status=401)
        if application.client_secret is None:
            return application
        expected, sent = application.client_secret.encode(), (client_secret or "").encode()
        if not hmac.compare_digest(expected, sent):
            raise Refused("invalid_client", "client authentication failed", status=401)
        return application


def _read_basic(authorization: str) -> tuple[str, str]:
    """Client id and secret of an HTTP Basic header; each half is form-encoded."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Refused("invalid_client", "unreadable credentials", status=401) from error
    client_id, colon, client_secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise Refused("invalid_client", "unsupported client authentication", status=401)
    return unquote_plus(client_id), unquote_plus(client_secret)


def _without_loopback_port(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK_HOSTS:
        return uri
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return parts._replace(netloc=host).geturl()
