"""What a server is asked to find out how it treats refresh tokens, in the fewest logins.

One grant serves for as many questions as it survives. The questions that may end it come
last, and a new login is asked for only when it did.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace

from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed
from refresher.oauth.measuring.observed import (
    Answer,
    Brings,
    Evidence,
    Phase,
    Replay,
    Revoked,
    Server,
    Throwaway,
    Tokens,
    Verdict,
    compared,
)
from refresher.oauth.revocation import RevocationResult

MOST_LOGINS = 4
"""One for what may end the grant, one for how long, one for revoking each token."""

MOST_LOGINS_WITHOUT_REVOCATION = 2

NO_REFRESH_TOKEN = (
    "the login brought no refresh token: ask for the scope offline_access, or set what else makes "
    'one come, such as authorization_parameters = { access_type = "offline" }'
)

REPLAYS_AT_ONCE = 5
"""Presented in a row before time is measured: a refusal among them is a count, not a time."""

AT_ONCE = 2.0
"""Seconds within which a refusal among them is one."""

SHORTEST_STEP, STEP = 0.5, 0.05
"""Between two replays that measure a window: seconds, and a share of its age."""

FAILURES_IN_A_ROW = 3
"""Replays without a clear answer after which nothing more is learned."""

MOST_REVOKED = 10
"""Refresh tokens of one grant that are revoked when it is over, the newest first."""


class Experiments:
    """Asks SERVER everything, and keeps what it answered.

    Args:
        wait: seconds to let pass in all; a window that is longer is "at least".
        tell: hears what is done, a line each.
    """

    def __init__(self, server: Server, *, wait: float, tell: Callable[[str], None]) -> None:
        self.evidence = Evidence()
        self._server = server
        self._left = wait
        self._tell = tell
        self._received: dict[int, list[Tokens]] = {}

    async def run(self) -> Evidence:
        """Everything that the server shows.

        Raises:
            AuthorizationFailed: the first login came to nothing.
        """
        grant = await self._log_in("what a refresh does")
        if grant.first.refresh is None:
            self.evidence.remarks.append(NO_REFRESH_TOKEN)
            return self.evidence
        refreshed = await self._refresh(grant)
        try:
            if refreshed is not None:
                await self._after_refresh(grant, refreshed)
                await self._revocations()
        except AuthorizationFailed as error:
            self.evidence.remarks.append(f"a further login came to nothing: {error}")
        if refreshed is not None and not self.evidence.dead:
            await self._made_up()
        return self.evidence

    async def clean_up(self) -> int:
        """Revoke what lives of the grants; how many of them may be left at the server."""
        left = 0
        for grant in self.evidence.grants:
            tokens = self._received[grant.number]
            if grant.is_dead or not any(each.refresh or each.access for each in tokens):
                continue
            left += not await self._revoke_all(tokens)
        return left

    async def _revoke_all(self, tokens: list[Tokens]) -> bool:
        """Whether the server says that what TOKENS authorize is over."""
        refresh = list(dict.fromkeys(each.refresh for each in reversed(tokens) if each.refresh))
        if not refresh:
            access = tokens[-1].access
            return access is not None and _is_over(await self._server.revoke_access(access))
        is_over = _is_over(await self._server.revoke_refresh(refresh[0]))
        if self.evidence.brings not in {Brings.ANOTHER_PAIR, Brings.SIBLING}:
            return is_over
        for sibling in refresh[1:MOST_REVOKED] if is_over else ():
            await self._server.revoke_refresh(sibling)
        return is_over and len(refresh) <= MOST_REVOKED

    async def _log_in(self, purpose: str) -> Throwaway:
        number = len(self.evidence.grants) + 1
        tokens = await self._server.log_in(f"login {number}, to see {purpose}")
        grant = Throwaway(number=number, first=tokens, renewed_at=self._server.now())
        self.evidence.grants.append(grant)
        self._received[number] = [tokens]
        return grant

    def _living(self) -> Throwaway | None:
        return next((grant for grant in self.evidence.grants if not grant.is_dead), None)

    async def _sleep(self, seconds: float) -> bool:
        """Let SECONDS pass; False, and nothing passes, where they are not to be had."""
        if seconds > self._left:
            return False
        self._left -= seconds
        await self._server.sleep(seconds)
        return True

    async def _present(self, grant: Throwaway, token: Secret) -> Answer:
        answer = await self._server.present(token)
        if answer.tokens is not None:
            kept = answer.tokens.refresh or grant.newest.refresh
            grant.newest = replace(answer.tokens, refresh=kept)
            grant.renewed_at = answer.answered_at
            self._received[grant.number].append(grant.newest)
        return answer

    async def _when_not_early(self, grant: Throwaway, token: Secret) -> Answer:
        """What TOKEN brings once the server does not refuse it for being early."""
        life = grant.newest.expires_in or 0.0
        answer = await self._present(grant, token)
        while answer.verdict is Verdict.EARLY:
            self.evidence.early.append(answer)
            if not await self._sleep(max(1.0, STEP * life)):
                return answer
            answer = await self._present(grant, token)
        return answer

    async def _refresh(self, grant: Throwaway) -> Answer | None:
        """The first refresh of GRANT that is answered; None where none is."""
        token = grant.newest.refresh
        assert token is not None
        issued_at, life = grant.renewed_at, grant.newest.expires_in
        is_first = self.evidence.refreshed is None
        lived = is_first and await self._lives(grant.first, issued_at)
        answer = await self._when_not_early(grant, token)
        if answer.verdict is Verdict.EARLY:
            self.evidence.remarks.append(
                "it refuses a refresh this early: --wait was too short to see one"
            )
            return None
        if answer.verdict is not Verdict.ACCEPTED:
            self.evidence.remarks.append(
                f"the first refresh brought nothing ({_told(answer)}): check client_id, "
                "client_secret, client_authentication, encode_basic and placement; everything "
                "else depends on it"
            )
            return None
        if self.evidence.early and life is not None and self.evidence.window is None:
            self.evidence.window = max(life - (answer.sent_at - issued_at), 0.0)
        if is_first:
            self.evidence.refreshed = answer
            if lived:
                self.evidence.access_token_lives = await self._lives(grant.first, issued_at)
        return answer

    async def _after_refresh(self, grant: Throwaway, refreshed: Answer) -> None:
        """What becomes of the refresh token that was used."""
        used = grant.first.refresh
        assert used is not None
        assert refreshed.tokens is not None
        if refreshed.tokens.refresh in {None, used}:
            self._tell("a refresh brings no other refresh token; the same one again")
            replay = await self._replay(grant, used, refreshed, Phase.AT_ONCE)
            grant.is_dead = replay.answer.verdict is Verdict.REFUSED
            self._keep_words(replay.answer, "used before")
            return
        self._tell("a refresh brings another refresh token; the used one again")
        is_answered = await self._at_once(grant, used, refreshed)
        if is_answered:
            await self._after_use(grant, used, refreshed)
            await self._how_long()

    async def _at_once(self, grant: Throwaway, used: Secret, refreshed: Answer) -> bool:
        """Whether USED is answered again, and more often than a few times."""
        for number in range(REPLAYS_AT_ONCE):
            before = grant.newest
            phase = Phase.AGAIN if number else Phase.AT_ONCE
            replay = await self._replay(grant, used, refreshed, phase)
            if replay.answer.verdict is Verdict.REFUSED:
                if number and replay.least_age > AT_ONCE:
                    # As slow as that, time may have ended it as well.
                    self.evidence.replays[-1] = replace(replay, phase=Phase.WAITING)
                else:
                    self.evidence.counted = number or None
                self._keep_words(replay.answer, "used before")
                await self._after_reuse(grant)
                return False
            if replay.answer.verdict is not Verdict.ACCEPTED:
                self.evidence.remarks.append(f"a replay is not answered: {_told(replay.answer)}")
                return False
            if not number:
                self.evidence.brings = compared(before, grant.newest)
        return True

    async def _after_use(self, grant: Throwaway, used: Secret, refreshed: Answer) -> None:
        """Whether USED is answered once the successor, or its access token, was used."""
        if not await self._use_successor(grant, refreshed):
            return
        self._tell("its successor was used; the used one again")
        replay = await self._replay(grant, used, refreshed, Phase.AFTER_SUCCESSOR_USED)
        verdict = replay.answer.verdict
        if verdict is Verdict.ACCEPTED:
            access = grant.newest.access
            if access is None or not await self._server.use(access):
                return
            replay = await self._replay(grant, used, refreshed, Phase.AFTER_ACCESS_TOKEN_USED)
            verdict = replay.answer.verdict
        if verdict is Verdict.REFUSED:
            self._keep_words(replay.answer, "used before")
            await self._after_reuse(grant)

    async def _use_successor(self, grant: Throwaway, refreshed: Answer) -> bool:
        """Whether a successor could be used; tells siblings from successors by the way."""
        assert refreshed.tokens is not None
        successor, newest = refreshed.tokens.refresh, grant.newest.refresh
        assert successor is not None
        assert newest is not None
        answer = await self._present(grant, successor)
        if answer.verdict is Verdict.ACCEPTED:
            if successor != newest:
                self.evidence.brings = Brings.SIBLING
            return True
        if answer.verdict is not Verdict.REFUSED:
            return False
        if successor == newest:
            # Nobody used it: what was answered again had ended it all the same.
            grant.is_dead = True
            self.evidence.remarks.append("after the replays even the new refresh token is refused")
            return False
        self.evidence.brings = Brings.SUCCESSOR
        last = await self._present(grant, newest)
        grant.is_dead = last.verdict is Verdict.REFUSED
        if grant.is_dead:
            self.evidence.reuse_kills = True
        return last.verdict is Verdict.ACCEPTED

    async def _how_long(self) -> None:
        """Present a used refresh token until it is refused, or as long as there is time."""
        if self._left < SHORTEST_STEP:
            return
        grant = self._living() or await self._log_in("how long a used one is answered")
        used = grant.newest.refresh
        refreshed = None if used is None else await self._refresh(grant)
        if used is None or refreshed is None:
            return
        self._tell(f"for up to {self._left:g} s: the used one again and again")
        failures = 0
        while failures < FAILURES_IN_A_ROW:
            age = self._server.now() - refreshed.answered_at
            step = min(max(SHORTEST_STEP, STEP * age), self._left)
            if step < SHORTEST_STEP or not await self._sleep(step):
                return
            replay = await self._replay(grant, used, refreshed, Phase.WAITING)
            if replay.answer.verdict is Verdict.REFUSED:
                self._keep_words(replay.answer, "used before")
                await self._after_reuse(grant)
                return
            is_clear = replay.answer.verdict is Verdict.ACCEPTED
            failures = 0 if is_clear else failures + 1
        self.evidence.remarks.append("replays are not answered any more")

    async def _replay(
        self, grant: Throwaway, used: Secret, refreshed: Answer, phase: Phase
    ) -> Replay:
        answer = await self._when_not_early(grant, used)
        replay = Replay(
            phase=phase,
            answer=answer,
            least_age=answer.sent_at - refreshed.answered_at,
            most_age=answer.answered_at - refreshed.sent_at,
        )
        self.evidence.replays.append(replay)
        return replay

    async def _after_reuse(self, grant: Throwaway) -> None:
        """Whether a refused replay has ended the rest of GRANT."""
        newest, evidence = grant.newest, self.evidence
        assert newest.refresh is not None
        lives = await self._lives(newest, grant.renewed_at)
        answer = await self._present(grant, newest.refresh)
        if answer.verdict is Verdict.REFUSED:
            grant.is_dead = True
            evidence.reuse_kills, evidence.access_token_outlives_reuse = True, lives
            if answer.said is not None:
                evidence.dead.append(("another of its family was reused", answer.said))
        elif answer.verdict is Verdict.ACCEPTED and evidence.reuse_kills is None:
            evidence.reuse_kills = False

    async def _revocations(self) -> None:
        """What revoking one token does to the other; the access token first, which ends less."""
        if not self._server.can_revoke:
            return
        self._tell("what revoking ends")
        await self._revoke_access()
        await self._revoke_refresh()

    async def _fresh(self, purpose: str) -> Throwaway | None:
        """A grant with a fresh pair of tokens."""
        grant = self._living()
        if grant is None:
            return await self._log_in(purpose)
        assert grant.newest.refresh is not None
        answer = await self._present(grant, grant.newest.refresh)
        if answer.verdict is Verdict.REFUSED:
            grant.is_dead = True
            return await self._log_in(purpose)
        return grant if answer.verdict in {Verdict.ACCEPTED, Verdict.EARLY} else None

    async def _revoke_access(self) -> None:
        grant = await self._fresh("what revoking an access token ends")
        if grant is None or grant.newest.access is None or grant.newest.refresh is None:
            return
        lived = await self._lives(grant.newest, grant.renewed_at)
        seen = Revoked(result=await self._server.revoke_access(grant.newest.access))
        self.evidence.revoked_access = seen
        if seen.result is not RevocationResult.REVOKED:
            return
        if lived:
            seen.ended_it = _not(await self._lives(grant.newest, grant.renewed_at))
        answer = await self._present(grant, grant.newest.refresh)
        if answer.verdict in {Verdict.ACCEPTED, Verdict.REFUSED}:
            seen.ended_other = grant.is_dead = answer.verdict is Verdict.REFUSED
        self._keep_words(answer, "its access token was revoked")

    async def _revoke_refresh(self) -> None:
        grant = self._living() or await self._log_in("what revoking a refresh token ends")
        refresh = grant.newest.refresh
        if refresh is None:
            return
        lived = await self._lives(grant.newest, grant.renewed_at)
        seen = Revoked(result=await self._server.revoke_refresh(refresh))
        self.evidence.revoked_refresh = seen
        if seen.result is not RevocationResult.REVOKED:
            return
        if lived:
            seen.ended_other = _not(await self._lives(grant.newest, grant.renewed_at))
        answer = await self._present(grant, refresh)
        if answer.verdict in {Verdict.ACCEPTED, Verdict.REFUSED}:
            seen.ended_it = grant.is_dead = answer.verdict is Verdict.REFUSED
        self._keep_words(answer, "revoked")

    async def _made_up(self) -> None:
        """How the server refuses a refresh token that never was, where none died."""
        answer = await self._server.present(Secret(secrets.token_urlsafe(32)))
        self._keep_words(answer, "never issued")

    async def _lives(self, tokens: Tokens, since: float) -> bool | None:
        """Whether the access token of TOKENS lives, which came at SINCE and is not at its end."""
        life = tokens.expires_in
        if tokens.access is None or (life is not None and self._server.now() - since > life - 1):
            return None
        return await self._server.lives(tokens.access)

    def _keep_words(self, answer: Answer, why: str) -> None:
        if answer.verdict is Verdict.REFUSED and answer.said is not None:
            self.evidence.dead.append((why, answer.said))


def _told(answer: Answer) -> str:
    said = answer.said
    if said is None:
        return answer.verdict.value
    status = "" if said.status is None else f" with status {said.status}"
    return f"{said.error}{status}"


def _is_over(result: RevocationResult) -> bool:
    return result is RevocationResult.REVOKED


def _not(known: bool | None) -> bool | None:  # noqa: FBT001  three values
    return None if known is None else not known
