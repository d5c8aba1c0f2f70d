"""What a refusal of PostgreSQL means for a person, and whom it concerns.

By its SQLSTATE alone (PostgreSQL manual, appendix A): the text of an error may quote what was
to be written. Only what the client library says of a failed connection is repeated.
"""

import re

from sqlalchemy.exc import DBAPIError, OperationalError

from refresher.errors import GrantSetAside, VaultUnavailable

_MEANINGS = {
    "53100": "the disk of the database is full",
    "53300": "the database has no connection left: raise max_connections, or run PgBouncer",
    "53": "the database is short of resources",
    "25006": "the database is read-only: a standby, or a server that was demoted",
    "42501": "the user of vault.url may not do this: it has to own the vault's tables",
    "42P01": "the vault's tables are gone: restore them with pg_restore",
    "55P03": "another transaction keeps rows of the vault locked",
    "57014": "the database did not answer in time",
    "57P": "the database is starting or ending",
    "40": "the database undid what others were in the way of",
    "58": "the database cannot use its files",
    "XX": "the database is damaged, or has a bug: see its log",
}
"""By SQLSTATE, or by how it begins."""

_UNREACHED = re.compile(r"connection to server .*? failed: (?:FATAL: +)?(.+)")

LONGEST_REASON = 200

SEVERED = frozenset({"25006", "57P01", "57P02", "57P03"})
"""After these a connection is of no use any more: another server takes the writes."""

_PASSING = frozenset({"40001", "40P01", "23505"})
"""What others were in the way of, and another try decides: a unique key too, for what was
looked for and not there may have come meanwhile."""


def unavailable(error: DBAPIError) -> VaultUnavailable:
    """What ERROR means for a person."""
    state = _state(error)
    if is_of_its_values(error):
        return GrantSetAside(f"one row of the vault cannot be read or written ({_name(error)})")
    for begin in (state, state[:3], state[:2]):
        if state and begin in _MEANINGS:
            return VaultUnavailable(f"{_MEANINGS[begin]} ({_name(error)})")
    if state or not isinstance(error, OperationalError):
        return VaultUnavailable(f"the database refused ({_name(error)})")
    if reasons := dict.fromkeys(_UNREACHED.findall(str(error.orig))):
        told = "; ".join(reasons)[:LONGEST_REASON]
        return VaultUnavailable(f"the database cannot be reached: {told}")
    return VaultUnavailable("the connection to the database was lost")


def is_of_one_row(error: DBAPIError) -> bool:
    """Whether ERROR, met at one row, says nothing about the others."""
    return is_of_its_values(error)


def is_of_its_values(error: DBAPIError) -> bool:
    """Whether ERROR is about what was to be read or written (classes 22 and 23)."""
    state = _state(error)
    return state[:2] in {"22", "23"} or (not state and type(error.orig).__name__ == "DataError")


def is_passing(error: DBAPIError) -> bool:
    """Whether the same, done again at once, may succeed: nothing of it was written."""
    return error.connection_invalidated or _state(error) in _PASSING


def _state(error: DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


def _name(error: DBAPIError) -> str:
    return f"{type(error.orig).__name__}, {_state(error) or 'no SQLSTATE'}"
