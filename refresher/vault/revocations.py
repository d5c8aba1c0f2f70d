"""Authorizations that an operator ended, and their tokens until the server has revoked them.

The decision is durable before any request leaves: a row says which authorization ended, and
holds the tokens that have still to be revoked. Once they are, the row stays without them:
it is the mark by which an answer that comes later is known to belong to that authorization.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.authorizing import without_tokens
from refresher.domain.grants import Grant, GrantState, TokenSet
from refresher.domain.reasons import Reason
from refresher.domain.secret import Secret
from refresher.errors import GrantConflict, VaultKeyError
from refresher.vault.authorizations import (
    NO_SECRETS,
    existing_row,
    owner_of,
    write,
)
from refresher.vault.changes import What, note
from refresher.vault.kept import UNREADABLE
from refresher.vault.rows import Row, Run, Transaction, grant_of
from refresher.vault.schema import grants, kept_answers, revocations
from refresher.vault.sealing import Place
from refresher.vault.spent import remember_spent

LONGEST = 30 * 86_400.0
"""Seconds a revocation is tried at the most, and for which the mark of one stays."""

SHORTEST = 3_600.0
"""Seconds it is tried at the least: the known end of a token is by somebody else's clock."""

LONGEST_WAIT = 6 * 3_600.0
"""Seconds between two tries at the most; one due later than that was dated by a clock ahead."""

