"""A model of the vault around the pure rules: claims, commits, logins, recovery, in memory."""

from dataclasses import dataclass, replace

from refresher.domain import adoption, authorizing, claiming, commit_rule, pauses, transition
from refresher.domain.adoption import Attempt, Transition
from refresher.domain.clients import Client
from refresher.domain.commit_rule import Verdict, next_version
from refresher.domain.fields import Trait, fields_with
from refresher.domain.grants import Claim, Grant, GrantKind, GrantState
from refresher.domain.outcomes import Outcome, TokenAnswer
from refresher.domain.reasons import Reason
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret


@dataclass
class Desk:
    """Holds one grant as the vault would; every rule is the real one, looked up when called."""

    client: Client
    grant: Grant
    refresh_token: str | None = None
    access_token: str | None = None

    @classmethod
    def empty(cls, client: Client, now: float) -> "Desk":
        grant = Grant(
            id=1,
            uid="uid",
            name="acme",
            kind=GrantKind.REFRESHABLE,
            client="crm",
            origin="settings",
            since=now,
        )
        return cls(client, grant)

    def claim(self, now: float) -> Claim:
        """Write the intent of the next attempt, as ``vault.exchanges`` does."""
        grant = pauses.at_its_end(self.grant, now)
        assert grant.state is not GrantState.PAUSED
        assert self.refresh_token is not None
        assert grant.refresh_token_fingerprint is not None
        self.grant = claiming.armed(grant, now)
        return Claim(
            grant=self.grant,
            renewal=RefreshToken(Secret(self.refresh_token)),
            access_token=Secret(self.access_token) if self.access_token else None,
        )

    def commit(self, claim: Claim, outcome: Outcome, attempt: Attempt) -> Verdict:
        """Apply OUTCOME if the commit rule lets it count."""
        stored, intent = self.grant, claim.intent
        change = transition.transition(claim, self.client, outcome, attempt)
        brings = change.tokens is not None
        verdict = commit_rule.judge(stored, claim.grant, intent, change.tokens)
        if verdict is not Verdict.APPLY:
            return verdict
        merged = commit_rule.merge(stored, claim.grant, change.grant, intent)
        self.grant = self._kept(stored, merged)
        if brings:
            self.grant = replace(self.grant, adopted_sequence=intent.sequence)
        self._adopt(change, attempt.ended_at, presented=intent.presented)
        return verdict

    def log_in(self, answer: TokenAnswer, attempt: Attempt) -> None:
        """Adopt the tokens of a new authorization."""
        change = adoption.adopt_authorization(self.grant, self.client, answer, attempt)
        after = authorizing.logged_in(self.grant, change.grant, attempt.ended_at)
        self.grant = replace(after, refresh_token_fingerprint=None, predecessor_fingerprint=None)
        self.refresh_token = None
        self._adopt(change, attempt.ended_at, presented=None)

    def recover(self, now: float, draw: float) -> None:
        """What a new process decides for the exchange a dead one left open."""
        if self.grant.intent is not None:
            after = transition.resume_unresolved(self.grant, self.client, now, draw)
            self.grant = self._kept(self.grant, after)

    def request(self, now: float) -> None:
        """An operator asks for a refresh, as ``vault.authorizations`` takes it."""
        self.grant = authorizing.asked_for(self.grant, now) or self.grant

    def pause(self, now: float, until: float | None) -> None:
        """An operator wants nothing to be sent."""
        self.grant = pauses.paused(self.grant, now, until=until, reason=Reason.PAUSED_HERE)

    def resume(self, now: float) -> None:
        """An operator ends a pause, whatever its reason."""
        if self.grant.state is GrantState.PAUSED:
            self.grant = pauses.resumed(self.grant, now)

    def _adopt(self, change: Transition, now: float, *, presented: bytes | None) -> None:
        tokens = change.tokens
        if tokens is None:
            return
        if tokens.refresh_token is not None:
            self.refresh_token = tokens.refresh_token.reveal()
            self.grant = replace(
                self.grant,
                refresh_token_fingerprint=self.refresh_token.encode(),
                predecessor_fingerprint=presented,
            )
        if tokens.access_token is not None:
            self.access_token = tokens.access_token.reveal()
            self.grant = replace(self.grant, version=next_version(self.grant.version, now))

    @staticmethod
    def _kept(stored: Grant, after: Grant) -> Grant:
        """STORED with the columns an outcome may change; the others are nobody's business."""
        changed = {name: getattr(after, name) for name in fields_with(Trait.OUTCOME)}
        return replace(stored, intent=after.intent, rejection=after.rejection, **changed)
