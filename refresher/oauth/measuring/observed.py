"""What is seen of a server while it is measured, and how it is asked."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from refresher.domain.secret import Secret
from refresher.oauth.revocation import RevocationResult


class Verdict(StrEnum):
    """What a server made of a refresh token."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    EARLY = "early"
    """It refreshes only in the last part of an access token's life."""
    UNCLEAR = "unclear"
    """It failed, or did not answer: the refresh token may be spent or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a login or a refresh brought."""

    access: Secret | None
    refresh: Secret | None
    expires_in: float | None = None
    refresh_expires_in: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a server refused, fit to be shown: it holds nothing that was sent."""

    status: int | None
    body: str
    """JSON of the fields that tell an error, or empty."""
    error: str
    """The error in a word."""
    means_dead: bool
    """The client's settings as they are take it for the end of a grant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of presenting a refresh token; times in seconds that only grow."""

    verdict: Verdict
    sent_at: float
    answered_at: float
    tokens: Tokens | None = None
    """Of one that was accepted."""
    said: Said | None = None
    """Of one that was not."""


@dataclass(slots=True, kw_only=True)
class Throwaway:
    """A grant that was made to be measured with; no consumer ever sees a token of it."""

    number: int
    """Of its login, from 1."""
    first: Tokens
    renewed_at: float = 0.0
    """When its newest tokens came."""
    newest: Tokens = field(init=False)
    is_dead: bool = False
    """The server refuses its newest refresh token, or has revoked it."""

    def __post_init__(self) -> None:
        self.newest = self.first


class Phase(StrEnum):
    """When a used refresh token was presented again."""

    AT_ONCE = "at once"
    AGAIN = "a second time"
    AFTER_ACCESS_TOKEN_USED = "after the new access token was used"
    AFTER_SUCCESSOR_USED = "after its successor was used"
    WAITING = "later"
    ALONE = "later, for the first time"


class Brings(StrEnum):
    """What the answer to a replay brings, beside the answer before it."""

    SAME_PAIR = "the same pair"
    SAME_REFRESH_TOKEN = "the same refresh token with a new access token"
    ANOTHER_PAIR = "another pair"
    SIBLING = "a sibling: both new refresh tokens work"
    SUCCESSOR = "a successor: the new refresh token before it stops working"


def compared(before: Tokens, after: Tokens) -> Brings:
    """What AFTER, the answer to a replay, has of BEFORE, the answer to the refresh."""
    if before.refresh != after.refresh:
        return Brings.ANOTHER_PAIR
    return Brings.SAME_PAIR if before.access == after.access else Brings.SAME_REFRESH_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A used refresh token that was presented again."""

    phase: Phase
    answer: Answer
    least_age: float
    """Seconds since it was used, at least: from the answer to the sending."""
    most_age: float
    """At most: from the sending to the answer."""


@dataclass(slots=True, kw_only=True)
class Revoked:
    """What came of revoking one token."""

    result: RevocationResult
    ended_it: bool | None = None
    """Whether the token itself stopped working."""
    ended_other: bool | None = None
    """Whether the other token of the pair stopped working."""


@dataclass(slots=True, kw_only=True)
class Evidence:
    """Everything that was seen; None where something was not tried or cannot be told."""

    grants: list[Throwaway] = field(default_factory=list)
    early: list[Answer] = field(default_factory=list)
    """Refusals of the first refresh for being early."""
    window: float | None = None
    """Seconds before the access token's end at which a refresh was accepted after those."""
    refreshed: Answer | None = None
    """The first refresh that was answered."""
    access_token_lives: bool | None = None
    """The one before that refresh, after it."""
    replays: list[Replay] = field(default_factory=list)
    brings: Brings | None = None
    counted: int | None = None
    """Replays after which it was refused however young it was."""
    rotates_late: bool | None = None
    """Whether another refresh token comes once the access token has ended, and not before it."""
    reuse_kills: bool | None = None
    access_token_outlives_reuse: bool | None = None
    revoked_access: Revoked | None = None
    revoked_refresh: Revoked | None = None
    dead: list[tuple[str, Said]] = field(default_factory=list)
    """Why a refresh token was dead, and how the server said so."""
    remarks: list[str] = field(default_factory=list)

    def of(self, *phases: Phase) -> list[Replay]:
        """The replays of PHASES, in order."""
        return [replay for replay in self.replays if replay.phase in phases]


class Server(Protocol):
    """A server as it is measured; nothing is sent again that it may have acted on."""

    def now(self) -> float:
        """Seconds that only grow."""

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""

    async def log_in(self, purpose: str) -> Tokens:
        """Let a person make a new grant.

        Raises:
            AuthorizationFailed: it came to nothing.
        """

    async def present(self, refresh_token: Secret) -> Answer:
        """Ask for a refresh."""

    async def lives(self, access_token: Secret) -> bool | None:
        """Whether ACCESS_TOKEN still works; None where nobody can tell."""

    async def use(self, access_token: Secret) -> bool:
        """Use ACCESS_TOKEN as a consumer does; False where nobody knows how."""

    @property
    def can_revoke(self) -> bool:
        """Whether there is a way to revoke a token."""

    async def revoke_access(self, access_token: Secret) -> RevocationResult:
        """Revoke ACCESS_TOKEN."""

    async def revoke_refresh(self, refresh_token: Secret) -> RevocationResult:
        """Revoke REFRESH_TOKEN."""
