"""Grants whose rows cannot be read or written, or opened: set aside in memory, each told once.

Damaged ones are left out of every statement (``reading``). Those whose access token no key
opens are not published, and what Redis has of them is left alone: the key may come back.
Both are tried again each minute, by the watch. Nothing is written into a row for it. Only a
claim pauses one that it cannot open, and only as the daemon that has the vault for itself:
where others share it, they may open what this one cannot, and do the work.
"""

from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.grants import Grant, GrantKind, GrantState, is_valid_name
from refresher.domain.reasons import Reason
from refresher.domain.repairs import repair
from refresher.logs import Event, emit
from refresher.vault.refusals import is_of_one_row
from refresher.vault.schema import grants

REPAIR = "refresher vault restore FILE, or: refresher remove {name}, then refresher login {name}"


class Aside:
    """The rows set aside, by id, with the grant's name where that can be read."""

    def __init__(self) -> None:
        self._names: dict[int, str | None] = {}
        self._on_trial: set[int] = set()
        self._unopened: dict[int, str] = {}
        self._unclaimed: dict[int, str] = {}

    @property
    def unopened(self) -> list[int]:
        """Rows whose access token no key opens."""
        return list(self._unopened)

    @property
    def unclaimed(self) -> list[int]:
        """Rows of which this replica opens too little to claim them; another one may."""
        return list(self._unclaimed)

    @property
    def shown_unopened(self) -> set[int]:
        """Rows whose grants people are to see as ``unopenable``."""
        return {*self._unopened, *self._unclaimed}

    @property
    def not_to_claim(self) -> list[int]:
        """Rows that no claim is to try."""
        return [*self.ids, *self._unclaimed]

    @property
    def ids(self) -> list[int]:
        """Rows to leave alone."""
        return [number for number in list(self._names) if number not in self._on_trial]

    def may_hold(self, name: str) -> bool:
        """Whether the grant NAME may be among them, for all that can be read."""
        names = list(self._names.values())
        return name in names or None in names or name in list(self._unopened.values())

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

    def put_unopened(self, grant: Grant, error: Exception) -> None:
        """Note that no key opens the access token of GRANT."""
        if grant.id not in self._unopened:
            self._unopened[grant.id] = grant.name
            _tell_unopened(grant, error)

    def put_unclaimed(self, grant: Grant, error: Exception) -> None:
        """Note that no key opens what a claim of GRANT needs."""
        self._unclaimed[grant.id] = grant.name
        if grant.id not in self._unopened:
            _tell_unopened(grant, error)

    def claimable(self, number: int) -> None:
        """A claim may try the row NUMBER again."""
        if (name := self._unclaimed.pop(number, None)) is not None:
            emit(Event.GRANT_READMITTED, grant=name)

    def opened(self, number: int) -> bool:
        """The access token of the row NUMBER opens, or nobody needs it; whether that is news."""
        return self._unopened.pop(number, None) is not None

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


def unopenable(grant: Grant) -> Grant:
    """GRANT as people are to see it while no key opens its tokens."""
    return replace(grant, state=GrantState.PAUSED, reason=Reason.UNREADABLE)


def _tell_unopened(grant: Grant, error: Exception) -> None:
    emit(
        Event.GRANT_SET_ASIDE,
        grant=grant.name,
        client=grant.client,
        error=type(error).__name__,
        reason=str(error),
        repair=repair(unopenable(grant)),
    )


def _read_name(connection: Connection, number: int) -> str | None:
    try:
        name = connection.scalar(sa.select(grants.c.name).where(grants.c.id == number))
    except Exception as error:
        if not is_of_one_row(error):
            raise
        return None
    return name if isinstance(name, str) and is_valid_name(name) else None
