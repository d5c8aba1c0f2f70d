"""What is known of a client beside its settings: its server's metadata, and a registration.

Both are sealed. Whoever could write metadata would choose where refresh tokens are sent,
and a registration holds a client secret.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

import sqlalchemy as sa

from refresher.domain.discovery import Known, Metadata, Registration
from refresher.domain.secret import Secret
from refresher.errors import VaultKeyError
from refresher.vault.changes import What, note
from refresher.vault.rows import Row, Run, Transaction
from refresher.vault.schema import client_records
from refresher.vault.sealing import Place

T = TypeVar("T")

METADATA, REGISTRATION = "metadata", "registration"

SECRETS = ("client_secret", "registration_access_token")
"""Of a registration."""


class ClientRecords:
    """The records of an open vault; every method is one transaction.

    Each raises ``VaultUnavailable`` when the vault refuses.
    """

    def __init__(self, *, write: Run, read: Run) -> None:
        self._write, self._read = write, read

    async def known(self, clients: list[str]) -> tuple[dict[str, Known], list[str]]:
        """What is known of each of CLIENTS, and the names of those whose records do not open."""
        return await self._read(lambda tx: _known(tx, clients))

    async def keep_metadata(
        self, client: str, metadata: Metadata, *, detail: str | None = None
    ) -> None:
        """Keep METADATA of the server of CLIENT in the place of earlier ones.

        Args:
            detail: what is worth a line in the vault's log; None: nothing is.
        """

        def write(tx: Transaction) -> None:
            _keep(tx, client, METADATA, asdict(metadata))
            if detail is not None:
                note(tx, What.DISCOVERED, client=client, detail=detail)

        await self._write(write)

    async def keep_registration(self, client: str, registration: Registration) -> None:
        """Keep REGISTRATION of CLIENT in the place of an earlier one."""
        told = {each.name: getattr(registration, each.name) for each in fields(registration)}
        content = {
            name: value.reveal() if isinstance(value, Secret) else value
            for name, value in told.items()
        }

        def write(tx: Transaction) -> None:
            _keep(tx, client, REGISTRATION, content)
            note(tx, What.REGISTERED, client=client, detail=registration.client_id)

        await self._write(write)


def place_of(row: Row) -> Place:
    """What the record in ROW is sealed for."""
    return Place(f"client {row['client']}", row["kind"])


def _keep(tx: Transaction, client: str, kind: str, content: Mapping[str, Any]) -> None:
    sealed = tx.sealer.keyring.seal(json.dumps(content).encode(), Place(f"client {client}", kind))
    where = sa.and_(client_records.c.client == client, client_records.c.kind == kind)
    changed = tx.connection.execute(
        sa.update(client_records).where(where).values(sealed=sealed)
    ).rowcount
    if not changed:
        tx.connection.execute(
            sa.insert(client_records).values(client=client, kind=kind, sealed=sealed)
        )


def _known(tx: Transaction, clients: list[str]) -> tuple[dict[str, Known], list[str]]:
    wanted = set(clients)
    found: dict[str, dict[str, Any]] = {}
    unopened = []
    for row in tx.connection.execute(sa.select(client_records)).mappings():
        if row["client"] not in wanted:
            continue
        try:
            content = json.loads(tx.sealer.keyring.open(row["sealed"], place_of(row)))
        except VaultKeyError:
            unopened.append(row["client"])
            continue
        found.setdefault(row["client"], {})[row["kind"]] = content
    return {name: _of(contents) for name, contents in found.items()}, sorted(set(unopened))


def _of(contents: Mapping[str, Any]) -> Known:
    metadata, registration = contents.get(METADATA), contents.get(REGISTRATION)
    if registration is not None:
        secrets = {name: registration[name] for name in SECRETS if registration[name] is not None}
        opened = {name: Secret(value) for name, value in secrets.items()}
        registration = registration | dict.fromkeys(SECRETS) | opened
    return Known(
        metadata=None if metadata is None else _made(Metadata, metadata),
        registration=None if registration is None else _made(Registration, registration),
    )


def _made(kind: type[T], content: Mapping[str, Any]) -> T:
    """CONTENT as a KIND; a field that a newer version has written is left out."""
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # each KIND is a dataclass
    kept = {name: value for name, value in content.items() if name in known}
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
    )
