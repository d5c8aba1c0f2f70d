"""Quirks: how an authorization server differs from what the RFCs say, as data.

A quirk is added here and where it acts. Its name, type, default and meaning are the key of
a client in the settings, the key of a provider in the catalogue and the settings' table.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import StrEnum
from functools import cache
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

Words = Annotated[tuple[str, ...], "words"]
Phrases = Annotated[tuple[str, ...], "phrases"]
"""In lower case: case is not compared."""
Seconds = Annotated[float, "seconds"]
"""More than none."""
Pause = Annotated[float, "pause"]
"""Seconds, or none."""
Count = Annotated[int, "count"]
Rate = Annotated[float, "rate"]
"""Of a second."""


class ClientAuthentication(StrEnum):
    """How the client proves itself at the token endpoint (RFC 6749 2.3.1, RFC 7591 2)."""

    BASIC = "client_secret_basic"
    POST = "client_secret_post"
    PRIVATE_KEY_JWT = "private_key_jwt"
    """RFC 7523 2.2."""
    TLS = "tls_client_auth"
    SELF_SIGNED_TLS = "self_signed_tls_client_auth"
    """Both RFC 8705 2: the server tells them apart, for us the certificate is what counts."""
    NONE = "none"

    @property
    def has_secret(self) -> bool:
        """Whether a client secret is sent."""
        return self in {ClientAuthentication.BASIC, ClientAuthentication.POST}

    @property
    def has_certificate(self) -> bool:
        """Whether a client certificate is shown."""
        return self in {ClientAuthentication.TLS, ClientAuthentication.SELF_SIGNED_TLS}


class AssertionAlgorithm(StrEnum):
    """What a client assertion is signed with (RFC 7518 3.1, RFC 8037 3.1)."""

    RS256 = "RS256"
    PS256 = "PS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


class AssertionAudience(StrEnum):
    """Whom a client assertion is for (RFC 7523 3)."""

    ENDPOINT = "endpoint"
    ISSUER = "issuer"


class AssertionPlacement(StrEnum):
    """Where the assertion of a JWT bearer grant goes."""

    PARAMETER = "parameter"
    """RFC 7523 2.1."""
    BEARER = "bearer"


class Placement(StrEnum):
    """Where the parameters of a token request go.

    ``QUERY`` and ``GET`` put them in the URL, against RFC 6749 3.2, because some providers
    document it; such a URL never reaches a log or an exception.
    """

    FORM = "form"
    JSON = "json"
    QUERY = "query"
    GET = "get"


class LifetimeUnit(StrEnum):
    """What a server's ``expires_in`` counts; RFC 6749 5.1 says seconds."""

    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"

    @property
    def seconds(self) -> float:
        """Seconds in one of them."""
        return 0.001 if self is LifetimeUnit.MILLISECONDS else 1.0


