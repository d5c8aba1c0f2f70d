"""How every experiment asks: logins, refreshes, waits, and what is cleaned up in the end."""

from collections.abc import Callable
from dataclasses import replace

from refresher.domain.secret import Secret
from refresher.oauth.measuring.observed import (
    Answer,
    Brings,
    Evidence,
    Server,
    Throwaway,
    Tokens,
    Verdict,
)
from refresher.oauth.revocation import RevocationResult

STEP = 0.05
"""A share of an age, or of a life, that one wait is."""

MOST_REVOKED = 10
"""Refresh tokens of one grant that are revoked when it is over, the newest first."""


class Asking:
    """Presents tokens to SERVER, and keeps what it answered and what is to be cleaned up.

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
                f"the first refresh brought nothing ({told(answer)}): check client_id, "
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

    async def _lives(self, tokens: Tokens, since: float) -> bool | None:
        """Whether the access token of TOKENS lives, which came at SINCE and is not at its end."""
        life = tokens.expires_in
        if tokens.access is None or (life is not None and self._server.now() - since > life - 1):
            return None
        return await self._server.lives(tokens.access)

    def _keep_words(self, answer: Answer, why: str) -> None:
        if answer.verdict is Verdict.REFUSED and answer.said is not None:
            self.evidence.dead.append((why, answer.said))


def told(answer: Answer) -> str:
    """What ANSWER said, in a few words."""
    said = answer.said
    if said is None:
        return answer.verdict.value
    status = "" if said.status is None else f" with status {said.status}"
    return f"{said.error}{status}"


def _is_over(result: RevocationResult) -> bool:
    return result is RevocationResult.REVOKED
