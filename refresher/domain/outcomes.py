"""What can become of one exchange: a closed union, each case with one meaning.

``refresher.oauth.responses`` maps every transport fault, status, body and error code to
one of these; ``refresher.domain.transition`` says what each does to the grant. Every
``match`` over an outcome ends in ``assert_never``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from refresher.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceOwner:
    """The account that authorized, as its server names it."""

    name: str
    """For people."""
    subject: str | None
    """Never given to another account of the same server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """A token response (RFC 6749 5.1) read as tolerantly as can be.

    A refresh token is here whenever a non-empty one came, however bad the rest was.
    """

    access_token: Secret | None
    refresh_token: Secret | None
    token_type: str = "Bearer"
    expires_in: float | None = None
    """Seconds from the sending to the end that the answer tells; None when it tells none
    that can be believed."""
    ends_in: float | None = None
    """Seconds from the sending to the end that it tells as an instant: that end is true even
    where the answer is the echo of an older one."""
    since_issue: float | None = None
    """Seconds from the issue that the access token itself tells (a JWT's ``iat``) to the
    sending."""
    refresh_in: float | None = None
    """Seconds after which the server asks for a refresh."""
    refresh_token_expires_in: float | None = None
    scope: str | None = None
    """Space-separated; None when the server did not say."""
    extras: Mapping[str, str] = field(default_factory=dict)
    resource_owner: ResourceOwner | None = field(default=None, repr=False)
    """Where an ID token came along."""
    warnings: tuple[str, ...] = ()
    """What was odd about the answer, in words without any of its content."""
    is_searched: bool = False
    """The standard place held no token, or the HTTP library refused the answer: a second,
    lenient reader found these; or the refresh token looks like a word for none. They are on
    probation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """A usable access token came back."""

    answer: TokenAnswer
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshTokenOnly:
    """A refresh token came back without a usable access token: kept, and asked again."""

    answer: TokenAnswer
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """The request certainly never left: name resolution, connection, TLS, proxy."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectMissing:
    """Nothing was sent: the grant whose token is exchanged has none that lives (RFC 8693)."""

    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transient:
    """The server answered that it did not do it now (429, ``temporarily_unavailable``)."""

    reason: str
    status: int
    retry_after: float | None = None
    is_own_word: bool = True
    """Whether the token endpoint itself said so. A 4xx without an OAuth error may be a
    gateway's, and what stands behind it may have spent the refresh token."""


SECRET_REPLACED = "client_secret_replaced"
"""Reason of a ``Transient``: the client was refused, and its secret on disk is another by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TooEarly:
    """The server refreshes only in the last part of an access token's life."""

    error: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeUnknown:
    """The request left and nobody knows whether the refresh token was spent.

    A dropped connection, a time-out, a 5xx, a 2xx that could not be read.
    """

    reason: str
    status: int | None = None
    retry_after: float | None = None
    body: bytes | None = field(default=None, repr=False)
    """What came and was not understood; sealed and kept, never shown."""
    may_hold_tokens: bool = False
    """A 2xx that came whole, and that is undecodable or speaks of a token: the successor of
    the refresh token may be in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerUnread:
    """An answer came, and a bug of ours kept it from being understood.

    It may hold the only good refresh token, so it is sealed and kept, and nothing is sent
    until a person asks for it or a mended version has read it.
    """

    status: int
    body: bytes = field(repr=False)
    bug: Exception = field(repr=False)
    """Its text may quote the answer."""

    @property
    def may_hold_tokens(self) -> bool:
        """Whether its status is that of a token response."""
        return 200 <= self.status < 300  # noqa: PLR2004  the class of status codes


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRejected:
    """``invalid_grant`` or a vendor's word for it (RFC 6749 5.2)."""

    error: str
    status: int
    needs_person: bool = False
    """The server said in so many words that a person must act: nothing is to be doubted."""
    is_explained: bool = False
    """It said in prose that the refresh token itself is dead: no missing proof is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRejected:
    """``invalid_client``, ``unauthorized_client``: the client's fault, never the grant's."""

    error: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRejected:
    """``invalid_request``: permanent at most servers, a passing conflict at some (Hydra)."""

    error: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Misconfigured:
    """The configuration is wrong: ``invalid_scope``, a redirect from the token endpoint."""

    error: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofDemanded:
    """The server wants a DPoP proof (RFC 9449), which is not made here: nothing of the grant's.

    Some servers say ``invalid_grant`` for it, of a refresh token that is as good as before.
    """

    error: str
    status: int


Outcome = (
    Refreshed
    | RefreshTokenOnly
    | NotSent
    | SubjectMissing
    | Transient
    | TooEarly
    | OutcomeUnknown
    | AnswerUnread
    | GrantRejected
    | ClientRejected
    | RequestRejected
    | Misconfigured
    | ProofDemanded
)
