"""The statements of an export: refresh tokens leave, and their grants are paused for it.

Two owners of one refresh token that rotates end its grant, so what is handed out is not sent
from here any more: both happen in one transaction.
"""

from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from refresher.domain.grants import Grant, GrantKind, GrantState
from refresher.domain.pauses import is_ordered, paused
from refresher.domain.reasons import Reason
from refresher.domain.secret import Secret
from refresher.errors import VaultKeyError
from refresher.vault.authorizations import write
from refresher.vault.changes import What, note
from refresher.vault.reading import guarded
from refresher.vault.rows import Transaction, grant_of
from refresher.vault.selecting import Selection, read_page


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A grant that may have another owner from now on."""

    grant: Grant
    """As it is now: paused."""
    refresh_token: Secret
    access_token: Secret | None
    token_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """A grant that was not exported."""

    name: str
    why: str
    is_worth_a_try: bool
    """It has a refresh token: another export may bring it."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the grants of an export."""

    exported: list[Exported]
    left_out: list[LeftOut]
    last: int | None
    """Id of the last of them, from which the next page goes on; None at the end."""


def take_out(tx: Transaction, selected: Selection, after: int) -> Page:
    """Hand out the refresh tokens of a page of SELECTED with ids above AFTER, and pause them."""
    rows = read_page(tx, selected.condition(), after, _sound)
    if not rows:
        known = [] if selected.names is not None else tx.aside.grants()
        damaged = [_left_out(grant, "its row cannot be read", again=True) for grant in known]
        return Page([], damaged, None)
    taken = [guarded(tx, row["id"], partial(_take_out_one, tx, row)) for row in rows]
    return Page(
        [one for one in taken if isinstance(one, Exported)],
        [one for one in taken if isinstance(one, LeftOut)],
        rows[-1]["id"],
    )


def _sound(row: sa.RowMapping) -> sa.RowMapping:
    grant_of(row)
    return row


def _take_out_one(tx: Transaction, row: sa.RowMapping) -> Exported | LeftOut:
    grant = grant_of(row)
    if (left_out := _kept_back(grant)) is not None:
        return left_out
    try:
        refresh_token, access_token = tx.sealer.tokens(row)
    except VaultKeyError:
        return _left_out(grant, "no key opens its tokens", again=True)
    assert refresh_token is not None
    after = paused(grant, tx.now, until=None, reason=Reason.EXPORTED_HERE)
    note(tx, What.EXPORTED, grant)
    return Exported(
        grant=write(tx, after, {}),
        refresh_token=refresh_token,
        access_token=access_token,
        token_type=row["token_type"],
    )


def _kept_back(grant: Grant) -> LeftOut | None:
    """GRANT if its refresh token, where it has one, is not known to be good and unspent."""
    if grant.kind is GrantKind.STATIC:
        return _left_out(grant, "it is a static token", again=False)
    if grant.state is GrantState.REAUTHORIZATION_REQUIRED:
        return _left_out(grant, f"it is lost ({grant.reason})", again=False)
    if grant.refresh_token_fingerprint is None:
        return _left_out(grant, f"it has no refresh token ({grant.reason})", again=False)
    if grant.intent is not None:
        why = "an exchange of it is open, which may have spent its refresh token"
        return _left_out(grant, why, again=True)
    if grant.on_probation:
        return _left_out(grant, "its refresh token was not proven by a refresh yet", again=True)
    if grant.state is GrantState.PAUSED and not is_ordered(grant):
        return _left_out(grant, f"it waits for a decision ({grant.reason})", again=True)
    return None


def _left_out(grant: Grant, why: str, *, again: bool) -> LeftOut:
    return LeftOut(name=grant.name, why=why, is_worth_a_try=again)
