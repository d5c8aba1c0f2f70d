"""Answers that found no place in a grant, sealed and kept: ``unreadable`` and ``orphan``.

An unreadable one is what nobody understood; a later version may (``engine.recovery``
reads them again). An orphan is tokens that came too late for their authorization.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.grants import Grant, Intent, TokenSet
from refresher.domain.unread import KeptAnswer, RawAnswer
from refresher.errors import UnknownAnswer, VaultKeyError
from refresher.vault.changes import What, note
from refresher.vault.rows import Row, Sealer, Transaction
from refresher.vault.schema import kept_answers
from refresher.vault.sealing import Place

UNREADABLE, ORPHAN = "unreadable", "orphan"

UNREADABLE_KEPT = 5
"""Unreadable answers kept for one grant; orphans are kept as long as ``[vault] keep`` says."""

DROPPED_AT_ONCE = 100

RESCUED = "rescue-"
"""What names an answer in the rescue file, before the number of its slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What can be said of one kept answer without telling a secret of it."""

    id: int
    kind: str
    name: str
    received_at: float
    client: str | None = None
    """None where it is not known any more."""
    has_refresh_token: bool | None = None
    """None: nobody can tell."""
    is_opened: bool = True
    """Some key of the key file opens it."""


def keep_unreadable(tx: Transaction, grant: Grant, intent: Intent, answer: RawAnswer) -> None:
    """Keep ANSWER to the exchange of INTENT with all it takes to commit it one day."""
    content = {
        "authorization_serial": grant.authorization_serial,
        "intent": intent_fields(intent),
        "answer": raw_fields(answer),
    }
    _insert(tx, grant, intent.sequence, UNREADABLE, content)
    newest = (
        sa.select(kept_answers.c.id)
        .where(kept_answers.c.grant_uid == grant.uid, kept_answers.c.kind == UNREADABLE)
        .order_by(kept_answers.c.id.desc())
        .limit(UNREADABLE_KEPT)
    )
    tx.connection.execute(
        sa.delete(kept_answers).where(
            kept_answers.c.grant_uid == grant.uid,
            kept_answers.c.kind == UNREADABLE,
            kept_answers.c.id.not_in(newest),
        )
    )


def keep_orphan(tx: Transaction, grant: Grant, sequence: int, tokens: TokenSet) -> None:
    """Keep TOKENS that may not enter GRANT: nothing is ever thrown away."""
    access, refresh = tokens.access_token, tokens.refresh_token
    content = {
        "client": grant.client,
        "access_token": access.reveal() if access else None,
        "refresh_token": refresh.reveal() if refresh else None,
        "expires_at": tokens.expires_at,
        "scope": tokens.scope,
    }
    note(tx, What.ANSWER_ORPHANED, grant)
    _insert(tx, grant, sequence, ORPHAN, content)


def read_unreadable(connection: Connection, sealer: Sealer) -> list[KeptAnswer]:
    """Every answer kept because nobody understood it, oldest first.

    One that no key opens waits for its key to be put back.
    """
    statement = (
        sa.select(kept_answers).where(kept_answers.c.kind == UNREADABLE).order_by(kept_answers.c.id)
    )
    found = []
    for row in connection.execute(statement).mappings():
        with suppress(VaultKeyError):
            found.append(_kept_answer(row, sealer))
    return found


def forget(tx: Transaction, kept_id: int) -> None:
    """Drop a kept answer whose content is in its grant, or among the orphans, now."""
    tx.connection.execute(sa.delete(kept_answers).where(kept_answers.c.id == kept_id))


def row_of(tx: Transaction, kept_id: int) -> sa.RowMapping:
    """The row of the kept answer KEPT_ID.

    Raises:
        UnknownAnswer: there is none.
    """
    statement = sa.select(kept_answers).where(kept_answers.c.id == kept_id)
    row = tx.connection.execute(statement).mappings().one_or_none()
    if row is None:
        raise UnknownAnswer(str(kept_id))
    return row


def read_page(tx: Transaction, after: int, limit: int) -> list[Entry]:
    """See ``Kept.page``."""
    statement = (
        sa.select(kept_answers)
        .where(kept_answers.c.id > after)
        .order_by(kept_answers.c.id)
        .limit(limit)
    )
    return [_entry(row, tx.sealer) for row in tx.connection.execute(statement).mappings()]


def drop(tx: Transaction, kept_id: int) -> Entry:
    """See ``Kept.drop``."""
    entry = _entry(row_of(tx, kept_id), tx.sealer)
    note(tx, What.ANSWER_DROPPED, name=entry.name, detail=f"answer {kept_id}: {entry.kind}")
    forget(tx, kept_id)
    return entry


def opened(row: sa.RowMapping, sealer: Sealer) -> dict[str, Any]:
    """What is in the kept answer of ROW.

    Raises:
        VaultKeyError: no key opens it.
    """
    content: dict[str, Any] = json.loads(sealer.keyring.open(row["sealed"], place_of(row)))
    return content


def list_kept(connection: Connection, kind: str) -> list[tuple[str, int, float]]:
    """Name, attempt sequence and arrival of every kept answer of KIND."""
    statement = sa.select(
        kept_answers.c.grant_name, kept_answers.c.sequence, kept_answers.c.received_at
    ).where(kept_answers.c.kind == kind)
    return [(name, sequence, at) for name, sequence, at in connection.execute(statement)]


def place_of(row: Row) -> Place:
    """What the answer kept in ROW is sealed for."""
    return _place(row["grant_uid"], row["grant_name"], row["sequence"], row["kind"])


def intent_fields(intent: Intent) -> dict[str, Any]:
    """INTENT as JSON takes it."""
    return asdict(intent) | {"presented": intent.presented.hex()}


def read_intent(fields: Mapping[str, Any]) -> Intent:
    """The intent that ``intent_fields`` wrote."""
    return Intent(**dict(fields) | {"presented": bytes.fromhex(fields["presented"])})


def raw_fields(answer: RawAnswer) -> dict[str, Any]:
    """ANSWER as JSON takes it."""
    return asdict(answer) | {"body": b64encode(answer.body).decode()}


def read_raw(fields: Mapping[str, Any]) -> RawAnswer:
    """The answer that ``raw_fields`` wrote."""
    return RawAnswer(**dict(fields) | {"body": b64decode(fields["body"])})


def _insert(
    tx: Transaction, grant: Grant, sequence: int, kind: str, content: dict[str, Any]
) -> None:
    place = _place(grant.uid, grant.name, sequence, kind)
    sealed = tx.sealer.keyring.seal(json.dumps(content).encode(), place)
    tx.connection.execute(
        sa.insert(kept_answers).values(
            grant_uid=grant.uid,
            grant_name=grant.name,
            sequence=sequence,
            kind=kind,
            received_at=tx.now,
            sealed=sealed,
        )
    )


def _kept_answer(row: sa.RowMapping, sealer: Sealer) -> KeptAnswer:
    content = opened(row, sealer)
    return KeptAnswer(
        id=row["id"],
        name=row["grant_name"],
        uid=row["grant_uid"],
        authorization_serial=content["authorization_serial"],
        intent=read_intent(content["intent"]),
        answer=read_raw(content["answer"]),
    )


def _entry(row: sa.RowMapping, sealer: Sealer) -> Entry:
    entry = Entry(
        id=row["id"], kind=row["kind"], name=row["grant_name"], received_at=row["received_at"]
    )
    try:
        content = opened(row, sealer)
    except VaultKeyError:
        return replace(entry, is_opened=False)
    if row["kind"] != ORPHAN:
        return entry
    held = content["refresh_token"] is not None
    return replace(entry, client=content.get("client"), has_refresh_token=held)


def read_old(tx: Transaction, keep: float) -> list[int]:
    """Some of the kept answers that came more than KEEP seconds ago."""
    old = sa.select(kept_answers.c.id).where(kept_answers.c.received_at < tx.now - keep)
    return list(tx.connection.scalars(old.order_by(kept_answers.c.id).limit(DROPPED_AT_ONCE)))


def _place(uid: str, name: str, sequence: int, kind: str) -> Place:
    return Place(uid, kind, (name, sequence))
