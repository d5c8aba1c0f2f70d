"""Grants: one account's authorization for one client, or one static token."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from refresher.domain.fields import Trait, fields_with
from refresher.domain.renewal import NO_TERMS, Renewal, Terms
from refresher.domain.secret import Secret

_INSTANTS = fields_with(Trait.INSTANT)

NAME_PATTERN = re.compile(r"[A-Za-z0-9._:@+-]{1,128}")
"""Names become parts of Redis keys and channels, ACL patterns and log fields."""

NAME_RULE = "1 to 128 of A-Z a-z 0-9 . _ : @ + -"

LABEL_PATTERN = re.compile(r"[a-z0-9_]+")
"""Keys of labels become field names in Redis, in languages that map them to attributes."""

LABEL_RULE = "a-z 0-9 _ only"


def is_valid_label(key: str) -> bool:
    """Whether KEY may be the key of a label."""
    return LABEL_PATTERN.fullmatch(key) is not None


def is_valid_name(name: str) -> bool:
    """Whether NAME may name a grant or a client."""
    return NAME_PATTERN.fullmatch(name) is not None


class GrantKind(StrEnum):
    """What keeps the grant's token current."""

    REFRESHABLE = "refreshable"
    """The refresh_token grant of RFC 6749 6."""
    STATIC = "static"
    """A person: the token was made in a provider's user interface and is never refreshed."""
    CLIENT = "client"
    """The client alone: the client_credentials grant of RFC 6749 4.4."""
    ASSERTION = "assertion"
    """What the client signs: the JWT bearer grant of RFC 7523 2.1."""
    EXCHANGE = "exchange"
    """The current token of another grant: the token exchange of RFC 8693."""

    @property
    def renews_itself(self) -> bool:
        """Whether the settings hold all it needs: no person authorizes, and nothing is spent."""
        return not (self is GrantKind.REFRESHABLE or self is GrantKind.STATIC)


class GrantState(StrEnum):
    """What a consumer or an operator needs to know first about a grant."""

    PENDING = "pending"
    """No token has ever come; a login or an import is awaited."""
    FRESH = "fresh"
    """The published token is valid and nothing needs attention."""
    DEGRADED = "degraded"
    """The published token is valid, but its refresh fails and its end is near."""
    EXPIRED = "expired"
    """No valid token; the daemon goes on trying."""
    REAUTHORIZATION_REQUIRED = "reauthorization_required"
    """No refresh can help: a person must authorize again."""
    PAUSED = "paused"
    """Nothing is sent: the daemon waits for an operator's decision, or he has ordered it."""
    REMOVED = "removed"
    """The grant is gone; only its status says so."""


