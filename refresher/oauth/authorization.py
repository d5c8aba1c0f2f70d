"""The browser's part of the authorization code grant: the URL out, the redirect back."""

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlencode, urlsplit

from refresher.domain.clients import Client
from refresher.domain.logins import AwaitedAnswer
from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed, NotThisAnswer

KNOWN_ERRORS = {
    "access_denied": "the account, or its owner, refused the access",
    "invalid_scope": "the server does not know the scope asked for: check `scope`",
    "unauthorized_client": "the client may not use this flow: check client_id, and at the server "
    "that the client may use authorization codes",
    "unsupported_response_type": "the server does not offer the authorization code grant",
    "server_error": "the server failed: try again",
    "temporarily_unavailable": "the server is overloaded: try again later",
    "invalid_request": "the server did not accept the request: check scope, pkce, "
    "authorization_parameters and redirect_uri_parameter of the client; some servers want "
    "require_pushed_authorization_requests = true",
    "invalid_target": "the server does not know the resource asked for: check `resource`",
    "login_required": "the server wants a login it could not ask for: try again",
    "consent_required": "the server wants a consent it could not ask for: try again",
    "interaction_required": "the server wants a dialogue it could not start: try again",
    "redirect_uri_mismatch": "the redirect URI is not registered for this client: register it at "
    "the server, exactly as redirect_uris has it",
}
"""Error codes of RFC 6749 4.1.2.1 and OpenID Connect, and what they mean here."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_QUERY = re.compile(r"(?:^|[?&])(?:code|error|state)=")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """An authorization under way."""

    url: str = field(repr=False)
    """What the person opens. Whoever else reads its state can end this login with a consent of
    his own, so it is on no command line."""
    parameters: Mapping[str, str] = field(repr=False)
    """What it asks for, under the names of the standard."""
    awaited: AwaitedAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """What a redirect that answers a login brought."""

    code: Secret
    extras: Mapping[str, str] = field(default_factory=dict)
    names_issuer: bool
    """It carries ``iss``, and that was the right one."""


def begin(
    client: Client,
    *,
    redirect_uri: str,
    scope: tuple[str, ...],
    other_issuers: Collection[str] = (),
) -> AuthorizationRequest:
    """Build the authorization request (RFC 6749 4.1.1, PKCE S256 of RFC 7636).

    Args:
        other_issuers: of the servers of other clients.

    Raises:
        AuthorizationFailed: the client has no authorization endpoint.
    """
    if client.endpoints.authorization is None:
        raise AuthorizationFailed(
            f"client {client.name} has no authorization_endpoint in the settings"
        )
    state = secrets.token_urlsafe(24)
    parameters = {
        **client.quirks.authorization_parameters,
        "response_type": "code",
        "client_id": client.client_id,
        client.quirks.redirect_uri_parameter: redirect_uri,
        "state": state,
    }
    if client.resource is not None:
        parameters["resource"] = client.resource
    if scope:
        parameters["scope"] = client.quirks.scope_separator.join(scope)
    verifier = secrets.token_urlsafe(48) if client.quirks.pkce else None
    if verifier is not None:
        parameters |= {"code_challenge": challenge(verifier), "code_challenge_method": "S256"}
    return AuthorizationRequest(
        url=authorization_url(client, parameters),
        parameters=parameters,
        awaited=AwaitedAnswer(
            state=Secret(state),
            redirect_uri=redirect_uri,
            code_verifier=None if verifier is None else Secret(verifier),
            issuer=client.endpoints.issuer,
            promises_issuer=client.endpoints.promises_issuer,
            other_issuers=tuple(other_issuers),
            code_parameter=client.quirks.code_parameter,
            extras=tuple(client.quirks.callback_extras),
        ),
    )


def authorization_url(client: Client, parameters: Mapping[str, str]) -> str:
    """Where the browser goes with PARAMETERS of CLIENT, which has an authorization endpoint."""
    endpoint, names = client.endpoints.authorization, client.quirks.parameter_names
    assert endpoint is not None
    named = {names.get(name, name): value for name, value in parameters.items()}
    query = urlencode(named, quote_via=quote)  # %20 is a blank everywhere, + is not
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"


def challenge(verifier: str) -> str:
    """The S256 code challenge of VERIFIER (RFC 7636 4.2)."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def read_callback(awaited: AwaitedAnswer, pasted: str) -> Callback:
    """The code in PASTED: the redirected URL, its query alone, or the bare code.

    The state is compared before anything else is believed, an error included, then ``iss``
    (RFC 9207 2.4). A bare code carries neither; whoever pastes it vouches for where it came
    from.

    Raises:
        NotThisAnswer: of another login or redirect URI, or no answer at all.
        AuthorizationFailed: refused, or of another server.
    """
    text = pasted.strip()
    if _URL.match(text):
        _refuse_other_redirect(awaited, text)
        query = _split(text).query
    elif _QUERY.search(text) or f"{awaited.code_parameter}=" in text:
        query = (text.partition("?")[2] or text).partition("#")[0]
    else:
        return Callback(code=_bare_code(text), names_issuer=False)
    if not is_answer(query, awaited.state):
        raise NotThisAnswer(
            "the state is not the one this login sent: that address belongs to another login, or "
            "somebody tampers with it"
        )
    found = parse_qs(query)
    issuers = found.get("iss", [])
    _refuse_other_issuer(awaited, issuers)
    if "error" in found:
        raise AuthorizationFailed(_explained(found["error"][0]))
    code = _only(found, awaited.code_parameter)
    if code is None:
        raise AuthorizationFailed("the redirected URL carries no code: start the login again")
    extras = {name: found[name][0] for name in awaited.extras if name in found}
    return Callback(code=Secret(code), extras=extras, names_issuer=bool(issuers))


