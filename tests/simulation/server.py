"""The authorization server: the sandbox's pure rules, and the truth about each family.

Whether a grant may be lost is decided by what really happened here, not by what the
engine believes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from refresher.domain.clients import Client, Rotation, UnknownOutcome
from refresher.domain.outcomes import GrantRejected, Outcome, Refreshed, TokenAnswer
from refresher.domain.secret import Secret
from refresher.sandbox.answers import Refused
from refresher.sandbox.families import Families, Family, TokenPair, TokenPolicy
from refresher.sandbox.families import Rotation as ServerRotation
from tests.simulation.chance import Chance

GRACE = 30.0


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A client's settings, and how its server really behaves."""

    profile: str
    rotation: ServerRotation
    lifetime: float = 60.0
    on_unknown: UnknownOutcome = UnknownOutcome.REPLAY
    rotates: bool = True
    rate: float | None = None


KINDS = {
    "none": Kind(profile="none", rotation="none", rotates=False),
    "grace": Kind(profile=f"grace({GRACE:g})", rotation="grace"),
    "until_used": Kind(profile="until_used", rotation="until_used"),
    "strict": Kind(profile="strict", rotation="strict"),
    "unknown": Kind(profile="unknown", rotation="strict", lifetime=90.0),
    "deferred": Kind(profile="strict", rotation="strict", on_unknown=UnknownOutcome.DEFER),
    "kept": Kind(profile="strict", rotation="strict", lifetime=40.0, rotates=False, rate=2.0),
}
"""By client name; ``kept`` is a server that says it rotates and does not."""


def make_client(name: str) -> Client:
    """The client NAME as the settings describe it."""
    kind = KINDS[name]
    return Client(
        name=name,
        client_id=name,
        token_endpoint=f"https://{name}.example/token",
        authorization_endpoint=f"https://{name}.example/authorize",
        redirect_uris=("http://127.0.0.1:8400/callback",),
        rotation=Rotation.parse(kind.profile),
        on_unknown_outcome=kind.on_unknown,
        rate=kind.rate,
    )


@dataclass(eq=False)
class Line:
    """One authorization of a grant: its family, and what befell it."""

    name: str
    kind: Kind
    family: Family
    durable: int = 1
    """The newest generation that reached the vault."""
    killed_by: str | None = None
    """What ended it, as far as that can be excused."""
    trouble_before: int = 0
    """The client's count of troubles when its newest generation was asked for."""

    def excuse(self, *, is_awaited: bool, durable: int, troubles: int) -> str | None:
        """Why a refresh token of this line may be presented outside of what is permitted.

        Args:
            durable: the newest generation in the vault when the request was sent.
            troubles: what went wrong for its client since that generation was asked for.
        """
        if not is_awaited:
            return "a request nobody waited for"
        if self.family.generation <= durable:
            return None
        if durable < self.durable:
            # Only another process can have stored the successor while this one was sending.
            return "the late answer of a usurped process"
        match self.kind.rotation:
            case "strict":
                return "its successor is not durable"
            case "grace" if troubles > 1:  # the loss itself is one
                return "its successor is not durable and the replays were hindered"
            case _:
                return None


@dataclass
class Server:
    """Processes requests at the instant they arrive; answers travel elsewhere."""

    chance: Chance
    time: Callable[[], float]
    fingerprint: Callable[[Secret], bytes]
    families: Families = field(default_factory=Families)
    lines: dict[str, Line] = field(default_factory=dict)
    """By family id."""
    issued: dict[bytes, tuple[Line, int]] = field(default_factory=dict)
    """The line and generation of every refresh token, by fingerprint."""
    troubles: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """How often something went wrong for a client, its process or the disk."""

    def open(self, name: str, client: str) -> TokenPair:
        """A person authorizes CLIENT: a new family."""
        kind = KINDS[client]
        policy = TokenPolicy(
            rotation=kind.rotation,
            grace_seconds=GRACE,
            access_token_lifetime=kind.lifetime,
            grace_answer="same" if self.chance.is_heads() else "sibling",
            refresh_token_in_answer=kind.rotates or kind.rotation == "none",
        )
        family, pair = self.families.open(
            client_id=client, subject=name, scope=(), policy=policy, now=self.time()
        )
        line = self.lines[family.family_id] = Line(name, kind, family)
        self._remember(line, pair)
        return pair

    def refresh(
        self, refresh_token: Secret, client: str, *, is_awaited: bool, durable: int, troubles: int
    ) -> Outcome:
        """Process one refresh request that somebody, or nobody any more, waits for.

        Args:
            durable: the newest generation in the vault when the request was sent.
            troubles: the client's count of troubles at that time.
        """
        line, _ = self.issued[self.fingerprint(refresh_token)]
        family = line.family
        generation, reuses = family.generation, family.reuses
        try:
            pair = self.families.refresh(refresh_token.reveal(), client_id=client, now=self.time())
        except Refused as refused:
            if family.reuses > reuses and line.killed_by is None:
                since = self.troubles[client] - line.trouble_before
                line.killed_by = line.excuse(is_awaited=is_awaited, durable=durable, troubles=since)
            return GrantRejected(error=refused.error, status=refused.status)
        if family.generation > generation:
            line.trouble_before = troubles
        self._remember(line, pair)
        return Refreshed(answer=answer_of(pair), status=200)

    def revoke(self, line: Line) -> None:
        """A person takes the authorization back."""
        line.killed_by = line.killed_by or "a person"
        self.families.revoke(line.family, because="a person", now=self.time())

    def trouble(self, client: str | None = None) -> None:
        """Count something that may cost CLIENT, or everybody, time."""
        for name in KINDS if client is None else (client,):
            self.troubles[name] += 1

    def _remember(self, line: Line, pair: TokenPair) -> None:
        if pair.refresh_token is not None:
            self.issued[self.fingerprint(Secret(pair.refresh_token))] = line, pair.generation


def answer_of(pair: TokenPair) -> TokenAnswer:
    """PAIR as the client reads it."""
    return TokenAnswer(
        access_token=Secret(pair.access_token),
        refresh_token=Secret(pair.refresh_token) if pair.refresh_token else None,
        expires_in=pair.expires_in,
    )
