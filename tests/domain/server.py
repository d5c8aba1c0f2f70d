"""A model of an authorization server: what it did with each refresh token, and when."""

from dataclasses import dataclass, field

from refresher.domain.outcomes import GrantRejected, Outcome, Refreshed, TokenAnswer
from refresher.domain.quirks import Rotation, RotationProfile
from refresher.domain.secret import Secret


@dataclass
class Generation:
    """One refresh token, the access token that came with it, and its uses."""

    refresh_token: str
    access_token: str
    ends_at: float
    first_used_at: float | None = None


@dataclass
class Server:
    """Rotates as ROTATION says, and never tells how much of a repeated answer's life is gone."""

    rotation: Rotation
    lifetime: float
    generations: list[Generation] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)
    """When each access token really ends."""
    revoked: bool = False
    serial: int = 0

    def authorize(self, now: float) -> TokenAnswer:
        """Begin a new family: a person consented."""
        self.generations, self.revoked = [], False
        return self._answer(self._issue(now), tells_refresh_token=True)

    def exchange(self, presented: str, now: float) -> Outcome:
        """Process one request, just now."""
        generation = self._accepted(presented, now)
        if generation is None:
            self.revoked = self.revoked or self._revokes_on_reuse(presented)
            return GrantRejected(error="invalid_grant", status=400)
        rotates = self.rotation.profile is not RotationProfile.NONE
        answer = self._answer(generation, tells_refresh_token=rotates)
        return Refreshed(answer=answer, status=200)

    def _accepted(self, presented: str, now: float) -> Generation | None:
        newest = self.generations[-1]
        if self.revoked:
            return None
        if self.rotation.profile is RotationProfile.NONE:
            known = presented == newest.refresh_token
            return self._issue(now, presented) if known else None
        if presented == newest.refresh_token:
            newest.first_used_at = now
            return self._issue(now)
        before = self.generations[-2] if len(self.generations) > 1 else None
        if before is None or presented != before.refresh_token:
            return None
        assert before.first_used_at is not None
        match self.rotation.profile:
            case RotationProfile.UNTIL_USED:
                return newest
            case RotationProfile.GRACE:
                return newest if now <= before.first_used_at + self.rotation.grace else None
            case _:
                return None

    def _revokes_on_reuse(self, presented: str) -> bool:
        strict = self.rotation.profile in {RotationProfile.STRICT, RotationProfile.UNKNOWN}
        return strict and any(each.refresh_token == presented for each in self.generations)

    def _issue(self, now: float, refresh_token: str | None = None) -> Generation:
        self.serial += 1
        issued = Generation(
            refresh_token=refresh_token or f"rt-{self.serial}",
            access_token=f"at-{self.serial}",
            ends_at=now + self.lifetime,
        )
        self.generations.append(issued)
        self.ends[issued.access_token] = issued.ends_at
        return issued

    def _answer(self, generation: Generation, *, tells_refresh_token: bool) -> TokenAnswer:
        return TokenAnswer(
            access_token=Secret(generation.access_token),
            refresh_token=Secret(generation.refresh_token) if tells_refresh_token else None,
            expires_in=self.lifetime,
        )
