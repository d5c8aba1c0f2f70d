"""The browser's part of the authorization code grant: the URL out, the redirect back."""

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlencode, urlsplit

from refresher.domain.clients import Client
from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed

KNOWN_ERRORS = {
    "access_denied": "the account, or its owner, refused the access",
    "invalid_scope": "the server does not know the scope asked for: check `scope`",
    "unauthorized_client": "the client may not use this flow: check its registration",
    "unsupported_response_type": "the server does not offer the authorization code grant",
    "server_error": "the server failed: try again",
    "temporarily_unavailable": "the server is overloaded: try again later",
    "invalid_request": "the server did not accept the request: check the client's settings",
    "login_required": "the server wants a login it could not ask for: try again",
    "consent_required": "the server wants a consent it could not ask for: try again",
    "interaction_required": "the server wants a dialogue it could not start: try again",
    "redirect_uri_mismatch": "the redirect URI is not registered for this client",
}
"""Error codes of RFC 6749 4.1.2.1 and OpenID Connect, and what they mean here."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_QUERY = re.compile(r"(?:^|[?&])(?:code|error|state)=")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """An authorization under way."""

    url: str
    """What the person opens; nothing in it is secret."""
    state: Secret
    redirect_uri: str
    code_verifier: Secret | None


def begin(client: Client, *, redirect_uri: str, scope: tuple[str, ...]) -> AuthorizationRequest:
    """Build the authorization request (RFC 6749 4.1.1, PKCE S256 of RFC 7636).

    Raises:
        AuthorizationFailed: the client has no authorization endpoint.
    """
    if client.authorization_endpoint is None:
        raise AuthorizationFailed(
            f"client {client.name} has no authorization_endpoint in the settings"
        )
    state = secrets.token_urlsafe(24)
    parameters = {
        **client.authorization_parameters,
        "response_type": "code",
        "client_id": client.client_id,
        client.redirect_uri_parameter: redirect_uri,
        "state": state,
    }
    if scope:
        parameters["scope"] = client.scope_separator.join(scope)
    verifier = secrets.token_urlsafe(48) if client.pkce else None
    if verifier is not None:
        parameters |= {"code_challenge": challenge(verifier), "code_challenge_method": "S256"}
    endpoint = client.authorization_endpoint
    query = urlencode(parameters, quote_via=quote)  # %20 is a blank everywhere, + is not
    return AuthorizationRequest(
        url=f"{endpoint}{'&' if '?' in endpoint else '?'}{query}",
        state=Secret(state),
        redirect_uri=redirect_uri,
        code_verifier=None if verifier is None else Secret(verifier),
    )


def challenge(verifier: str) -> str:
    """The S256 code challenge of VERIFIER (RFC 7636 4.2)."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def read_callback(request: AuthorizationRequest, pasted: str) -> Secret:
    """The code in PASTED: the redirected URL, its query alone, or the bare code.

    A bare code carries no state; whoever pastes it vouches for where it came from.

    Raises:
        AuthorizationFailed: refused, of another login, of another redirect URI, or empty.
    """
    text = pasted.strip()
    if _URL.match(text):
        _refuse_other_redirect(request, text)
        query = _split(text).query
    elif _QUERY.search(text):
        query = text.partition("?")[2] or text
    else:
        return _bare_code(text)
    found = {name: values[0] for name, values in parse_qs(query).items()}
    if "error" in found:
        raise AuthorizationFailed(_explained(found["error"]))
    if not _is_same(found.get("state", ""), request.state.reveal()):
        raise AuthorizationFailed(
            "the state is not the one this login sent: it belongs to another login, or somebody "
            "tampers with it; start the login again"
        )
    if not found.get("code"):
        raise AuthorizationFailed("the redirected URL carries no code: start the login again")
    return Secret(found["code"])


def is_loopback(redirect_uri: str) -> bool:
    """Whether REDIRECT_URI leads to this machine (RFC 8252 7.3), so that we can listen."""
    try:
        parts = urlsplit(redirect_uri)
        host = parts.hostname or ""
        return parts.scheme == "http" and (
            host == "localhost" or ipaddress.ip_address(host).is_loopback
        )
    except ValueError:
        return False


def _bare_code(text: str) -> Secret:
    """A code copied out of an address bar is still percent-encoded."""
    if not text or not text.isprintable() or any(character.isspace() for character in text):
        raise AuthorizationFailed("that is neither a redirected URL nor a code")
    return Secret(unquote(text))


def _refuse_other_redirect(request: AuthorizationRequest, url: str) -> None:
    """Tell a wrong copy, such as the address of the consent page, from a redirect.

    Some providers take a name for the redirect URI (eBay), which is compared with nothing.
    """
    if not _URL.match(request.redirect_uri):
        return
    if _place(_split(url)) != _place(_split(request.redirect_uri)):
        raise AuthorizationFailed(
            f"that URL does not begin with the redirect URI {request.redirect_uri}: copy the "
            "address the browser shows after the consent"
        )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # is read, and can fail, late
    except ValueError:
        raise AuthorizationFailed("that is not a URL: copy the whole address") from None
    return parts


def _place(parts: SplitResult) -> tuple[str, str | None, int | None, str]:
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


def _is_same(found: str, expected: str) -> bool:
    return hmac.compare_digest(found.encode(errors="replace"), expected.encode())


def _explained(error: str) -> str:
    """What ERROR means; a code nobody knows is not repeated, for it may be anything."""
    meaning = KNOWN_ERRORS.get(error)
    if meaning is None:
        return "the server refused the authorization with an error of its own"
    return f"{meaning} ({error})"
