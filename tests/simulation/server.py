"""The authorization server: the sandbox's pure rules, and the truth about each family.

Whether a grant may be lost is decided by what really happened here, not by what the
engine believes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from refresher.domain.clients import Client, Revocation, UnknownOutcome
from refresher.domain.outcomes import GrantRejected, Outcome, Refreshed, TokenAnswer, TooEarly
from refresher.domain.quirks import Rotation
from refresher.domain.secret import Secret
from refresher.sandbox.answers import Refused
from refresher.sandbox.families import Families, Family, TokenPair, TokenPolicy
from refresher.sandbox.families import Rotation as ServerRotation
from tests.simulation.chance import Chance
from tests.simulation.moods import WORDS, Moods
from tests.support import clients

GRACE = 30.0

DOUBT_FOR = 5_400.0
"""Seconds of doubt that decide without a witness; a day would be many steps."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A client's settings, and how its server really behaves."""

    profile: str
    rotation: ServerRotation
    lifetime: float = 60.0
    on_unknown: UnknownOutcome = UnknownOutcome.REPLAY
    rotates: bool = True
    rate: float | None = None
    window: float | None = None
    """Share of a life, its last, in which alone it refreshes."""
    is_quiet: bool = False
    """Nothing happens on its wire: whatever its grants suffer, one of them did to the others."""
    grants: int = 4


KINDS = {
    "none": Kind(profile="none", rotation="none", rotates=False),
    "grace": Kind(profile=f"grace({GRACE:g})", rotation="grace"),
    "until_used": Kind(profile="until_used", rotation="until_used"),
    "strict": Kind(profile="strict", rotation="strict"),
    "unknown": Kind(profile="unknown", rotation="strict", lifetime=90.0),
    "deferred": Kind(profile="strict", rotation="strict", on_unknown=UnknownOutcome.DEFER),
    "deciding": Kind(profile="strict", rotation="strict", on_unknown=UnknownOutcome.PAUSE),
    "kept": Kind(profile="strict", rotation="strict", lifetime=40.0, rotates=False, rate=2.0),
    "early": Kind(profile="unknown", rotation="strict", lifetime=100.0, window=0.15),
    "tenants": Kind(profile="strict", rotation="strict", lifetime=100.0, is_quiet=True, grants=6),
}
"""By client name; ``kept`` is a server that says it rotates and does not."""


def make_client(name: str) -> Client:
    """The client NAME as the settings describe it."""
    kind = KINDS[name]
    return clients.make_client(
        name,
        client_id=name,
        token_endpoint=f"https://{name}.example/token",
        authorization_endpoint=f"https://{name}.example/authorize",
        revocation=Revocation(endpoint=f"https://{name}.example/revoke"),
        redirect_uris=("http://127.0.0.1:8400/callback",),
        rotation=Rotation.parse(kind.profile),
        on_unknown_outcome=kind.on_unknown,
        doubt_for=DOUBT_FOR,
        rate=kind.rate,
    )


@dataclass(eq=False)
class Line:
    """One authorization of a grant: its family, and what befell it."""

    name: str
    kind: Kind
    family: Family
    served: bool
    """Whether it has brought tokens; of one that was imported, after its first refresh."""
    durable: int = 1
    """The newest generation that reached the vault."""
    stored_at: float = 0.0
    """When it did."""
    killed_by: str | None = None
    """What ended it, as far as that can be excused."""
    trouble_before: int = 0
    """The client's count of troubles when its newest generation was asked for."""
    revoked_here: bool = False
    """Whether an operator has ended it with ``revoke``."""

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
    moods: Moods
    pace: float = 1.0
    """How much longer than their kind says tokens live."""
    families: Families = field(default_factory=Families)
    lines: dict[str, Line] = field(default_factory=dict)
    """By family id."""
    issued: dict[bytes, tuple[Line, int]] = field(default_factory=dict)
    """The line and generation of every refresh token, by fingerprint."""
    troubles: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """How often something went wrong for a client, its process or the disk."""

    def open(self, name: str, client: str, *, is_login: bool) -> TokenPair:
        """A person authorizes CLIENT: a new family."""
        kind = KINDS[client]
        policy = TokenPolicy(
            rotation=kind.rotation,
            grace_seconds=GRACE,
            access_token_lifetime=kind.lifetime * self.pace,
            grace_answer="same" if self.chance.is_heads() else "sibling",
            refresh_token_in_answer=kind.rotates or kind.rotation == "none",
        )
        family, pair = self.families.open(
            client_id=client, subject=name, scope=(), policy=policy, now=self.time()
        )
        line = self.lines[family.family_id] = Line(name, kind, family, served=is_login)
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
        line, presented = self.issued[self.fingerprint(refresh_token)]
        word = self.moods.word_to(line.name, client)
        if word is not None:
            self.chance.seen[f"said: {word}"] += 1
            self.trouble(client)
            if word == "incident":
                self.moods.lied_to.add(line.name)
            return WORDS[word]
        if is_awaited:  # what nobody hears takes no lie back
            self.moods.lied_to.discard(line.name)
        if self._is_early(line, presented):
            self.chance.seen["said: too early"] += 1
            return TooEarly(error="too_early", status=400)
        family = line.family
        generation, reuses = family.generation, family.reuses
        try:
            pair = self.families.refresh(refresh_token.reveal(), client_id=client, now=self.time())
        except Refused as refused:
            if family.reuses > reuses and line.killed_by is None:
                since = self.troubles[client] - line.trouble_before
                line.killed_by = line.excuse(is_awaited=is_awaited, durable=durable, troubles=since)
            return GrantRejected(
                error=refused.error,
                status=refused.status,
                needs_person=line.killed_by == "a person" and self.chance.is_heads(),
            )
        if family.generation > generation:
            line.trouble_before = troubles
        self._remember(line, pair)
        return Refreshed(answer=answer_of(pair), status=200)

    def revoke(self, line: Line) -> None:
        """A person takes the authorization back."""
        line.killed_by = line.killed_by or "a person"
        self.families.revoke(line.family, because="a person", now=self.time())

    def revoke_token(
        self, client: str, refresh_token: Secret | None, access: Secret | None
    ) -> None:
        """Process a request to revoke (RFC 7009); spent and unknown tokens end nothing."""
        token = refresh_token or access
        assert token is not None
        self.families.revoke_token(token.reveal(), client_id=client, now=self.time())

    def is_alive(self, refresh_token: Secret) -> bool:
        """Whether the newest generation of a line has REFRESH_TOKEN, and the line lives."""
        line, generation = self.issued[self.fingerprint(refresh_token)]
        return line.family.revoked_at is None and generation == line.family.generation

    def slow_down(self, pace: float) -> None:
        """Let the tokens that are issued from now on live PACE times as long as their kind's."""
        self.pace = pace
        for line in self.lines.values():
            family, lifetime = line.family, line.kind.lifetime * pace
            family.policy = replace(family.policy, access_token_lifetime=lifetime)

    def trouble(self, client: str | None = None) -> None:
        """Count something that may cost CLIENT, or everybody, time."""
        for name in KINDS if client is None else (client,):
            self.troubles[name] += 1

    def _is_early(self, line: Line, generation: int) -> bool:
        """Whether the newest access token has too much of its life left to be replaced."""
        family, window = line.family, line.kind.window
        if window is None or generation < family.generation or family.revoked_at is not None:
            return False
        if family.generation == 1 and not line.served:
            return False  # whoever was imported never had the token of that answer
        end = family.access_tokens[-1].expires_at
        return end - self.time() > window * (end - family.rotated_at)

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
