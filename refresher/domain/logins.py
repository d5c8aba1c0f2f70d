"""Logins under way: what is awaited of a person, and who may take it up.

They live in the vault, so that any process can finish what another one began.
"""

from dataclasses import dataclass
from enum import StrEnum

from refresher.acting import DAEMON, Actor
from refresher.domain.clients import Client
from refresher.domain.secret import Secret


class Stage(StrEnum):
    """How far a login has come."""

    OPEN = "open"
    TAKEN = "taken"
    """Some process has taken its code to redeem it; nobody else ever does."""
    DONE = "done"
    """Its tokens are in the vault."""


@dataclass(frozen=True, slots=True)
class Consent:
    """How a person came to authorize a grant."""

    login: str | None = None
    """The id of the login that is done with its tokens."""
    redirect_uri: str | None = None
    """Of the login, for servers that want it again at a refresh."""


NO_LOGIN = Consent()


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedAnswer:
    """What the redirect that answers an authorization request must be, and what redeems its code.

    All of it is of the instant at which the server was asked: settings that change meanwhile
    change nothing of what a right answer is.
    """

    state: Secret
    redirect_uri: str
    code_verifier: Secret | None
    issuer: str | None = None
    """Of the server that was asked: what ``iss`` must be (RFC 9207)."""
    promises_issuer: bool | None = False
    """Whether that server names itself in every answer; None: its metadata could not be read."""
    other_issuers: tuple[str, ...] = ()
    """Of other servers: what ``iss`` must not be where the issuer is not known."""
    code_parameter: str = "code"
    extras: tuple[str, ...] = ()
    """Parameters of the redirect that are published with the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedConsent:
    """What is asked again and again until somebody has consented on another machine."""

    device_code: Secret
    interval: float
    """Seconds between two polls."""
    next_poll_at: float
    """Until then nobody asks: the interval has not passed, or some process is asking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """A login under way, or what is left of one until its end."""

    id: str
    """By what whoever began it asks for it."""
    name: str
    """Of the grant."""
    client: str
    begun_at: float
    ends_at: float
    stage: Stage = Stage.OPEN
    client_id: str = ""
    token_endpoint: str = ""
    by: Actor = DAEMON
    """Who asked for it."""
    awaited: AwaitedAnswer | AwaitedConsent | None = None
    """None once it is not open any more; the three above it are not known then."""

    def is_of(self, client: Client) -> bool:
        """Whether CLIENT is still what the login was begun with.

        A code goes to no other server than the one that was asked for it.
        """
        asked = (self.client_id, self.token_endpoint)
        return asked == (client.client_id, client.endpoints.token)
