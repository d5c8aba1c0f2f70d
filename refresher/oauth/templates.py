"""Refresh requests that differ in their refresh token alone: built once, and then filled in.

Every other request is built anew. To build one takes several times as long as to send it.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote_plus

from refresher.domain.clients import Client
from refresher.domain.quirks import ClientAuthentication, Placement
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth import refresh_token
from refresher.oauth.requests import Head, TokenRequest, WireRequest, build_request, single

MOST = 256
"""Templates of one client: more than its grants have scopes and redirect URIs."""

_MARK = secrets.token_hex(16)
"""Stands for the refresh token where a template is made; nothing else can look like it."""


@dataclass(frozen=True, slots=True)
class _Template:
    """A request around its refresh token."""

    head: Head
    before: bytes = field(repr=False)
    after: bytes = field(repr=False)
    sent: Mapping[str, str] = field(repr=False)

    def filled(self, token: Secret) -> tuple[WireRequest, Mapping[str, str]]:
        plain = token.reveal()
        body = b"%b%b%b" % (self.before, quote_plus(plain).encode(), self.after)
        return WireRequest(self.head, body), {**self.sent, "refresh_token": plain}


class Templates:
    """Those of each client, for as long as it stays as it is configured."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Client, dict[object, _Template | None]]] = {}

    def filled(
        self,
        client: Client,
        renewal: RefreshToken,
        *,
        scope: tuple[str, ...],
        redirect_uri: str | None,
    ) -> tuple[WireRequest, Mapping[str, str]] | None:
        """The request of CLIENT that presents RENEWAL, and its parameters.

        None where it has to be built by itself: it is no form, its proof is dated, or there is
        something that keeps it from being sent.
        """
        known = self._made.get(client.name)
        if known is None or known[0] is not client:
            known = self._made[client.name] = (client, {})
        templates, which = known[1], (renewal.is_first, scope, redirect_uri)
        if which not in templates:
            if len(templates) >= MOST:
                templates.clear()
            marked = RefreshToken(Secret(_MARK), renewal.is_first)
            asked = refresh_token.request(client, marked, scope=scope, redirect_uri=redirect_uri)
            templates[which] = _template(client, asked)
        template = templates[which]
        try:
            return None if template is None else template.filled(renewal.presents)
        except ValueError:
            return None  # no form can carry it


def _template(client: Client, asked: TokenRequest) -> _Template | None:
    is_dated = client.quirks.client_authentication is ClientAuthentication.PRIVATE_KEY_JWT
    if client.missing is not None or is_dated or asked.placement is not Placement.FORM:
        return None
    try:
        request = build_request(client, asked, now=0.0)
    except ValueError:
        return None
    before, _, after = (request.body or b"").partition(_MARK.encode())
    return _Template(request.head, before, after, single(asked.parameters))
