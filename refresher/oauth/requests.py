"""Building requests to a server's endpoints: parameters in their place.

The result is ready for the wire; it shows nothing of itself (guarantee G5).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote, urlencode

from yarl import URL

from refresher.domain.clients import Client
from refresher.domain.quirks import Placement
from refresher.oauth.client_authentication import Proof, authenticate


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
    proof = authenticate(client) if authenticated else Proof()
    sent = {**parameters, **proof.parameters}
    url = _endpoint(endpoint)
    if placement is Placement.FORM:
        return WireRequest(url, urlencode(sent).encode(), proof.headers)
    # A blank as %20: some servers do not read + as a blank outside of a form.
    query = urlencode(sent, quote_via=quote)
    joint = "&" if url.raw_query_string else "?"
    return WireRequest(URL(f"{url}{joint}{query}", encoded=True), b"", proof.headers)


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
