"""One absence of Redis: which of the reasons it has in turn are worth a line. Pure."""

SETTLED = 2.0
"""Seconds from the first sight of another reason until it is told: a server that dies
shows a lost connection first and a refused one right after, and that is one event."""

TOLD_AGAIN = 60.0
"""Seconds before one reason is told again: two that take turns make no storm of lines."""


class Outage:
    """Remembers what was told of one absence; its instants never run backwards."""

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self._last_told: str | None = None
        self._told_at: dict[str, float] = {}
        self._seen_at: dict[str, float] = {}

    def is_news(self, reason: str, now: float) -> bool:
        """Whether REASON, why Redis cannot be used NOW, is to be told; it then counts as told."""
        seen_at = self._seen_at.setdefault(reason, now)
        if reason == self._last_told:
            return False
        is_first = self._last_told is None
        is_settled = now - seen_at >= SETTLED
        was_told = reason in self._told_at and now - self._told_at[reason] < TOLD_AGAIN
        if not is_first and (not is_settled or was_told):
            return False
        self._last_told, self._told_at[reason] = reason, now
        return True