class Fault(StrEnum):
    """Whose the last failure of a grant was: it decides who waits for what (guarantee G8)."""

    GRANT = "grant"
    """Its own: others of the client are served."""
    CLIENT = "client"
    """The client's, or its configuration's: no grant of it can help that."""
    ENDPOINT = "endpoint"
    """The server's or the network's: over as soon as the endpoint answers again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """The durable mark that an exchange is about to be sent, or may have been.

    It exists from the claim until an answer is adopted, the refresh token is finally
    rejected, or every attempt is known not to have been processed.
    """

    sequence: int
    """Attempt sequence number of the latest attempt."""
    presented: bytes
    """Fingerprint of the refresh token it presents."""
    first_sent_at: float
    """When the first unresolved attempt was about to be sent."""
    attempts: int
    """Attempts, the latest included, not known to have been left unprocessed."""

    @property
    def is_replay(self) -> bool:
        """Whether an earlier attempt may have been processed by the server."""
        return self.attempts > 1

    @property
    def without_one(self) -> "Intent | None":
        """The intent once one of its attempts is accounted for; None when that was the last."""
        return None if self.attempts <= 1 else replace(self, attempts=self.attempts - 1)


class Answer(StrEnum):
    """What became of a consumer's word that the access token was rejected."""

    ACCEPTED = "accepted"
    """It is refreshed now."""
    DEFERRED = "deferred"
    """It is refreshed when the interval between two such requests has passed."""
    PAUSED = "paused"
    """An operator decides first, or has ordered that nothing be sent."""
    EXCHANGE_OPEN = "exchange_open"
    """Its refresh token is out, or nobody knows what became of it: its own rule goes on."""
    DOUBTED = "doubted"
    """Its refresh token is refused, and asked for again at a pace of its own."""
    BACKING_OFF = "backing_off"
    """Its refresh fails, and is tried again at a pace of its own."""
    PERSON_NEEDED = "reauthorization_required"
    """Nothing here can replace it."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """The last version that consumers rejected while it was current, and the answer."""

    version: int
    answer: Answer
    until: float | None
    """When the refresh is due, or the next attempt was when this was answered."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """One grant as the vault holds it, its tokens aside.

    No slots: ``of`` and ``but`` fill its fields at once. To set forty of them one by one, as a
    frozen dataclass does, takes a tenth of a refresh for each grant that is made.

    Invariants:
        I1: ``version`` only grows for a name, also across remove and re-add.
        I2: ``adopted_sequence <= attempt_sequence``.
        I3: a grant that needs a person has ``due_at`` None; that of one which an operator has
            paused is the end of the pause.
    """

    id: int
    uid: str
    """Random, never reused: the keys that seal the grant's secrets derive from it."""
    name: str
    kind: GrantKind
    client: str | None
    """Name of the client; None for a static token of no client."""
    origin: str
    """``settings`` or ``runtime``: who may remove it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    scope: tuple[str, ...] = ()
    """Scope asked for at login; empty means the client's."""
    terms: Terms = NO_TERMS
    """What else it asks for, where it renews itself."""

    state: GrantState = GrantState.PENDING
    reason: str | None = None
    since: float = 0.0
    revision: int = 0
    """Grows with every change of the published status."""

    authorization_serial: int = 0
    """Grows at login, import and changed seed: answers to older ones are void."""
    attempt_sequence: int = 0
    adopted_sequence: int = 0
    version: int = 0
    """Of the access token; 0 before the first."""

    refresh_token_fingerprint: bytes | None = None
    """Of what renews it: its refresh token, or what stands for one where it renews itself."""
    predecessor_fingerprint: bytes | None = None
    refresh_token_obtained_at: float | None = None
    refresh_token_expires_at: float | None = None
    authorized_at: float | None = None
    """When a person logged in; None for a seed."""
    end_warning_at: float | None = None
    """When a person is told next that the refresh token ends; None: never."""
    end_announced: int | None = None
    """How many days before its end a person was told last; None: not yet."""
    redirect_uri: str | None = None
    """The one of the login; some servers compare it with one sent at a refresh."""
    authorized_by: str | None = None
    """The account that logged in, as its server names it to people; None: nobody knows."""
    authorized_subject: str | None = None
    """The same for programs (``sub`` of OpenID Connect)."""

    issued_at: float | None = None
    expires_at: float | None = None
    """End of the access token; None when it has none (static) or there is no token."""

    due_at: float | None = None
    failures: int = 0
    """Exchanges in a row that brought no token."""
    failing_since: float | None = None
    """When the first of them ended."""
    fault: Fault | None = None
    """Whose the last of them was."""
    served_at: float | None = None
    """When the server last brought tokens, the login included; None: to this seed never."""
    refused_at: float | None = None
    """When the server first refused a refresh token that it had served; None: not doubted."""
    refusals: int = 0
    """Refusals of that refresh token, in a row."""
    refresh_window: float | None = None
    """Seconds before the end of its token from when on the server refreshes this grant, as
    refusals have taught; None where it never refused for being too early."""
    early_refusals: int = 0
    """Refusals for being too early, of the present access token."""
    on_probation: bool = False
    """Its refresh token was searched for, and not served yet: the predecessor is kept."""
    intent: Intent | None = None
    requested_at: float | None = None
    """When the last refresh that somebody asked for was due; a deferred one is in the future."""
    request_interval: float | None = None
    """Seconds from that to the next one; None: as short as the life of a token allows."""
    rejection: Rejection | None = None
    """Of the current version; a new one ends it."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Grant":
        """The grant that has FIELDS, which must be all of them."""
        made = object.__new__(cls)
        made.__dict__.update(fields)
        assert len(made.__dict__) == len(cls.__dataclass_fields__)
        return made

    def but(self, **changes: Any) -> "Grant":
        """This grant with CHANGES: what ``replace`` does, in a tenth of its time."""
        made = object.__new__(Grant)
        made.__dict__.update(self.__dict__, **changes)
        assert len(made.__dict__) == len(self.__dataclass_fields__)  # none of another name
        return made

    @property
    def is_asked_for(self) -> bool:
        """Whether it is due because somebody asked, and not because its time has come."""
        return self.requested_at is not None and self.due_at == self.requested_at

    @property
    def is_renewable(self) -> bool:
        """Whether the vault has what renews it; where not, a person must authorize."""
        return self.refresh_token_fingerprint is not None

    @property
    def lifetime(self) -> float | None:
        """Seconds the current access token lives from issue to end."""
        if self.issued_at is None or self.expires_at is None:
            return None
        return self.expires_at - self.issued_at

    def is_of_another_account(self, other: "Grant") -> bool:
        """Whether another account has authorized this grant than OTHER, as far as both tell."""
        if self.authorized_subject is not None and other.authorized_subject is not None:
            return self.authorized_subject != other.authorized_subject
        names = (self.authorized_by, other.authorized_by)
        return None not in names and names[0] != names[1]

    def moved(self, offset: float) -> "Grant":
        """With every instant OFFSET seconds later: the clock was set, no time has passed."""
        found = {name: getattr(self, name) for name in _INSTANTS}
        moved = {name: at + offset for name, at in found.items() if at is not None}
        intent = self.intent
        if intent is not None:
            intent = replace(intent, first_sent_at=intent.first_sent_at + offset)
        rejection = self.rejection
        if rejection is not None and rejection.until is not None:
            rejection = replace(rejection, until=rejection.until + offset)
        return replace(self, intent=intent, rejection=rejection, **moved)

    @property
    def reauthorized(self) -> "Grant":
        """Under its next authorization: older exchanges are void.

        Nothing that the last one has taught (failures, refusals, when its server refreshes)
        says anything about the next.
        """
        serial = self.authorization_serial + 1
        return self.but(authorization_serial=serial, intent=None, rejection=None, **_UNTAUGHT)

    @property
    def status_reason(self) -> str | None:
        """The reason without the server's error code behind the colon."""
        return self.reason.partition(":")[0] if self.reason else None

    @property
    def reason_detail(self) -> str:
        """What stands behind the colon of the reason; empty where nothing does."""
        return self.reason.partition(":")[2] if self.reason else ""