class RotationProfile(StrEnum):
    """What the authorization server does with a refresh token that was just used."""

    NONE = "none"
    """It stays valid: a retry is free."""
    GRACE = "grace"
    """It is accepted again for a number of seconds."""
    UNTIL_USED = "until_used"
    """It is accepted until its successor is first used."""
    STRICT = "strict"
    """It is dead at once, and its reuse may revoke the whole grant."""
    UNKNOWN = "unknown"
    """Nobody knows: treated as strict."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """A rotation profile and, for ``grace`` alone, its window in seconds."""

    profile: RotationProfile
    grace: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Rotation":
        """Read ``none``, ``grace(30)``, ``until_used``, ``strict`` or ``unknown``.

        Raises:
            ValueError: for anything else.
        """
        if match := re.fullmatch(r"grace\((\d+(?:\.\d+)?)\)", text):
            return cls(RotationProfile.GRACE, float(match[1]))
        if text in {profile.value for profile in RotationProfile} - {"grace"}:
            return cls(RotationProfile(text))
        raise ValueError(
            f"{text!r} is not a rotation profile: use none, grace(SECONDS), until_used, "
            "strict or unknown"
        )

    def __str__(self) -> str:
        if self.profile is RotationProfile.GRACE:
            return f"grace({self.grace:g})"
        return self.profile.value


def key(default: T, description: str) -> T:
    """A field that is a key of the settings, with what its table says of it."""
    kept: T
    if isinstance(default, Mapping):
        kept = field(default_factory=dict, metadata={"description": description})  # type: ignore[assignment]  # dataclasses type a field as its value
    else:
        kept = field(default=default, metadata={"description": description})
    return kept


class Key(NamedTuple):
    """One key of a client, as its dataclass has it."""

    name: str
    type: Any
    """Without the None of one that may be absent."""
    default: Any
    description: str


@cache
def keys(of: type) -> tuple[Key, ...]:
    """The keys of a dataclass made with ``key``."""
    return tuple(_keys(of))


def _keys(of: type) -> Iterator[Key]:
    hints = get_type_hints(of, include_extras=True)
    for each in fields(of):
        default = {} if each.default is MISSING else each.default
        yield Key(each.name, _without_none(hints[each.name]), default, each.metadata["description"])


def _without_none(hint: Any) -> Any:
    if get_origin(hint) not in {Union, UnionType}:
        return hint
    (inner,) = (each for each in get_args(hint) if each is not type(None))
    return inner


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """What one authorization server does and wants."""

    client_authentication: ClientAuthentication = key(
        ClientAuthentication.BASIC,
        "How the client proves itself: its secret in an HTTP Basic header or as parameters, an "
        "assertion it signs, a certificate of its own, or not at all (a public client). No other "
        "way is ever tried.",
    )
    assertion_algorithm: AssertionAlgorithm = key(
        AssertionAlgorithm.RS256,
        "What assertions of private_key_jwt, and of grants of jwt_bearer, are signed with.",
    )
    assertion_audience: AssertionAudience = key(
        AssertionAudience.ENDPOINT,
        "Whom assertions are for: the URL of the token endpoint, or the issuer.",
    )
    assertion_claims: Mapping[str, str] = key(
        {},
        "More claims of what jwt_bearer presents, never secrets, or the standard's with another "
        'value, such as aud; one that is "" is left out.',
    )
    assertion_placement: AssertionPlacement = key(
        AssertionPlacement.PARAMETER,
        "Where that goes: in the parameter assertion, or alone as a bearer token in the "
        "Authorization header, as GitHub Apps have it.",
    )
    encode_basic: bool = key(
        default=True,
        description="Form-encode id and secret inside HTTP Basic (RFC 6749 2.3.1); some servers "
        "fail to decode them.",
    )
    authorization_parameters: Mapping[str, str] = key(
        {}, 'More parameters of authorization requests, such as access_type = "offline".'
    )
    token_parameters: Mapping[str, str] = key(
        {}, "More parameters of every token request, such as audience; never secrets."
    )
    refresh_parameters: Mapping[str, str] = key({}, "The same of refreshes alone.")
    code_parameters: Mapping[str, str] = key(
        {}, "The same of the request alone that redeems the code of a login."
    )
    token_headers: Mapping[str, str] = key(
        {}, "More headers of every token request, such as Notion-Version; never secrets."
    )
    refresh_headers: Mapping[str, str] = key({}, "The same of refreshes alone.")
    code_headers: Mapping[str, str] = key(
        {}, "The same of the request alone that redeems the code of a login."
    )
    parameter_names: Mapping[str, str] = key(
        {},
        "What the server calls a parameter of the standard in authorization and token requests, "
        'as in { client_id = "client_key" }.',
    )
    code_parameter: str = key(
        "code", "Name of the code in the redirect of a login, where not the standard one."
    )
    placement: Placement = key(
        Placement.FORM,
        "Where token request parameters go: in the body, as a form or as JSON, or in the URL, of a "
        "POST (query) or of a GET (get). URLs with secrets are logged by proxies: only where the "
        "provider documents it.",
    )
    refresh_placement: Placement | None = key(
        None, "The same for refreshes, where they go another way. None: as placement."
    )
    scope_separator: str = key(" ", "What separates scope values in requests, where not a space.")
    redirect_uri_parameter: str = key(
        "redirect_uri", "Name of the redirect URI parameter, where not the standard one."
    )
    send_scope_on_refresh: bool = key(
        default=False,
        description="Send the scope with every refresh. Off: at several servers it narrows the "
        "grant for ever.",
    )
    send_resource_on_refresh: bool = key(
        default=True,
        description="Send resource (RFC 8707) with every refresh, where it is set; some servers "
        "take it at login alone.",
    )
    send_redirect_uri_on_refresh: bool = key(
        default=False,
        description="Send the redirect URI with every refresh, for servers that ask for it.",
    )
    refresh_grant_type: str = key(
        "refresh_token", "What the server calls the grant type of a refresh, as fb_exchange_token."
    )
    authenticate_refresh: bool = key(
        default=True,
        description="Whether the client proves itself with a refresh. Off: what renews the grant "
        "is sent alone, without the client's id.",
    )
    renews_with_access_token: bool = key(
        default=False,
        description="What renews a grant is its access token, as long as that lives: the server "
        "knows no refresh tokens. Where refresher says refresh token, it means that one.",
    )
    exchange_grant_type: str = key(
        "",
        "Grant type by which the short-lived access token of a login is exchanged, at once, for "
        "the first that renews itself, as ig_exchange_token. It goes to the exchange_endpoint.",
    )
    pkce: bool = key(default=True, description="Protect logins with PKCE (RFC 7636, S256).")
    require_pushed_authorization_requests: bool = key(
        default=False,
        description="Send what a login asks for to the server first (RFC 9126), so that the "
        "browser carries a reference alone. On by itself where the metadata demand it.",
    )
    answer_path: str = key(
        "",
        "Where the tokens are in an answer that nests them, as names with dots between them, such "
        "as authed_user. An answer without that object is read as the standard has it.",
    )
    answer_names: Mapping[str, str] = key(
        {},
        "What the server calls a field of the standard's answer, as in "
        '{ access_token = "token", expires_in = "validUntil" }.',
    )
    extras: Words = key(
        (),
        "Fields of the token response published with the token, such as instance_url; dots lead "
        "into objects (team.id). At most 2048 characters each, and never a secret.",
    )
    callback_extras: Words = key(
        (),
        "Parameters of the redirect of a login published with the token, such as realmId.",
    )
    error_field: str = key(
        "",
        "Where an answer of status 200 says that it failed, as names with dots between them, such "
        "as status or error.code.",
    )
    success_codes: Words = key((), "What error_field holds when nothing failed, such as 0.")
    rejection_codes: Words = key(
        (), "Error codes of the server that mean invalid_grant: the grant is lost."
    )
    transient_codes: Words = key((), "Error codes of the server that mean: try again later.")
    in_progress_codes: Words = key(
        (), "Error codes of the server that mean: a request with this refresh token is at work."
    )
    rejection_descriptions: Phrases = key(
        (),
        "Parts of the server's error descriptions that mean: a person must act. Compared without "
        "regard to case, whatever the error code says.",
    )
    transient_descriptions: Phrases = key(
        (), "Parts of the server's error descriptions that mean: try again later."
    )
    in_progress_descriptions: Phrases = key(
        (), "Parts of the server's error descriptions that mean: a request is at work already."
    )
    rotation: Rotation = key(
        Rotation(RotationProfile.UNKNOWN),
        "What a refresh does to the refresh token it used: none (stays valid), grace(SECONDS) "
        "(accepted again that long), until_used (until its successor is used), strict (dead at "
        "once), unknown (as strict). Decides what is safe after a lost answer.",
    )
    expires_in_unit: LifetimeUnit = key(
        LifetimeUnit.SECONDS,
        "What expires_in and every other lifetime in an answer counts, where a server does not "
        "mean seconds.",
    )
    default_expires_in: Seconds | None = key(
        None,
        "Seconds an access token lives whose answer does not tell. None: one hour, with a warning.",
    )
    no_expiry: bool = key(
        default=False,
        description="An access token whose answer tells no end has none: it is published until a "
        "consumer rejects it, and refreshed then.",
    )
    refresh_token_idle: Seconds | None = key(
        None,
        "Seconds after which an unused refresh token dies; it is used before half of them have "
        "passed.",
    )
    refresh_token_absolute: Seconds | None = key(
        None,
        "Seconds that refresh tokens live from the login on, however often they are used. A "
        "person is told 14, 7 and 1 days before.",
    )
    response_timeout: Seconds = key(
        30.0,
        "Seconds to wait for an answer once the request has left. Raise it for a slow token "
        "endpoint: an answer that nobody waits for may hold the only valid refresh token.",
    )
    refresh_window: Seconds | None = key(
        None,
        "Seconds before its end from when on the server refreshes an access token, where it "
        "refuses earlier.",
    )
