"""Logins under way: sealed rows that any process may finish, each of them once.

What is sealed in a row is what an attacker needs beside the code: the state, the PKCE verifier,
the device code. Once somebody has taken it to redeem it nobody can take it again, and it goes.
The row stays without it until its end: to whoever asks again it says what became of the login.
"""

import json
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from refresher.acting import DAEMON, Actor
from refresher.domain.logins import AwaitedAnswer, AwaitedConsent, Login, Stage
from refresher.domain.secret import Secret
from refresher.vault.rows import Row, Run, Transaction
from refresher.vault.schema import logins
from refresher.vault.sealing import Place

LOGINS_OPEN = 100
"""Logins that may be under way at once; the oldest gives way."""

CODE, DEVICE = "code", "device"

_SECRETS = ("state", "code_verifier", "device_code")


class LoginsUnderWay:
    """The logins of an open vault; every method is one transaction.

    Each raises ``VaultUnavailable`` when the vault refuses.
    """

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write, self._read = write, read

    async def add(self, login: Login) -> None:
        """Keep LOGIN, which is open; the oldest gives way where there are too many."""
        await self._write(lambda tx: add(tx, login))

    async def find(self, login_id: str) -> Login | None:
        """The login LOGIN_ID, unless its row is gone.

        Raises:
            VaultKeyError: somebody has altered it.
        """
        return await self._read(lambda tx: _one(tx, logins.c.handle == login_id))

    async def find_by_state(self, state: Secret) -> Login | None:
        """The open login whose authorization request carried STATE.

        It is found by a keyed hash, so that the time it takes tells nothing about other states.

        Raises:
            VaultKeyError: somebody has altered it.
        """
        return await self._read(
            lambda tx: _one(tx, logins.c.state_fingerprint == tx.sealer.fingerprint(state))
        )

    async def take(self, login_id: str) -> bool:
        """Take the code of a login to redeem it; False where somebody else has."""
        return await self._write(lambda tx: _leave(tx, login_id, Stage.TAKEN))

    async def begin_poll(self, login: Login, until: float) -> bool:
        """Let nobody else ask for LOGIN until then; False where somebody does, or has."""
        return await self._write(lambda tx: _begin_poll(tx, login, until))

    async def poll_again(self, login_id: str, interval: float, at: float) -> None:
        """Let a login be asked for next time AT, and from then on every INTERVAL seconds."""
        change = sa.update(logins).where(_open(login_id)).values(poll_interval=interval, due_at=at)
        await self._write(lambda tx: tx.connection.execute(change))

    async def forget(self, login_id: str) -> None:
        """Forget a login that will bring nothing."""
        gone = sa.delete(logins).where(logins.c.handle == login_id)
        await self._write(lambda tx: tx.connection.execute(gone))

    async def drop_ended(self) -> None:
        """Forget those that are over."""
        if await self._read(lambda tx: bool(tx.connection.scalar(_any_ended(tx)))):
            await self._write(drop_ended)


def add(tx: Transaction, login: Login) -> None:
    """See ``LoginsUnderWay.add``."""
    drop_ended(tx)
    is_open = sa.select(logins.c.id).where(logins.c.stage == Stage.OPEN.value)
    oldest = tx.connection.scalars(is_open.order_by(logins.c.id)).all()
    if given_way := oldest[: max(0, len(oldest) + 1 - LOGINS_OPEN)]:
        tx.connection.execute(sa.delete(logins).where(logins.c.id.in_(given_way)))
    awaited = login.awaited
    assert awaited is not None
    values: dict[str, Any] = {
        "handle": login.id,
        "kind": CODE,
        "stage": login.stage.value,
        "grant_name": login.name,
        "client": login.client,
        "begun_at": login.begun_at,
        "ends_at": login.ends_at,
    }
    if isinstance(awaited, AwaitedConsent):
        values |= {"kind": DEVICE, "poll_interval": awaited.interval}
        values |= {"due_at": awaited.next_poll_at}
        content: dict[str, Any] = {"device_code": awaited.device_code}
    else:
        values["state_fingerprint"] = tx.sealer.fingerprint(awaited.state)
        content = {name: getattr(awaited, name) for name in AwaitedAnswer.__dataclass_fields__}
    content |= {
        "client_id": login.client_id,
        "token_endpoint": login.token_endpoint,
        "by": asdict(login.by),
    }
    sealed = tx.sealer.keyring.seal(json.dumps(content, default=_reveal).encode(), place_of(values))
    tx.connection.execute(sa.insert(logins).values(**values, sealed=sealed))


