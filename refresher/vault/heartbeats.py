"""The heartbeats of those that share a vault: who lives, and who is known to be dead.

Each is one row, written each second, which says too what its holder can open and what servers
told it. What a holder reads of the others, and of the key that seals, it reads with its own
heartbeat, so that an idle replica costs the vault one small transaction a second.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.clock import Clock
from refresher.domain.keys import Reader
from refresher.domain.leases import Holder
from refresher.vault import keys
from refresher.vault.rows import Transaction
from refresher.vault.schema import grants, replicas

FORGOTTEN_AFTER = 60.0
"""Seconds of silence after which a holder without leases is remembered no longer; one that
comes back is known again with its next heartbeat."""


class Backend(NamedTuple):
    """What serves one connection to the database, told apart from any other."""

    pid: int
    started_at: float
    server: str
    """The database server, and the life of it, that the backend belongs to."""


class Backends(Protocol):
    """What a database that several holders share knows of their connections."""

    def own(self, connection: Connection) -> Backend | None:
        """The backend of CONNECTION; None where it may serve others too, behind a pooler."""

    @property
    def reading(self) -> Backend | None:
        """The same of the other connection that this holder has, over which it only reads."""

    def gone(self, connection: Connection, known: Sequence[Backend]) -> Collection[Backend]:
        """Those of KNOWN that have ended for certain, while their server went on."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What a heartbeat says beside that its holder lives."""

    words: str | None = None
    """What servers told it that concerns the others too (``engine.words``)."""
    keeps_answers: bool = False
    """Answers lie in its rescue file that the vault has not taken. Only its successor has them,
    so nobody may know it for dead before that one has come."""


ALIVE = Sign()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica(Reader):
    """One holder, as its heartbeats tell."""

    started_at: float
    backend: Backend | None
    reading: Backend | None
    words: str | None

    @property
    def backends(self) -> set[Backend]:
        """All that have to end when it dies."""
        return {one for one in (self.backend, self.reading) if one is not None}


def beat(
    tx: Transaction,
    holder: str,
    name: str,
    own: Backend | None,
    reading: Backend | None,
    *,
    sign: Sign,
) -> None:
    """Write the heartbeat of HOLDER, which is served by OWN, and by READING what it reads."""
    shown = None if sign.keeps_answers else own
    keyring = tx.sealer.keyring
    lives = {
        "name": name,
        "heartbeat_at": tx.now,
        "gone_at": None,
        "backend_pid": shown and shown.pid,
        "backend_started_at": shown and shown.started_at,
        "backend_server": shown and shown.server,
        "reader_pid": reading and reading.pid,
        "reader_started_at": reading and reading.started_at,
        "words": sign.words,
        "opens": _written(keyring.marks),
        "needs": _written(keyring.needed | {keyring.sealing}),
    }
    mine = replicas.c.holder == holder
    if not tx.connection.execute(sa.update(replicas).where(mine).values(lives)).rowcount:
        keys.lock(tx.connection)  # no other key seals from now on that this one cannot open
        begun = {"holder": holder, "started_at": tx.now}
        tx.connection.execute(sa.insert(replicas).values(lives | begun))
    keyring.follow(keys.used_keys(tx.connection))


def mark_gone(tx: Transaction, holder: str, backends: Backends, since: float, clock: Clock) -> None:
    """Note of whom no connection is left, and forget who is silent for long.

    One connection may end alone: a firewall resets it, an administrator ends it. With a process
    all of them end.

    Args:
        since: from when on HOLDER itself is connected without a break. What ended its connection
            may have ended that of others: who was not heard of since is not known to be dead.
        clock: read once that is known. Whatever was dated before it was held up on its way here
            is older than it says, and a holder could be taken for dead that was cut off.
    """
    found = known(tx.connection)
    there = [
        one
        for one in found
        if one.backend is not None
        and one.life.gone_at is None
        and one.holder != holder
        and (one.life.heard_at or 0.0) >= since
    ]
    asked = [backend for one in there for backend in one.backends]
    gone = set(backends.gone(tx.connection, asked)) if asked else set()
    for one in there:
        assert one.backend is not None
        if not one.backends <= gone:
            continue
        # Unless it is back by now, over another connection.
        same = sa.and_(
            replicas.c.holder == one.holder,
            replicas.c.backend_pid == one.backend.pid,
            replicas.c.backend_started_at == one.backend.started_at,
        )
        tx.connection.execute(sa.update(replicas).where(same).values(gone_at=clock.now()))
    for one in found:
        if one.life.heard_at is not None and one.life.heard_at < tx.now - FORGOTTEN_AFTER:
            leave(tx, one.holder)


def leave(tx: Transaction, holder: str) -> None:
    """Forget HOLDER, unless it holds leases: then its traces decide about them."""
    holds = sa.exists().where(grants.c.lease_holder == holder, grants.c.lease_holder.is_not(None))
    tx.connection.execute(sa.delete(replicas).where(replicas.c.holder == holder, ~holds))


def known(connection: Connection) -> list[Replica]:
    """All replicas there are traces of, in an order that is the same for each of them."""
    rows = connection.execute(sa.select(replicas).order_by(replicas.c.holder)).all()
    return [
        Replica(
            holder=row.holder,
            name=row.name,
            life=Holder(row.heartbeat_at, row.gone_at),
            started_at=row.started_at,
            backend=_backend(row.backend_pid, row.backend_started_at, row.backend_server),
            reading=_backend(row.reader_pid, row.reader_started_at, row.backend_server),
            words=row.words,
            opens=_read(row.opens),
            needs=_read(row.needs),
        )
        for row in rows
    ]


def _backend(pid: int | None, started_at: float, server: str | None) -> Backend | None:
    return None if pid is None or server is None else Backend(pid, started_at, server)


def _written(marks: Iterable[bytes]) -> str:
    return " ".join(sorted(mark.hex() for mark in marks))


def _read(written: str | None) -> frozenset[bytes]:
    """What a replica has written; nothing is known of one of a version that writes nothing."""
    return frozenset(map(bytes.fromhex, (written or "").split()))
