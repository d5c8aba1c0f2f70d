"""Answers that found no place in a grant, sealed and kept: ``unreadable`` and ``orphan``.

An unreadable one is what nobody understood; a later version may (``engine.recovery``
reads them again). An orphan is tokens that came too late for their authorization.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.grants import Grant, Intent, TokenSet
from refresher.domain.unread import KeptAnswer, RawAnswer
from refresher.errors import VaultKeyError
from refresher.vault.rows import Run, Sealer, Transaction
from refresher.vault.schema import kept_answers
from refresher.vault.sealing import Place

UNREADABLE, ORPHAN = "unreadable", "orphan"

UNREADABLE_KEPT = 5
"""Unreadable answers kept for one grant; orphans are never dropped by themselves."""


class Kept:
    """The kept answers of an open vault; every method is one transaction.

    Each raises ``VaultUnavailable`` when the vault refuses.
    """

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write, self._read = write, read

    async def of_kind(self, kind: str) -> list[tuple[str, int, float]]:
        """Those of KIND: grant name, attempt sequence, arrival."""
        return await self._read(lambda tx: list_kept(tx.connection, kind))

    async def unreadable(self) -> list[KeptAnswer]:
        """The answers that nobody understood, oldest first."""
        return await self._read(lambda tx: read_unreadable(tx.connection, tx.sealer))

    async def forget(self, kept_id: int) -> None:
        """Drop a kept answer whose content has found its place."""
        await self._write(lambda tx: forget(tx, kept_id))

    async def keep_orphan(self, grant: Grant, tokens: TokenSet) -> None:
        """Keep TOKENS that may not enter GRANT; see ``keep_orphan``."""
        sequence = grant.attempt_sequence
        await self._write(lambda tx: keep_orphan(tx, grant, sequence, tokens))


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
        "access_token": access.reveal() if access else None,
        "refresh_token": refresh.reveal() if refresh else None,
        "expires_at": tokens.expires_at,
        "scope": tokens.scope,
    }
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


def list_kept(connection: Connection, kind: str) -> list[tuple[str, int, float]]:
    """Name, attempt sequence and arrival of every kept answer of KIND."""
    statement = sa.select(
        kept_answers.c.grant_name, kept_answers.c.sequence, kept_answers.c.received_at
    ).where(kept_answers.c.kind == kind)
    return [(name, sequence, at) for name, sequence, at in connection.execute(statement)]


def place_of(row: sa.RowMapping) -> Place:
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
    content = json.loads(sealer.keyring.open(row["sealed"], place_of(row)))
    return KeptAnswer(
        id=row["id"],
        name=row["grant_name"],
        uid=row["grant_uid"],
        authorization_serial=content["authorization_serial"],
        intent=read_intent(content["intent"]),
        answer=read_raw(content["answer"]),
    )


def _place(uid: str, name: str, sequence: int, kind: str) -> Place:
    return Place(uid, kind, (name, sequence))