_SEALED = "revocation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """An authorization that was ended just now."""

    before: Grant
    after: Grant
    was_out: bool
    """An exchange of it was under way."""

    @property
    def is_unresolved(self) -> bool:
        """Whether an exchange of it was never answered: it may have spent what was parked."""
        intent = self.before.intent
        return intent is not None and (intent.is_replay or not self.was_out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """Tokens of one ended authorization that are to be revoked at their server."""

    id: int
    client: str
    name: str
    """Of the grant, which may be removed or belong to somebody else by now."""
    uid: str
    parked_at: float
    ends_at: float
    due_at: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedTokens:
    """What one try to revoke needs."""

    refresh_token: Secret | None = None
    access_token: Secret | None = None
    owner: str | None = None
    """The grant that holds the same refresh token now: revoking it would end that grant."""
    unopened: str | None = None
    """Why they cannot be opened: no key in the key file does."""


class Revocations:
    """The ended authorizations of an open vault; every method is one transaction.

    Each raises ``VaultUnavailable`` when the vault refuses.
    """

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write = write
        self._read = read

    async def end(
        self, name: str, is_revocable: Callable[[Secret | None, Secret | None], bool]
    ) -> Ended | None:
        """End the authorization of a grant; see ``end``."""
        return await self._write(lambda tx: end(tx, name, is_revocable))

    async def parked(self, uid: str | None = None) -> list[Parked]:
        """What has still to be revoked, of the grant UID or of all, the oldest first."""
        return await self._read(lambda tx: list_parked(tx.connection, uid))

    async def waiting(self) -> dict[str, tuple[float, float]]:
        """Of each client with something to revoke: when the first is due, and the first ends."""
        return await self._read(lambda tx: sum_up(tx.connection))

    async def due(self, clients: Collection[str]) -> Parked | None:
        """What is due longest of CLIENTS, if anything is."""
        return await self._read(lambda tx: find_due(tx, clients))

    async def take(self, parked: Parked, due_at: float) -> ParkedTokens | None:
        """Begin one try; see ``take``."""
        return await self._write(lambda tx: take(tx, parked.id, due_at))

    async def settle(self, parked: Parked) -> None:
        """Forget revoked tokens; see ``settle``."""
        await self._write(lambda tx: settle(tx, parked.id))

    async def drop_ended(self) -> list[Parked]:
        """Give up what has come to its end; see ``drop_ended``."""
        return await self._write(drop_ended)


def end(
    tx: Transaction, name: str, is_revocable: Callable[[Secret | None, Secret | None], bool]
) -> Ended | None:
    """End the authorization of NAME and park its tokens, due now.

    Nothing is claimed of it any more, no answer to an older exchange counts, and nothing is
    left to publish.

    Args:
        is_revocable: of its refresh token and its access token, whether the server revokes
            one of them.

    Returns:
        None where it holds nothing that can be revoked, and nothing has changed.

    Raises:
        UnknownGrant: there is none of this name.
        GrantConflict: another grant holds the same refresh token.
        VaultKeyError: no key opens its tokens.
    """
    row = existing_row(tx, name)
    stored = grant_of(row)
    refresh_token, access_token = tx.sealer.tokens(row)
    if not is_revocable(refresh_token, access_token):
        return None
    if refresh_token is not None:
        owner = owner_of(tx, stored.client, refresh_token, but=stored.id)
        if owner is not None:
            raise GrantConflict(
                f"grant {name} was not revoked: grant {owner} holds the same refresh token and "
                f"would end with it; `refresher remove {name}` forgets this one alone"
            )
    parked = [(refresh_token, access_token)]
    if row["predecessor_sealed"] is not None:
        # On probation: which of both refresh tokens the server takes is not known yet.
        parked.append((tx.sealer.predecessor(row), None))
    known_end = stored.expires_at if refresh_token is None else stored.refresh_token_expires_at
    for tokens in parked:
        _park(tx, stored, *tokens, known_end=known_end)
    note(tx, What.REVOKED, stored)
    after = without_tokens(stored, GrantState.REAUTHORIZATION_REQUIRED, Reason.REVOKED_HERE, tx.now)
    return Ended(
        before=stored,
        after=write(tx, after, dict(NO_SECRETS)),
        was_out=row["lease_holder"] is not None,
    )


def park_late(tx: Transaction, claimed: Grant, tokens: TokenSet) -> bool:
    """Park TOKENS that came for the authorization CLAIMED, if ``revoke`` has ended that.

    Returns:
        False where it ended otherwise (removal, login, import): what came may be the only
        good tokens of whoever took the grant over, and is nobody's to revoke.
    """
    mark = (
        tx.connection.execute(
            sa.select(revocations.c.client, revocations.c.grant_name).where(
                revocations.c.grant_uid == claimed.uid,
                revocations.c.authorization_serial == claimed.authorization_serial,
            )
        )
        .mappings()
        .first()
    )
    if mark is None:
        return False
    # Not the grant's own name and client: its row may belong to a later grant by now.
    ended = replace(claimed, client=mark["client"], name=mark["grant_name"])
    alone = tokens.refresh_token is None
    known_end = tokens.expires_at if alone else tokens.refresh_token_expires_at
    _park(tx, ended, tokens.refresh_token, tokens.access_token, known_end=known_end)
    return True


def list_parked(
    connection: Connection, uid: str | None = None, *, names: Collection[str] | None = None
) -> list[Parked]:
    """What has still to be revoked, of the grant UID, of NAMES or of all, the oldest first."""
    statement = _PARKED.order_by(revocations.c.id)
    if names is not None:
        # The same as sealed, by the index of the names.
        parked = sa.and_(revocations.c.due_at.is_not(None), revocations.c.grant_name.in_(names))
        statement = statement.where(parked)
    if uid is not None:
        statement = statement.where(revocations.c.grant_uid == uid)
    return [_parked(row) for row in connection.execute(statement).mappings()]


def sum_up(connection: Connection) -> dict[str, tuple[float, float]]:
    """When the first is due and the first ends, by client; read from an index alone."""
    summed = (
        sa.select(
            revocations.c.client,
            sa.func.min(revocations.c.due_at),
            sa.func.min(revocations.c.ends_at),
        )
        .where(revocations.c.due_at.is_not(None))  # what is done is due no more
        .group_by(revocations.c.client)
    )
    return {client: (due_at, ends_at) for client, due_at, ends_at in connection.execute(summed)}


def find_due(tx: Transaction, clients: Collection[str]) -> Parked | None:
    """What is due longest of CLIENTS, if anything is."""
    statement = (
        _PARKED.where(
            revocations.c.client.in_(clients),
            sa.or_(
                revocations.c.due_at <= tx.now,
                revocations.c.due_at > tx.now + 2 * LONGEST_WAIT,
            ),
        )
        .order_by(revocations.c.due_at, revocations.c.id)
        .limit(1)
    )
    row = tx.connection.execute(statement).mappings().first()
    return None if row is None else _parked(row)


def take(tx: Transaction, parked_id: int, due_at: float) -> ParkedTokens | None:
    """Count one more try of PARKED_ID, the next one due at DUE_AT, and open its tokens.

    Written before the request: whatever becomes of the process or the vault, no server is
    asked again and again.

    Returns:
        None when it was settled meanwhile.
    """
    row = (
        tx.connection.execute(sa.select(revocations).where(revocations.c.id == parked_id))
        .mappings()
        .one_or_none()
    )
    if row is None or row["sealed"] is None:
        return None
    tx.connection.execute(
        sa.update(revocations)
        .where(revocations.c.id == parked_id)
        .values(attempts=row["attempts"] + 1, due_at=due_at)
    )
    try:
        plain = tx.sealer.keyring.open(row["sealed"], place_of(row))
    except VaultKeyError as error:
        return ParkedTokens(unopened=str(error))
    refresh_token, access_token = (
        None if value is None else Secret(value) for value in json.loads(plain)
    )
    owner = None
    if refresh_token is not None:
        owner = owner_of(tx, row["client"], refresh_token, but=None)
    return ParkedTokens(refresh_token=refresh_token, access_token=access_token, owner=owner)


def settle(tx: Transaction, parked_id: int) -> None:
    """Forget the tokens of PARKED_ID; the row stays as the mark of its authorization."""
    _become_mark(tx, revocations.c.id == parked_id)


def drop_ended(tx: Transaction) -> list[Parked]:
    """Forget the tokens whose time to be revoked is over, and marks that are no longer needed.

    A mark outlives its time while an answer of its grant lies unread: a later version may
    read it, and what is in it must not live on.

    Returns:
        What was given up.
    """
    ended = sa.and_(revocations.c.sealed.is_not(None), revocations.c.ends_at <= tx.now)
    dropped = [_parked(row) for row in tx.connection.execute(_PARKED.where(ended)).mappings()]
    if dropped:
        _become_mark(tx, ended)
    unread = (
        sa.select(kept_answers.c.id)
        .where(
            kept_answers.c.grant_uid == revocations.c.grant_uid, kept_answers.c.kind == UNREADABLE
        )
        .exists()
    )
    tx.connection.execute(
        sa.delete(revocations).where(
            revocations.c.sealed.is_(None), revocations.c.ends_at <= tx.now, ~unread
        )
    )
    return dropped


def is_out(connection: Connection, grant: Grant) -> bool:
    """Whether the latest exchange that GRANT knows of is still under way.

    One that was claimed since, under a newer authorization, is another one.
    """
    leased = sa.and_(
        grants.c.uid == grant.uid,
        grants.c.attempt_sequence == grant.attempt_sequence,
        grants.c.lease_holder.is_not(None),
    )
    return connection.scalar(sa.select(grants.c.id).where(leased)) is not None


_PARKED = sa.select(
    *(column for column in revocations.c if column is not revocations.c.sealed)
).where(revocations.c.sealed.is_not(None))


def _park(
    tx: Transaction,
    ended: Grant,
    refresh_token: Secret | None,
    access_token: Secret | None,
    *,
    known_end: float | None,
) -> None:
    """Write down that the tokens of the authorization ENDED are to be revoked, due now."""
    if refresh_token is not None:
        remember_spent(tx, ended, tx.sealer.fingerprint(refresh_token))
    values: Sequence[str | None] = [
        None if token is None else token.reveal() for token in (refresh_token, access_token)
    ]
    last = tx.now + LONGEST
    if known_end is not None:
        last = min(last, max(known_end, tx.now + SHORTEST))
    client, serial = ended.client or "", ended.authorization_serial
    place = _place(ended.uid, client, ended.name, serial)
    tx.connection.execute(
        sa.insert(revocations).values(
            client=client,
            grant_name=ended.name,
            grant_uid=ended.uid,
            authorization_serial=serial,
            parked_at=tx.now,
            ends_at=last,
            due_at=tx.now,
            attempts=0,
            sealed=tx.sealer.keyring.seal(json.dumps(values).encode(), place),
        )
    )


def place_of(row: Row) -> Place:
    """What the tokens parked in ROW are sealed for: among others, the server that gets them."""
    client, serial = row["client"], row["authorization_serial"]
    return _place(row["grant_uid"], client, row["grant_name"], serial)


def _place(uid: str, client: str, name: str, serial: int) -> Place:
    return Place(uid, _SEALED, (client, name, serial))


def _become_mark(tx: Transaction, which: sa.ColumnElement[bool]) -> None:
    tx.connection.execute(
        sa.update(revocations)
        .where(which)
        .values(sealed=None, due_at=None, ends_at=revocations.c.parked_at + LONGEST)
    )


def _parked(row: sa.RowMapping) -> Parked:
    return Parked(
        id=row["id"],
        client=row["client"],
        name=row["grant_name"],
        uid=row["grant_uid"],
        parked_at=row["parked_at"],
        ends_at=row["ends_at"],
        due_at=row["due_at"],
        attempts=row["attempts"],
    )
