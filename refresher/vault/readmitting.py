"""Rows that were set aside: tried again, until they can be read and written."""

from refresher.errors import GrantSetAside
from refresher.vault import queries
from refresher.vault.aside import Aside
from refresher.vault.database import Database
from refresher.vault.reading import try_again
from refresher.vault.rows import Run, Sealer, grant_of


class Readmitting:
    """Tries the rows of ASIDE again; see there."""

    def __init__(self, database: Database, write: Run, sealer: Sealer, aside: Aside) -> None:
        self._database, self._write = database, write
        self._sealer, self._aside = sealer, aside

    async def look(self) -> list[str]:
        """Try all of them; the names of those that are sound now."""
        sound: list[str] = []
        for number in self._aside.try_again():
            if (name := await self._try_again(number)) is not None:
                self._aside.readmit(number)
                sound.append(name)
        sound += await self._database.read(
            lambda c: queries.open_again(c, self._sealer, self._aside)
        )
        return sound

    async def put(self, number: int, error: GrantSetAside) -> None:
        """Set the row NUMBER aside because of ERROR."""
        await self._database.read(lambda c: self._aside.put(c, number, error))

    async def _try_again(self, number: int) -> str | None:
        try:
            return await self._write(lambda tx: try_again(tx, number, grant_of))
        except GrantSetAside as error:
            await self.put(number, error)
            return None
