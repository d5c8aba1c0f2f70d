"""What renews a grant: what an exchange presents to the token endpoint.

Each says what it ``presents`` of what the vault holds, None where that is nothing. A closed
union: every ``match`` over a renewal ends in ``assert_never``.
"""

from dataclasses import dataclass
from enum import StrEnum

from refresher.domain.secret import Secret


class SubjectTokenType(StrEnum):
    """Which token of its subject a grant exchanges (RFC 8693 3)."""

    ACCESS_TOKEN = "access_token"
    REFRESH_TOKEN = "refresh_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a grant that renews itself asks for, beside its scope."""

    subject: str | None = None
    """Of token_exchange the grant whose token is exchanged; else for whom the client asks."""
    subject_token: SubjectTokenType = SubjectTokenType.ACCESS_TOKEN
    audience: tuple[str, ...] = ()
    """Whom the access token is for, as its server calls them."""
    resource: tuple[str, ...] = ()
    """The same as URIs (RFC 8707)."""


NO_TERMS = Terms()


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """The refresh_token grant (RFC 6749 6), whose token many servers take once."""

    presents: Secret
    """What proves the authorization; its fingerprint is in the intent."""
    is_first: bool = False
    """Whether it is of the login itself: no refresh was answered since."""


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """The client_credentials grant (RFC 6749 4.4): the client itself is the proof."""

    terms: Terms
    presents: None = None


@dataclass(frozen=True, slots=True)
class Assertion:
    """The JWT bearer grant (RFC 7523 2.1): an assertion signed for this one exchange."""

    terms: Terms
    presents: None = None


@dataclass(frozen=True, slots=True)
class SubjectToken:
    """The token exchange grant (RFC 8693): the token that another grant has now."""

    presents: Secret | None
    """None where that has none which lives."""
    terms: Terms


Renewal = RefreshToken | ClientCredentials | Assertion | SubjectToken

FORGOTTEN = RefreshToken(Secret(""))
"""Of an exchange that is over: what it presented is kept as a fingerprint alone. Never sent."""
