"""Grants whose rows cannot be read or written: set aside in memory, each told once.

They are left out of every statement (``reading``) and tried again each minute, by the
watch.
"""

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.grants import Grant, GrantKind, GrantState, is_valid_name
from refresher.domain.reasons import Reason
from refresher.logs import Event, emit
from refresher.vault.refusals import is_of_one_row
from refresher.vault.schema import grants

REPAIR = "refresher vault restore FILE, or: refresher remove {name}, then refresher login {name}"


class Aside:
    """The rows set aside, by id, with the grant's name where that can be read."""

    def __init__(self) -> None:
        self._names: dict[int, str | None] = {}
        self._on_trial: set[int] = set()

    @property
    def ids(self) -> list[int]:
        """Rows to leave alone."""
        return [number for number in list(self._names) if number not in self._on_trial]

    def may_hold(self, name: str) -> bool:
        """Whether the grant NAME may be among them, for all that can be read."""
        names = list(self._names.values())
        return name in names or None in names

    def put(self, connection: Connection, number: int, error: Exception) -> None:
        """Set the row NUMBER aside because of ERROR, whose text may quote what is in it."""
        self._on_trial.discard(number)
        if number in self._names:
            return
        name = self._names[number] = _read_name(connection, number)
        emit(
            Event.GRANT_SET_ASIDE,
            grant=name or f"row {number}",
            error=type(error).__name__,
            repair=REPAIR.format(name=name or "NAME"),
        )

    def try_again(self) -> list[int]:
        """Let every row be read and written again, and tell none of them again."""
        self._on_trial = set(self._names)
        return list(self._names)

    def readmit(self, number: int) -> None:
        """The row NUMBER can be read and written again."""
        name = self._names.pop(number, None)
        self._on_trial.discard(number)
        emit(Event.GRANT_READMITTED, grant=name or f"row {number}")

    def grants(self) -> list[Grant]:
        """What can be said of them."""
        return [
            Grant(
                id=number,
                uid="",
                name=name or f"row {number}",
                kind=GrantKind.REFRESHABLE,
                client=None,
                origin="runtime",
                state=GrantState.PAUSED,
                reason=Reason.DAMAGED,
            )
            for number, name in list(self._names.items())
        ]


def _read_name(connection: Connection, number: int) -> str | None:
    try:
        name = connection.scalar(sa.select(grants.c.name).where(grants.c.id == number))
    except Exception as error:
        if not is_of_one_row(error):
            raise
        return None
    return name if isinstance(name, str) and is_valid_name(name) else None