_UNTAUGHT: Mapping[str, Any] = {
    known.name: known.default for known in fields(Grant) if known.name in fields_with(Trait.TAUGHT)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A grant leased to this daemon with its intent written: exactly one exchange may follow."""

    grant: Grant
    renewal: Renewal
    """What its exchange presents."""
    access_token: Secret | None
    """The one published now; an equal one in the answer means no progress."""
    extras: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Published beside it; what an answer leaves out stays."""
    granted_scope: str = ""
    """Of the access token published now, space-separated; empty where the server never said."""
    token_type: str = "Bearer"
    """Of the same access token."""
    witness_at: float | None = None
    """Of a doubted grant: when another grant of its client was last served."""
    is_of_copy: bool = False
    """The vault is a restored copy, and the refresh token is as old as that."""
    set_back: float = 0.0
    """What the wall clock had been set back by when it was made, in seconds since the vault
    was opened: its instants, and those judged by them, are of that clock."""

    seen: int = -1
    """How much the vault had been disturbed when it was made (``Vault.is_held``)."""
    taken_at: float = 0.0
    """When its lease was taken."""

    @property
    def intent(self) -> Intent:
        """The intent the claim wrote."""
        assert self.grant.intent is not None
        return self.grant.intent

    def on_clock(self, set_back: float) -> "Claim":
        """With every instant as the vault has it, the clock having been SET_BACK by now."""
        offset = set_back - self.set_back
        if offset == 0:
            return self
        witness_at = None if self.witness_at is None else self.witness_at + offset
        grant = self.grant.moved(offset)
        taken_at = self.taken_at + offset
        return replace(
            self, grant=grant, witness_at=witness_at, set_back=set_back, taken_at=taken_at
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSet:
    """What one answer puts into the vault."""

    access_token: Secret | None
    """None keeps the stored one: only a refresh token came."""
    refresh_token: Secret | None
    """None keeps the stored one: the server did not rotate."""
    token_type: str = "Bearer"
    scope: str | None = None
    issued_at: float | None = None
    expires_at: float | None = None
    refresh_token_expires_at: float | None = None
    extras: Mapping[str, str] = field(default_factory=dict)
    on_probation: bool = False
    """The refresh token was searched for: its predecessor is kept until it was served."""

    def moved(self, offset: float) -> "TokenSet":
        """With every instant OFFSET seconds later."""
        found = {name: getattr(self, name) for name in _ENDS}
        return replace(self, **{name: at + offset for name, at in found.items() if at is not None})


_ENDS = ("issued_at", "expires_at", "refresh_token_expires_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Everything about one grant that goes to Redis, read from the vault in one piece."""

    grant: Grant
    access_token: Secret | None
    token_type: str = "Bearer"
    scope: str = ""
    extras: Mapping[str, str] = field(default_factory=dict)
