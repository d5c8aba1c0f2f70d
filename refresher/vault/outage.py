"""Whether the vault refuses or hangs just now: one outage is told once, whoever meets it."""

from refresher.domain.repairs import VAULT
from refresher.logs import Event, emit


class Outage:
    """Knows who has met a refusal and has not seen the vault take a write since."""

    def __init__(self) -> None:
        self._met: set[object] = set()

    @property
    def is_on(self) -> bool:
        """Whether the vault cannot be written, as far as anybody knows."""
        return bool(self._met)

    def met(self, by: object, reason: str | None) -> None:
        """BY was refused, or waits in vain: told if nobody else knew.

        Args:
            reason: None where BY has told it itself.
        """
        if not self._met and reason is not None:
            emit(Event.VAULT_REFUSED, reason=reason, repair=VAULT)
        self._met.add(by)

    def over(self, by: object) -> None:
        """The vault took what BY had to write: told if nobody else still waits."""
        if by in self._met:
            self._met.discard(by)
            if not self._met:
                emit(Event.VAULT_RECOVERED)

    def forget(self, by: object) -> None:
        """BY has given up, which says nothing about the vault."""
        self._met.discard(by)
