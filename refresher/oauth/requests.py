"""Building requests to a server's endpoints: client authentication and placement.

The result is ready for the wire; it shows nothing of itself (guarantee G5).
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, quote_plus, urlencode

from yarl import URL

from refresher.domain.clients import Client, ClientAuthentication, Placement


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request, encoded once and for all."""

    url: URL = field(repr=False)
    body: bytes | None = field(repr=False)
    """Of a POST; None for a GET."""
    headers: Mapping[str, str] = field(repr=False)


def build_request(
    client: Client,
    endpoint: str,
    parameters: Mapping[str, str],
    *,
    placement: Placement,
    authenticated: bool = True,
) -> WireRequest:
    """PARAMETERS for ENDPOINT, as CLIENT proves itself and as it wants them placed.

    Raises:
        ValueError: ENDPOINT is no URL.
    """
    sent = {**parameters, **_credentials(client)} if authenticated else parameters
    headers = _basic(client) if authenticated else {}
    url = _endpoint(endpoint)
    if placement is Placement.FORM:
        return WireRequest(url, urlencode(sent).encode(), headers)
    # A blank as %20: some servers do not read + as a blank outside of a form.
    query = urlencode(sent, quote_via=quote)
    joint = "&" if url.raw_query_string else "?"
    return WireRequest(URL(f"{url}{joint}{query}", encoded=True), b"", headers)


def get_request(url: str) -> WireRequest:
    """A GET of URL, which names no client.

    Raises:
        ValueError: it is no URL.
    """
    return WireRequest(_endpoint(url), None, {})


@lru_cache(maxsize=1024)
def _endpoint(text: str) -> URL:
    url = URL(text).with_fragment(None)
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("an endpoint is an http or https URL")
    return url


def _credentials(client: Client) -> dict[str, str]:
    """The parameters that name the client, where they are parameters (RFC 6749 2.3.1, 3.2.1)."""
    if client.authentication is ClientAuthentication.BASIC:
        return {}
    named = {"client_id": client.client_id}
    if client.authentication is ClientAuthentication.POST and client.client_secret is not None:
        named["client_secret"] = client.client_secret.reveal()
    return named


def _basic(client: Client) -> dict[str, str]:
    """HTTP Basic; RFC 6749 2.3.1 form-encodes both parts first, some servers do not decode."""
    if client.authentication is not ClientAuthentication.BASIC:
        return {}
    secret = client.client_secret.reveal() if client.client_secret is not None else ""
    user, password = client.client_id, secret
    if client.encode_basic:
        user, password = quote_plus(user), quote_plus(password)
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {encoded}"}
