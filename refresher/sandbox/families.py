"""Families of tokens: everything that grew out of one authorization.

Pure state: time is an argument, nothing is read or sent. A family counts generations of
refresh tokens. Using a token of the newest generation rotates: it brings the next one.
What happens to an older token is the rotation of the family's policy:

=============  ==========================================================================
``none``       there is one refresh token, it never changes
``grace``      the direct predecessor is answered again for ``grace_seconds``
``until_used`` the direct predecessor is answered again until its successor (its refresh
               token or its access token) is first used
``strict``     nothing but the newest is ever answered
=============  ==========================================================================

Whatever is presented outside of that is reuse: ``invalid_grant``, and the end of the whole
family where the policy says so (RFC 9700 section 4.14.2).
"""

import math
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, assert_never

from refresher.sandbox.answers import Refused

Rotation = Literal["none", "grace", "until_used", "strict"]

# "same": the pair that was issued first, its expires_in unchanged and therefore overstated;
# "sibling": one more pair of the same generation, all of them good until one is used;
# "latest": one more pair, and the refresh tokens issued before it are void.
ReplayAnswer = Literal["same", "sibling", "latest"]


@dataclass(frozen=True, kw_only=True)
class TokenPolicy:
    """How tokens live and die at one client; durations in seconds.

    Args:
        revoke_family_on_reuse: reuse ends the family with its access tokens.
        grace_answer: what a permitted replay brings, under ``grace`` and ``until_used``.
        refresh_token_at_authorization: False: an exchanged code brings no refresh token.
        refresh_token_in_answer: False: a refresh brings no refresh token, and the one that
            was presented stays, whatever the rotation.
        expires_in_in_answer: False: the client must guess the lifetime.
        revoke_access_token_on_refresh: a refresh ends the access tokens issued before it.
        renews_with_access_token: there are no refresh tokens; an access token that lives is
            taken for one.
    """

    rotation: Rotation = "strict"
    grace_seconds: float = 30.0
    revoke_family_on_reuse: bool = True
    grace_answer: ReplayAnswer = "same"
    access_token_lifetime: float = 20.0
    refresh_token_at_authorization: bool = True
    refresh_token_in_answer: bool = True
    expires_in_in_answer: bool = True
    revoke_access_token_on_refresh: bool = False
    renews_with_access_token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """What one token answer issues; ``expires_in`` in whole seconds, rounded down."""

    access_token: str
    refresh_token: str | None
    expires_in: int | None
    scope: tuple[str, ...]
    generation: int


@dataclass(slots=True, kw_only=True, eq=False)
class Family:
    """One authorization of one account for one client.

    Args:
        generation: number of the newest generation of refresh tokens, from 1.
        newest: the answer that began the newest generation.
        newest_refresh_tokens: those of the newest generation; several after replays.
        rotated_at: when that was.
        acknowledged: an access token of the newest generation was used.
        reuses: how often a refresh token was presented that no rule permitted.
    """

    family_id: str
    client_id: str
    subject: str
    scope: tuple[str, ...]
    redirect_uri: str | None
    policy: TokenPolicy
    generation: int = 1
    newest: TokenPair | None = None
    rotated_at: float = 0.0
    acknowledged: bool = False
    revoked_at: float | None = None
    revoked_because: str | None = None
    reuses: int = 0
    newest_refresh_tokens: "list[RefreshToken]" = field(default_factory=list)
    access_tokens: "list[AccessToken]" = field(default_factory=list)


@dataclass(slots=True, eq=False)
class AccessToken:
    """An access token; good while its family lives, its time runs and nobody revoked it."""

    family: Family
    generation: int
    scope: tuple[str, ...]
    expires_at: float
    revoked: bool = False


@dataclass(slots=True, eq=False)
class RefreshToken:
    """A refresh token; ``void`` once a later answer of the same generation replaced it."""

    family: Family
    generation: int
    void: bool = False