def settle(tx: Transaction, login_id: str) -> None:
    """Let the login LOGIN_ID be done: its tokens come into the vault with this transaction."""
    _leave(tx, login_id, Stage.DONE)


def drop_ended(tx: Transaction) -> None:
    """Forget the logins that are over."""
    tx.connection.execute(sa.delete(logins).where(_is_over(tx)))


def place_of(row: Row) -> Place:
    """What the login in ROW is sealed for."""
    return Place(f"login {row['handle']}", row["kind"], (row["grant_name"], row["client"]))


def _begin_poll(tx: Transaction, login: Login, until: float) -> bool:
    assert isinstance(login.awaited, AwaitedConsent)
    is_due = sa.and_(_open(login.id), logins.c.due_at == login.awaited.next_poll_at)
    return tx.connection.execute(sa.update(logins).where(is_due).values(due_at=until)).rowcount > 0


def _leave(tx: Transaction, login_id: str, stage: Stage) -> bool:
    """Bring a login to STAGE, which needs nothing sealed; whether it was at an earlier one."""
    earlier = logins.c.stage == Stage.OPEN.value
    if stage is Stage.DONE:
        earlier = logins.c.stage != stage.value
    where = sa.and_(logins.c.handle == login_id, earlier)
    change = sa.update(logins).where(where).values(stage=stage.value, sealed=None)
    return tx.connection.execute(change).rowcount > 0


def _open(login_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(logins.c.handle == login_id, logins.c.stage == Stage.OPEN.value)


def _is_over(tx: Transaction) -> sa.ColumnElement[bool]:
    return logins.c.ends_at < tx.now


def _any_ended(tx: Transaction) -> sa.Select[tuple[int]]:
    return sa.select(logins.c.id).where(_is_over(tx)).limit(1)


def _one(tx: Transaction, where: sa.ColumnElement[bool]) -> Login | None:
    row = tx.connection.execute(sa.select(logins).where(where)).mappings().first()
    return None if row is None else _login(tx, row)


def _login(tx: Transaction, row: sa.RowMapping) -> Login:
    stage = Stage(row["stage"])
    content: dict[str, Any] = {}
    awaited: AwaitedAnswer | AwaitedConsent | None = None
    if stage is Stage.OPEN:
        content = json.loads(tx.sealer.keyring.open(row["sealed"] or b"", place_of(row)))
        secrets = {name: Secret(content[name]) for name in _SECRETS if content.get(name)}
        content |= secrets
        if row["kind"] == DEVICE:
            awaited = AwaitedConsent(
                device_code=content["device_code"],
                interval=row["poll_interval"],
                next_poll_at=row["due_at"],
            )
        else:
            told = {name: content[name] for name in AwaitedAnswer.__dataclass_fields__}
            told |= {name: tuple(told[name]) for name in ("other_issuers", "extras")}
            awaited = AwaitedAnswer(**told)
    return Login(
        id=row["handle"],
        name=row["grant_name"],
        client=row["client"],
        begun_at=row["begun_at"],
        ends_at=row["ends_at"],
        stage=stage,
        client_id=content.get("client_id", ""),
        token_endpoint=content.get("token_endpoint", ""),
        by=Actor(**content["by"]) if content else DAEMON,
        awaited=awaited,
    )


def _reveal(value: object) -> str:
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"a {type(value).__name__} is no part of a login")
