"""The kept answers of an open vault, each method one transaction; ``kept`` has the statements."""

from refresher.domain.grants import Grant, KeptAnswer, TokenSet
from refresher.vault import kept
from refresher.vault.adopting import adopt
from refresher.vault.changes import What, note
from refresher.vault.kept import Entry
from refresher.vault.rows import Run, Transaction


class Kept:
    """The kept answers of an open vault; every method is one transaction.

    Each raises ``VaultUnavailable`` when the vault refuses.
    """

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write, self._read = write, read

    async def of_kind(self, kind: str) -> list[tuple[str, int, float]]:
        """Those of KIND: grant name, attempt sequence, arrival."""
        return await self._read(lambda tx: kept.list_kept(tx.connection, kind))

    async def unreadable(self) -> list[KeptAnswer]:
        """The answers that nobody understood, oldest first."""
        return await self._read(lambda tx: kept.read_unreadable(tx.connection, tx.sealer))

    async def page(self, *, after: int, limit: int) -> list[Entry]:
        """Up to LIMIT kept answers with ids above AFTER, the oldest first."""
        return await self._read(lambda tx: kept.read_page(tx, after, limit))

    async def settle(self, answer: KeptAnswer, outcome: str) -> None:
        """Forget ANSWER, whose content has found its place: OUTCOME says which."""

        def write(tx: Transaction) -> None:
            detail = f"answer {answer.id}: {outcome}"
            note(tx, What.ANSWER_ADOPTED, name=answer.name, detail=detail)
            kept.forget(tx, answer.id)

        await self._write(write)

    async def adopt(self, kept_id: int, name: str | None, draw: float) -> Grant:
        """Give the refresh token of an orphan to a grant; see ``adopting.adopt``."""
        return await self._write(lambda tx: adopt(tx, kept_id, name, draw))

    async def drop(self, kept_id: int) -> Entry:
        """Forget the kept answer KEPT_ID, whatever is in it.

        Raises:
            UnknownAnswer: there is none.
        """
        return await self._write(lambda tx: kept.drop(tx, kept_id))

    async def drop_old(self, keep: float) -> list[Entry]:
        """Forget a page of those that came more than KEEP seconds ago; empty at the end."""
        if not await self._read(lambda tx: bool(kept.read_old(tx, keep))):
            return []
        return await self._write(lambda tx: [kept.drop(tx, one) for one in kept.read_old(tx, keep)])

    async def note_rescued_dropped(self, slot: int) -> None:
        """Note that an operator has dropped the answer in a SLOT of the rescue file."""
        detail = f"answer {kept.RESCUED}{slot}"
        await self._write(lambda tx: note(tx, What.ANSWER_DROPPED, detail=detail))

    async def keep_orphan(self, grant: Grant, tokens: TokenSet) -> None:
        """Keep TOKENS that may not enter GRANT; see ``keep_orphan``."""
        sequence = grant.attempt_sequence
        await self._write(lambda tx: kept.keep_orphan(tx, grant, sequence, tokens))