class Families:
    """Every family of the server and the index of their tokens."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._refresh_tokens: dict[str, RefreshToken] = {}
        self._access_tokens: dict[str, AccessToken] = {}

    def __iter__(self) -> Iterator[Family]:
        return iter(self._families.values())

    def __len__(self) -> int:
        return len(self._families)

    @property
    def access_tokens_issued(self) -> int:
        return len(self._access_tokens)

    def token_values(self) -> Iterator[str]:
        """Every refresh token and access token ever issued, for searches of leaks."""
        yield from self._refresh_tokens
        yield from self._access_tokens

    def find(self, family_id: str) -> Family | None:
        return self._families.get(family_id)

    def open(
        self,
        *,
        client_id: str,
        subject: str,
        scope: tuple[str, ...],
        policy: TokenPolicy,
        redirect_uri: str | None = None,
        with_refresh_token: bool = True,
        now: float,
    ) -> tuple[Family, TokenPair]:
        """Begin a family and issue its first pair."""
        family = Family(
            family_id=f"family-{len(self._families) + 1}",
            client_id=client_id,
            subject=subject,
            scope=scope,
            redirect_uri=redirect_uri,
            policy=policy,
        )
        self._families[family.family_id] = family
        has_refresh = with_refresh_token and not policy.renews_with_access_token
        refresh_token = self._new_refresh_token(family) if has_refresh else None
        pair = self._issue(family, refresh_token, scope=scope, now=now)
        family.newest, family.rotated_at = pair, now
        return family, pair

    def locate(self, refresh_token: str) -> RefreshToken | None:
        """The record of a refresh token, also of an old one, changing nothing."""
        return self._refresh_tokens.get(refresh_token)

    def refresh(
        self,
        presented: str,
        *,
        client_id: str,
        scope: tuple[str, ...] | None = None,
        now: float,
    ) -> TokenPair:
        """Process a refresh token grant (RFC 6749 section 6).

        Args:
            scope: a narrower scope for the access token; None for all that was granted.

        Raises:
            Refused: invalid_grant or invalid_scope.
        """
        token = self._refresh_tokens.get(presented)
        if token is None or token.family.client_id != client_id:
            raise Refused("invalid_grant", "the refresh token is unknown")
        family = token.family
        if family.revoked_at is not None:
            raise Refused("invalid_grant", "the authorization was revoked")
        if scope is not None and not set(scope) <= set(family.scope):
            raise Refused("invalid_scope", "the scope exceeds what was granted")
        granted = family.scope if scope is None else scope

        policy = family.policy
        if policy.renews_with_access_token:
            if self.use(presented, now) is None:
                raise Refused("invalid_grant", "the access token has ended")
            family.generation += 1
            return self._issue(family, None, scope=granted, now=now)
        if policy.rotation == "none" or not policy.refresh_token_in_answer:
            kept = presented if policy.refresh_token_in_answer else None
            return self._issue(family, kept, scope=granted, now=now)
        if token.void:
            raise Refused("invalid_grant", "the refresh token was replaced")
        if token.generation == family.generation:
            return self._rotate(family, scope=granted, now=now)
        if _is_answered(token, now):
            return self._replay(family, scope=granted, now=now)
        family.reuses += 1
        if policy.revoke_family_on_reuse:
            self.revoke(family, because="reuse of a refresh token", now=now)
        raise Refused("invalid_grant", "the refresh token was used before")

    def use(self, access_token: str, now: float) -> AccessToken | None:
        """The access token if a resource may accept it now, else None.

        Using one of the newest generation acknowledges that generation.
        """
        token = self._access_tokens.get(access_token)
        if token is None or token.revoked or token.family.revoked_at is not None:
            return None
        if now >= token.expires_at:
            return None
        if token.generation == token.family.generation:
            token.family.acknowledged = True
        return token

    def revoke(self, family: Family, *, because: str, now: float) -> None:
        """End a family: its refresh tokens and its access tokens."""
        if family.revoked_at is None:
            family.revoked_at, family.revoked_because = now, because

    def revoke_token(self, value: str, *, client_id: str, now: float) -> None:
        """Revoke as RFC 7009: a refresh token ends its whole family.

        Only one that a refresh would be answered for: a token that was rotated away is an
        invalid one, for which section 2.2 wants a 200 as for any unknown, and its successor
        lives on. Whoever revokes beside an exchange has to revoke what that brings, too.

        Raises:
            Refused: unauthorized_client, the token is another client's.
        """
        token = self._refresh_tokens.get(value) or self._access_tokens.get(value)
        if token is None:
            return
        if token.family.client_id != client_id:
            raise Refused("unauthorized_client", "the token belongs to another client")
        if isinstance(token, AccessToken):
            token.revoked = True
        elif _is_answered(token, now):
            self.revoke(token.family, because="revoked by the client", now=now)

    def family_of_access_token(self, access_token: str) -> Family | None:
        """The family of an access token that was issued once, even if it is dead."""
        token = self._access_tokens.get(access_token)
        return None if token is None else token.family

    def _rotate(self, family: Family, *, scope: tuple[str, ...], now: float) -> TokenPair:
        family.generation += 1
        family.acknowledged = False
        family.newest_refresh_tokens.clear()
        pair = self._issue(family, self._new_refresh_token(family), scope=scope, now=now)
        family.newest, family.rotated_at = pair, now
        return pair

    def _replay(self, family: Family, *, scope: tuple[str, ...], now: float) -> TokenPair:
        assert family.newest is not None
        if family.policy.grace_answer == "same":
            return family.newest
        if family.policy.grace_answer == "latest":
            for earlier in family.newest_refresh_tokens:
                earlier.void = True
        return self._issue(family, self._new_refresh_token(family), scope=scope, now=now)

    def _issue(
        self, family: Family, refresh_token: str | None, *, scope: tuple[str, ...], now: float
    ) -> TokenPair:
        policy = family.policy
        if policy.revoke_access_token_on_refresh:
            for earlier in family.access_tokens:
                earlier.revoked = True
        # The dead are forgotten by their family; the index keeps them, to be told from unknown.
        family.access_tokens = [
            token for token in family.access_tokens if not token.revoked and now < token.expires_at
        ]
        value = f"at-{family.family_id}-{family.generation}-{secrets.token_urlsafe(16)}"
        expires_at = now + policy.access_token_lifetime
        token = AccessToken(family, family.generation, scope, expires_at)
        family.access_tokens.append(token)
        self._access_tokens[value] = token
        if policy.renews_with_access_token:
            self._refresh_tokens[value] = RefreshToken(family, family.generation)
        return TokenPair(
            access_token=value,
            refresh_token=refresh_token,
            expires_in=(
                math.floor(policy.access_token_lifetime) if policy.expires_in_in_answer else None
            ),
            scope=scope,
            generation=family.generation,
        )

    def _new_refresh_token(self, family: Family) -> str:
        value = f"rt-{family.family_id}-{family.generation}-{secrets.token_urlsafe(16)}"
        token = RefreshToken(family, family.generation)
        family.newest_refresh_tokens.append(token)
        self._refresh_tokens[value] = token
        return value


def _is_answered(token: RefreshToken, now: float) -> bool:
    """Whether a refresh with TOKEN brings something now, by the rotation of its family."""
    family = token.family
    if family.policy.rotation == "none" or not family.policy.refresh_token_in_answer:
        return True
    if token.void:
        return False
    if token.generation == family.generation:
        return True
    return token.generation == family.generation - 1 and _replay_is_permitted(family, now)


def _replay_is_permitted(family: Family, now: float) -> bool:
    """Whether the direct predecessor of the newest generation is still answered."""
    match family.policy.rotation:
        case "grace":
            return now - family.rotated_at <= family.policy.grace_seconds
        case "until_used":
            return not family.acknowledged
        case "strict" | "none":
            return False
        case other:
            assert_never(other)