def state_in(query: str) -> Secret | None:
    """The one state that QUERY carries, which anybody can bring; None where it has not one."""
    found = parse_qs(query, keep_blank_values=True).get("state", [])
    return Secret(found[0]) if len(found) == 1 else None


def is_answer(query: str, state: Secret) -> bool:
    """Whether QUERY carries the STATE of a login, and no other."""
    found = state_in(query)
    return found is not None and hmac.compare_digest(
        found.reveal().encode(errors="replace"), state.reveal().encode()
    )


def is_registered(redirect_uri: str, registered: Sequence[str]) -> bool:
    """Whether REDIRECT_URI is one of REGISTERED.

    A loopback one that was registered without a port has any (RFC 8252 7.3).
    """
    return redirect_uri in registered or any(
        is_loopback(uri) and _without_port(uri)[1] in {None, 0}
        and _without_port(uri)[0] == _without_port(redirect_uri)[0]
        for uri in registered
    )  # fmt: skip


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
        raise NotThisAnswer("that is neither a redirected URL nor a code")
    return Secret(unquote(text))


def _refuse_other_redirect(awaited: AwaitedAnswer, url: str) -> None:
    """Tell a wrong copy, such as the address of the consent page, from a redirect.

    Some providers take a name for the redirect URI (eBay), which is compared with nothing.
    """
    if not _URL.match(awaited.redirect_uri):
        return
    if _place(_split(url)) != _place(_split(awaited.redirect_uri)):
        raise NotThisAnswer(
            f"that URL does not begin with the redirect URI {awaited.redirect_uri}: copy the "
            "address the browser shows after the consent"
        )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # is read, and can fail, late
    except ValueError:
        raise NotThisAnswer("that is not a URL: copy the whole address") from None
    return parts


def _refuse_other_issuer(awaited: AwaitedAnswer, found: Sequence[str]) -> None:
    """Refuse an answer that names another server than the one that was asked (RFC 9207 2.4)."""
    if awaited.issuer is None:
        is_other = any(issuer in awaited.other_issuers for issuer in found)
        told = "the issuer of another client"
    else:
        is_other = any(issuer != awaited.issuer for issuer in found)
        told = f"another issuer than {awaited.issuer}"
    if is_other:
        raise AuthorizationFailed(
            f"the answer names {told} (iss): the server that was asked passes this login on to "
            "another one, to get its code, or `issuer` of the client is wrong"
        )


def _only(found: Mapping[str, Sequence[str]], name: str) -> str | None:
    """The value of the parameter NAME, which must not come twice (RFC 6749 3.1)."""
    values = found.get(name, ())
    if len(values) > 1:
        raise AuthorizationFailed(
            f"the redirected URL carries more than one {name}: start the login again"
        )
    return values[0] if values else None


def _without_port(uri: str) -> tuple[str, int | None]:
    parts = _split(uri)
    return parts._replace(netloc=parts.netloc.removesuffix(f":{parts.port}")).geturl(), parts.port


def _place(parts: SplitResult) -> tuple[str, str | None, int | None, str]:
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


def _explained(error: str) -> str:
    """What ERROR means; a code nobody knows is not repeated, for it may be anything."""
    meaning = KNOWN_ERRORS.get(error)
    if meaning is None:
        return "the server refused the authorization with an error of its own"
    return f"{meaning} ({error})"
