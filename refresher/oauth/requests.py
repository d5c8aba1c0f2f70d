"""Building requests to a server's endpoints: parameters under their names, in their place.

The result is ready for the wire; it shows nothing of itself (guarantee G5).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlencode

from yarl import URL

from refresher.domain.clients import Client
from refresher.domain.quirks import Placement
from refresher.oauth.client_authentication import Proof, authenticate

Parameters = Mapping[str, str | tuple[str, ...]]
"""Several values of one are sent as so many parameters (RFC 8693 2.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a flow asks of a token endpoint, under the names of the standard."""

    endpoint: str
    placement: Placement
    parameters: Parameters = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str = "POST"
    """Of what has a body; ``Placement.GET`` has none."""
    authenticated: bool = True
    """Whether the client proves itself beside what it presents."""
    is_mute: bool = False
    """Nothing is said in JSON, which is null: Dropbox refuses an empty object."""


@dataclass(eq=False, slots=True)
class Head:
    """All of a request but its body. Many requests may share one."""

    url: URL = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    method: str = "POST"
    written: tuple[object, bytes] | None = field(default=None, repr=False)
    """The way that it went last, and how it is written there: the transport's own."""


@dataclass(frozen=True, slots=True)
class WireRequest:
    """One request, encoded once and for all."""

    head: Head
    body: bytes | None = field(repr=False)
    """None for a GET."""


def build_request(client: Client, asked: TokenRequest, now: float) -> WireRequest:
    """ASKED, as CLIENT proves itself and as its server names things.

    Args:
        now: when it is sent.

    Raises:
        ValueError: the endpoint is no URL.
        KeyUnusable: the client's private key cannot sign.
    """
    proof = authenticate(client, now) if asked.authenticated else Proof()
    names = client.quirks.parameter_names
    sent: Parameters = {names.get(name, name): each for name, each in asked.parameters.items()}
    sent = {**sent, **{names.get(name, name): each for name, each in proof.parameters.items()}}
    headers = {**asked.headers, **proof.headers}
    url = _endpoint(asked.endpoint)
    match asked.placement:
        case Placement.FORM:
            body = urlencode(sent, doseq=True).encode()
            return WireRequest(Head(url, headers, asked.method), body)
        case Placement.JSON:
            typed = headers | {"Content-Type": "application/json"}
            said = sent if sent or not asked.is_mute else None
            return WireRequest(Head(url, typed, asked.method), json.dumps(said).encode())
        case Placement.QUERY | Placement.GET:
            if asked.placement is Placement.GET:
                return WireRequest(Head(_with_query(url, sent), headers, "GET"), None)
            return WireRequest(Head(_with_query(url, sent), headers, asked.method), b"")


def get_request(url: str) -> WireRequest:
    """A GET of URL, which names no client.

    Raises:
        ValueError: it is no URL.
    """
    return WireRequest(Head(_endpoint(url), {}, "GET"), None)


def json_request(url: str, content: Mapping[str, Any], headers: Mapping[str, str]) -> WireRequest:
    """A POST of CONTENT as JSON to URL.

    Raises:
        ValueError: it is no URL.
    """
    typed = {**headers, "Content-Type": "application/json"}
    return WireRequest(Head(_endpoint(url), typed), json.dumps(content).encode())


def _with_query(url: URL, sent: Parameters) -> URL:
    if not sent:
        return url
    # A blank as %20: some servers do not read + as a blank outside of a form.
    query = urlencode(sent, doseq=True, quote_via=quote)
    joint = "&" if url.raw_query_string else "?"
    return URL(f"{url}{joint}{query}", encoded=True)


@lru_cache(maxsize=1024)
def _endpoint(text: str) -> URL:
    url = URL(text).with_fragment(None)
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("an endpoint is an http or https URL")
    return url


def single(parameters: Parameters) -> dict[str, str]:
    """Those of PARAMETERS that have one value: no secret has several."""
    return {name: each for name, each in parameters.items() if isinstance(each, str)}
