"""Whether a PostgreSQL server keeps what it has confirmed (guarantee G3)."""

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from refresher.domain.findings import Finding, Level
from refresher.domain.secret import Secret
from refresher.errors import VaultError
from refresher.vault.postgresql.backends import ServerBackends
from refresher.vault.postgresql.engine import open_postgresql

_SETTINGS = sa.text(
    "SELECT name, setting FROM pg_settings WHERE name IN "
    "('fsync', 'full_page_writes', 'synchronous_standby_names', 'server_version')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What is known of one server."""

    version: str
    fsync: bool = True
    full_page_writes: bool = True
    standbys: int = 0
    is_synchronous: bool = False
    """Some standby is to have every commit before it is confirmed."""
    is_pooled: bool = False


async def probe(url: Secret, where: str) -> list[Finding]:
    """What is found of the database of URL, which is at WHERE."""
    subject = f"vault at {where}"
    try:
        database = await open_postgresql(url)
        try:
            server = await database.read(_read)
        finally:
            database.close()
    except VaultError as error:
        mend = "look at the server, and at vault.url"
        return [Finding(subject=subject, text=str(error), level=Level.PROBLEM, mend=mend)]
    return list(judged(server, subject))


def judged(server: Server, subject: str) -> Iterator[Finding]:
    """What SERVER means for refresh tokens."""
    yield Finding(subject=subject, text=f"answers, version {server.version}")
    for is_on, name in ((server.fsync, "fsync"), (server.full_page_writes, "full_page_writes")):
        if not is_on:
            yield Finding(
                subject=subject,
                text=f"has {name} off: a power failure loses commits, or the whole database",
                level=Level.PROBLEM,
                mend=f"set {name} = on in postgresql.conf, and reload it",
            )
    if server.standbys and not server.is_synchronous:
        yield Finding(
            subject=subject,
            text="has standbys, none of them synchronous: a failover may lose the last commits, "
            "and with them refresh tokens that rotated",
            level=Level.DOUBT,
            mend="set synchronous_standby_names, for example to 'ANY 1 (*)'",
        )
    if server.is_pooled:
        yield Finding(
            subject=subject,
            text="is behind a pooler: nobody sees whether a silent daemon is dead, so what it left "
            "under way at a strict server is waited for longer",
            level=Level.DOUBT,
            mend="name the server itself in vault.url: a daemon needs two connections",
        )


def _read(connection: Connection) -> Server:
    known = {row.name: row.setting for row in connection.execute(_SETTINGS)}
    standbys = connection.scalar(sa.text("SELECT count(*) FROM pg_stat_replication"))
    return Server(
        version=known["server_version"],
        fsync=known["fsync"] == "on",
        full_page_writes=known["full_page_writes"] == "on",
        standbys=standbys or 0,
        is_synchronous=bool(known["synchronous_standby_names"].strip()),
        is_pooled=ServerBackends().own(connection) is None,
    )
