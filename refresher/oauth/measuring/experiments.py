"""What a server is asked to find out how it treats refresh tokens, in the fewest logins.

One grant serves for as many questions as it survives. The questions that may end it come
last, and a new login is asked for only when it did.
"""

import secrets
from dataclasses import replace

from refresher.domain.secret import Secret
from refresher.errors import AuthorizationFailed
from refresher.oauth.measuring.asking import STEP, Asking, told
from refresher.oauth.measuring.observed import (
    Answer,
    Brings,
    Evidence,
    Phase,
    Replay,
    Revoked,
    Throwaway,
    Verdict,
    compared,
)
from refresher.oauth.revocation import RevocationResult

MOST_LOGINS = 5
"""One for what may end the grant, one for how long, one for whether that was time, one for
revoking each token."""

MOST_LOGINS_WITHOUT_REVOCATION = 3

NO_REFRESH_TOKEN = (
    "the login brought no refresh token: ask for the scope offline_access, or set what else makes "
    'one come, such as authorization_parameters = { access_type = "offline" }'
)

REPLAYS_AT_ONCE = 5
"""Presented in a row before time is measured: a refusal among them is a count, not a time."""

MOST_COUNTED = 20
"""Replays up to which a count may have ended a window: with more it was time."""

AT_ONCE = 2.0
"""Seconds within which a refusal among them is one."""

SHORTEST_STEP = 0.5
"""Seconds between two replays that measure a window, which grow by ``STEP``."""

FAILURES_IN_A_ROW = 3
"""Replays without a clear answer after which nothing more is learned."""


class Experiments(Asking):
    """Asks a server everything, and keeps what it answered."""

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
            late = None if grant.is_dead else await self._once_ended(grant)
            if late is None:
                return
            refreshed = late
        self._tell("a refresh brings another refresh token; the used one again")
        is_answered = await self._at_once(grant, used, refreshed)
        if is_answered:
            await self._after_use(grant, used, refreshed)
            await self._how_long()

    async def _once_ended(self, grant: Throwaway) -> Answer | None:
        """What brings another refresh token once the access token of GRANT has ended, if that does.

        Some servers let a refresh token be while there is an access token that lives.
        """
        used, life = grant.newest.refresh, grant.newest.expires_in
        assert used is not None
        if life is None or not await self._until_end(grant, life):
            return None
        answer = await self._when_not_early(grant, used)
        self._keep_words(answer, "its access token had ended")
        if answer.tokens is None:
            return None
        self.evidence.rotates_late = answer.tokens.refresh not in {None, used}
        if not self.evidence.rotates_late:
            return None
        # What was seen of a refresh token that was left alone says nothing of one that is used.
        self.evidence.refreshed = answer
        self.evidence.replays.clear()
        return answer

    async def _until_end(self, grant: Throwaway, life: float) -> bool:
        """Wait for the end of the access token of GRANT; False where there is no time for it."""
        left = grant.renewed_at + life + 1.0 - self._server.now()
        if left <= self._left:
            self._tell(f"for {left:.0f} s: until its access token has ended")
        return await self._sleep(max(0.0, left))

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
                self.evidence.remarks.append(f"a replay is not answered: {told(replay.answer)}")
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
        used, refreshed = await self._used(grant)
        if used is None or refreshed is None:
            return
        self._tell(f"for up to {self._left:g} s: the used one again and again")
        failures = accepted = 0
        while failures < FAILURES_IN_A_ROW:
            age = self._server.now() - refreshed.answered_at
            step = min(max(SHORTEST_STEP, STEP * age), self._left)
            if step < SHORTEST_STEP or not await self._sleep(step):
                return
            replay = await self._replay(grant, used, refreshed, Phase.WAITING)
            if replay.answer.verdict is Verdict.REFUSED:
                self._keep_words(replay.answer, "used before")
                await self._after_reuse(grant)
                if 0 < accepted <= MOST_COUNTED:
                    await self._time_or_count(replay, accepted)
                return
            is_clear = replay.answer.verdict is Verdict.ACCEPTED
            accepted += is_clear
            failures = 0 if is_clear else failures + 1
        self.evidence.remarks.append("replays are not answered any more")

    async def _used(self, grant: Throwaway) -> tuple[Secret | None, Answer | None]:
        """A refresh token of GRANT that was used just now, and what it brought."""
        used, life = grant.newest.refresh, grant.newest.expires_in
        is_late = self.evidence.rotates_late and life is not None
        if is_late and not await self._until_end(grant, life or 0.0):
            return None, None
        return used, None if used is None else await self._refresh(grant)

    async def _time_or_count(self, refused: Replay, accepted: int) -> None:
        """Whether the replay REFUSED came too late, or after too many that were ACCEPTED.

        One is presented for the first time when it is as old as that.
        """
        purpose = "whether time or a count ends that"
        grant = self._living() or await self._log_in(purpose)
        used, refreshed = await self._used(grant)
        if used is None or refreshed is None or not await self._sleep(refused.most_age + 1.0):
            return
        replay = await self._replay(grant, used, refreshed, Phase.ALONE)
        if replay.answer.verdict is Verdict.ACCEPTED:
            self.evidence.counted = accepted
        elif replay.answer.verdict is Verdict.REFUSED:
            await self._after_reuse(grant)

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


def _not(known: bool | None) -> bool | None:  # noqa: FBT001  three values
    return None if known is None else not known
