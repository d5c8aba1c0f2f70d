"""What the refusal of a database means, and whom it concerns, whichever database it is."""

from typing import Protocol

from sqlalchemy.exc import DBAPIError

from refresher.errors import VaultUnavailable
from refresher.vault.postgresql import refusals as of_postgresql
from refresher.vault.sqlite import refusals as of_sqlite


class _Words(Protocol):
    def unavailable(self, error: DBAPIError) -> VaultUnavailable: ...
    def is_of_one_row(self, error: DBAPIError) -> bool: ...
    def is_passing(self, error: DBAPIError) -> bool: ...


def unavailable(error: DBAPIError) -> VaultUnavailable:
    """What ERROR means for a person; its own text may quote parameters."""
    return _words(error).unavailable(error)


def is_of_one_row(error: Exception) -> bool:
    """Whether ERROR, met at one row, says nothing about the others.

    A value that no type fits, text that is no UTF-8, a constraint or a trigger, a damaged
    page that only this row lies on.
    """
    if not isinstance(error, DBAPIError):
        return isinstance(error, ValueError | TypeError | LookupError | ArithmeticError)
    return _words(error).is_of_one_row(error)


def is_passing(error: DBAPIError) -> bool:
    """Whether the same, done again at once, may succeed, if nothing of it was written."""
    return _words(error).is_passing(error)


def _words(error: DBAPIError) -> _Words:
    # Every error of psycopg has one, be it None.
    return of_postgresql if hasattr(error.orig, "sqlstate") else of_sqlite
