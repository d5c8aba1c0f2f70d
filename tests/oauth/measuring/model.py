"""A server in memory under a clock of its own, which does what was chosen."""

from collections.abc import Callable
from dataclasses import dataclass, field

from refresher.domain.secret import Secret
from refresher.oauth.measuring.observed import Answer, Said, Tokens, Verdict
from refresher.oauth.revocation import RevocationResult
from refresher.sandbox.answers import Refused
from refresher.sandbox.families import Families, Family, TokenPair, TokenPolicy

LATENCY = 0.02
"""Seconds that each request takes, half of them each way."""

CLIENT = "client"


@dataclass
class ModelServer:
    """Measured as a real one is.

    Args:
        looks: how it tells whether an access token lives: ``look`` is no use of it, ``use`` is
            one, None is not at all.
        most_replays: of one refresh token; None: as the policy says.
        early: seconds before its end from when on an access token is refreshed.
        access_revocation: what revoking an access token ends; None: it is refused.
        refresh_revocation: the same of a refresh token.
        fails: what is answered instead of request NUMBER, from 1.
    """

    policy: TokenPolicy
    looks: str | None = "look"
    most_replays: int | None = None
    early: float | None = None
    can_revoke: bool = True
    access_revocation: str | None = "it"
    refresh_revocation: str = "all"
    fails: Callable[[int], Verdict | None] = lambda _: None
    time: float = 1000.0
    logins: list[str] = field(default_factory=list)
    families: Families = field(default_factory=Families)
    requests: int = 0
    _presented: dict[str, int] = field(default_factory=dict)
    _issued: dict[str, float] = field(default_factory=dict)

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    async def log_in(self, purpose: str) -> Tokens:
        self.logins.append(purpose)
        self.time += 20.0  # a person
        family, pair = self.families.open(
            client_id=CLIENT,
            subject="owner",
            scope=("read",),
            policy=self.policy,
            with_refresh_token=self.policy.refresh_token_at_authorization,
            now=self.time,
        )
        self._issued[family.family_id] = self.time
        return _tokens(pair)

    async def present(self, refresh_token: Secret) -> Answer:
        sent_at, value = self.time, refresh_token.reveal()
        self.requests += 1
        self.time += LATENCY / 2
        said = Said(status=400, body='{"error":"invalid_grant"}', error="invalid_grant",
                    means_dead=True)  # fmt: skip
        failure = self.fails(self.requests)
        if failure is None:
            try:
                tokens = _tokens(self._refresh(value))
            except Refused as refused:
                failure = Verdict.EARLY if refused.error == "early" else Verdict.REFUSED
            else:
                self.time += LATENCY / 2
                return Answer(
                    verdict=Verdict.ACCEPTED, sent_at=sent_at, answered_at=self.time, tokens=tokens
                )
        self.time += LATENCY / 2
        return Answer(verdict=failure, sent_at=sent_at, answered_at=self.time, said=said)

    async def lives(self, access_token: Secret) -> bool | None:
        if self.looks is None:
            return None
        if self.looks == "use":
            return self.families.use(access_token.reveal(), self.time) is not None
        family = self.families.family_of_access_token(access_token.reveal())
        assert family is not None
        acknowledged = family.acknowledged
        found = self.families.use(access_token.reveal(), self.time) is not None
        family.acknowledged = acknowledged
        return found

    async def use(self, access_token: Secret) -> bool:
        if self.looks != "use":
            return False
        return self.families.use(access_token.reveal(), self.time) is not None

    async def revoke_access(self, access_token: Secret) -> RevocationResult:
        if self.access_revocation is None:
            return RevocationResult.REFUSED
        self.families.revoke_token(access_token.reveal(), client_id=CLIENT, now=self.time)
        family = self.families.family_of_access_token(access_token.reveal())
        if self.access_revocation == "all" and family is not None:
            self.families.revoke(family, because="revoked", now=self.time)
        return RevocationResult.REVOKED

    async def revoke_refresh(self, refresh_token: Secret) -> RevocationResult:
        token = self.families.locate(refresh_token.reveal())
        assert token is not None
        if self.refresh_revocation == "all":
            self.families.revoke_token(refresh_token.reveal(), client_id=CLIENT, now=self.time)
        else:
            token.void = True
        return RevocationResult.REVOKED

    def living(self) -> list[Family]:
        """The authorizations that nobody has ended."""
        return [family for family in self.families if family.revoked_at is None]

    def _refresh(self, value: str) -> TokenPair:
        token = self.families.locate(value)
        if token is not None and self.early is not None:
            issued = self._issued[token.family.family_id]
            if self.time < issued + self.policy.access_token_lifetime - self.early:
                raise Refused("early", "wait")
        count = self._presented[value] = self._presented.get(value, 0) + 1
        if token is not None and self.most_replays is not None and count > self.most_replays + 1:
            raise Refused("invalid_grant", "used too often")
        pair = self.families.refresh(value, client_id=CLIENT, now=self.time)
        if token is not None and token.generation == pair.generation - 1 and count == 1:
            self._issued[token.family.family_id] = self.time
        return pair


def _tokens(pair: TokenPair) -> Tokens:
    return Tokens(
        access=Secret(pair.access_token),
        refresh=None if pair.refresh_token is None else Secret(pair.refresh_token),
        expires_in=pair.expires_in,
    )
