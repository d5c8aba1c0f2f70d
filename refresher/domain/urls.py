"""What is wrong with a URL that secrets are sent to, in words that do not repeat it."""

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from refresher.domain.clients import SUBJECT

_IN_BRACES = re.compile(r"\{\w{1,40}\}|<[\w-]{1,40}>")
"""What documentation writes where everybody has a value of their own."""


def endpoint_fault(url: str, *, allow_plain_http: bool) -> str | None:
    """What keeps URL from being an endpoint (RFC 6749 3.1, 3.2), or None."""
    parts = parts_of(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        return "is not a URL: write https://HOST/PATH"
    if unfilled := _IN_BRACES.search(url.replace(SUBJECT, "")):
        return f"has {unfilled[0]} in it: write your own value in its place"
    if parts.username is not None:
        return "has a user or password in the URL: use client_id and client_secret"
    if parts.fragment or url.endswith("#"):
        return "has a fragment (#...), which an endpoint must not have (RFC 6749 3.1)"
    if parts.scheme == "http" and not (allow_plain_http or is_loopback(parts.hostname)):
        return (
            "is http://: secrets would travel in the clear (RFC 6749 3.2); use https://, or set "
            "allow_plain_http = true for this client"
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether HOST is this machine without asking a name server (RFC 6761 6.3)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_link_local(host: str) -> bool:
    """Whether HOST is an address of the same network, where clouds keep their metadata."""
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


def host_of(url: str) -> str:
    """Host and port of URL, which is one: what tells one server from another."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.hostname}:{port}"


def parts_of(url: str) -> SplitResult | None:
    """The parts of URL, or None if it has none, a bad port, or a space or control in it."""
    if any(character <= " " or character == "\x7f" for character in url):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts
