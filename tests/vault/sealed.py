"""What the tests of sealing share: a vault with one of everything, and all of it opened."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from refresher.acting import operator
from refresher.domain.discovery import Registration
from refresher.domain.logins import AwaitedAnswer, AwaitedConsent, Login
from refresher.domain.outcomes import OutcomeUnknown
from refresher.domain.secret import Secret
from refresher.vault import client_records, kept, keys, logins, revocations
from refresher.vault.rows import CELLS, Transaction
from refresher.vault.schema import client_records as client_records_table
from refresher.vault.schema import grants, kept_answers
from refresher.vault.schema import logins as under_way
from refresher.vault.schema import revocations as parked
from refresher.vault.sealing import FIRST_FORMAT, Place
from refresher.vault.vault import Vault
from tests.vault.world import (
    LIFE,
    NOW,
    answered,
    at,
    claim_again,
    claim_one,
    finish,
    make_seed,
    sow,
    static_seed,
)

UNREADABLE = OutcomeUnknown(reason="unreadable", status=200, body=b"<p>")


async def fill(vault: Vault) -> None:
    """One of everything that is sealed: grants, both kinds of kept answers, a parked revocation."""
    await sow(
        vault,
        make_seed("acme", "rt-acme", access_token=Secret("at-0"), expires_at=NOW + LIFE),
        make_seed("gone", "rt-gone"),
        static_seed(),
    )
    await at(vault, NOW).request_refresh("acme")
    earlier = await claim_one(vault)
    later = await claim_again(vault)
    await finish(vault, later, answered("at-1", "rt-1"))
    await finish(vault, earlier, answered("at-late", "rt-late"))
    await at(vault, NOW + 60).request_refresh("acme")
    await finish(vault, await claim_one(vault, NOW + 60), UNREADABLE, NOW + 60)
    registration = Registration(
        server="https://crm.example",
        client_id="crm-id",
        client_authentication="client_secret_post",
        registered_at=NOW,
        client_secret=Secret("registered-secret"),
    )
    await vault.client_records.keep_registration("crm", registration)
    await vault.logins.add(a_login())
    assert await at(vault, NOW).revocations.end("gone", lambda *_: True) is not None


def everything(tx: Transaction) -> Iterator[tuple[str, bytes]]:
    """Every cell, opened, with its mark; one that does not open raises."""
    sealer = tx.sealer
    for row in tx.connection.execute(sa.select(grants)).mappings():
        if row["refresh_token_sealed"] is not None:
            yield sealer.refresh_token(row).reveal(), row["refresh_token_sealed"][:9]
        if row["predecessor_sealed"] is not None:
            yield sealer.predecessor(row).reveal(), row["predecessor_sealed"][:9]
        found, _ = sealer.access_token(row)
        if found is not None:
            yield found.reveal(), row["token_sealed"][:9]
    for row in tx.connection.execute(sa.select(kept_answers)).mappings():
        yield sealer.keyring.open(row["sealed"], kept.place_of(row)).decode(), row["sealed"][:9]
    for row in tx.connection.execute(
        sa.select(parked).where(parked.c.sealed.is_not(None))
    ).mappings():
        place = revocations.place_of(row)
        yield sealer.keyring.open(row["sealed"], place).decode(), row["sealed"][:9]

    for row in tx.connection.execute(sa.select(client_records_table)).mappings():
        place = client_records.place_of(row)
        yield sealer.keyring.open(row["sealed"], place).decode(), row["sealed"][:9]

    for row in tx.connection.execute(
        sa.select(under_way).where(under_way.c.sealed.is_not(None))
    ).mappings():
        yield sealer.keyring.open(row["sealed"], logins.place_of(row)).decode(), row["sealed"][:9]


def a_login(login_id: str = "login-1", *, ends_at: float = NOW + 900) -> Login:
    """A login under way."""
    return Login(
        id=login_id,
        name="acme",
        client="crm",
        begun_at=NOW,
        ends_at=ends_at,
        client_id="crm-id",
        token_endpoint="https://crm.example/token",
        by=operator(1000, 4711),
        awaited=AwaitedAnswer(
            state=Secret(f"state-of-{login_id}"),
            redirect_uri="http://127.0.0.1/callback",
            code_verifier=Secret("canary-verifier"),
        ),
    )


A_DEVICE = replace(
    a_login("device-1"),
    awaited=AwaitedConsent(
        device_code=Secret("canary-device-code"), interval=5.0, next_poll_at=NOW + 5
    ),
)


async def sealed(vault: Vault) -> dict[str, bytes]:
    """What everything in VAULT opens to, and how it begins."""
    return await vault._read(lambda tx: dict(everything(tx)))


async def execute(vault: Vault, statement: Any) -> None:
    """Change the vault as whoever can write the file does."""
    await vault._database.write(lambda c: c.execute(statement))


_SEALED = (kept_answers, parked, client_records_table, under_way)


async def age(vault: Vault) -> None:
    """Make a vault as an earlier version left it, every cell of the first format."""
    keyring = vault._sealer.keyring

    def downgrade(tx: Transaction) -> None:
        others = [(table, ["sealed"]) for table in _SEALED]
        for table, cells in ((grants, CELLS), *others):
            for row in tx.connection.execute(sa.select(table)).mappings().all():
                for cell in cells:
                    if row[cell] is not None:
                        place = place_in(row, cell)
                        old = keyring.seal(
                            keyring.open(row[cell], place), place, written=FIRST_FORMAT
                        )
                        change = sa.update(table).where(table.c.id == row["id"])
                        tx.connection.execute(change.values({cell: old}))
        keys.reseal_fingerprint_key(tx.connection, keyring, is_last=False)

    await vault._write(downgrade)
    for index in ("grants_listed_by_client", "grants_listed_by_state", "revocations_listed"):
        await execute(vault, sa.text(f"DROP INDEX ix_{index}"))  # of a later version
    await execute(vault, sa.text("UPDATE alembic_version SET version_num = '0006'"))


def place_in(row: Any, cell: str) -> Place:
    """What CELL of ROW is sealed for."""
    if "parked_at" in row:
        return revocations.place_of(row)
    if "received_at" in row:
        return kept.place_of(row)
    if "handle" in row:
        return logins.place_of(row)
    if "kind" in row and "uid" not in row:
        return client_records.place_of(row)
    binding = (row["name"], row["client"], row["authorization_serial"])
    return Place(row["uid"], CELLS[cell], binding)
