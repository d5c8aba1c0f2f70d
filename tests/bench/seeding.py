"""Vaults with as many grants as a figure needs, due when it wants them.

The first grant comes through ``refresher import``. The others are copies of its row, each
with a uid, a name and sealed tokens of its own, so that a million take minutes and every one
can be claimed and committed like an imported one.
"""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from refresher.domain.secret import Secret
from refresher.vault.keys import FINGERPRINT_KEY
from refresher.vault.rows import ACCESS_TOKEN, REFRESH_TOKEN
from refresher.vault.sealing import Fingerprinter, Keyring, Place
from tests.bench.peers.endpoint import ACCESS_TOKEN_BYTES, refresh_token

LIFETIME = 12 * 3_600.0
"""Seconds between issue and end of the tokens that a vault begins with: none ends meanwhile."""

AGE = 2 * 3_600.0
"""How old they are."""

LATER = 8 * 3_600.0
"""Seconds from now until what a figure does not want is due."""

AT_ONCE = 10_000
"""Rows written in one transaction."""

VAULT, KEY = "refresher.db", "refresher.key"

Due = Callable[[int], float]
"""When a grant is due, by its number; wall time."""

Row = dict[str, Any]


def import_line(number: int) -> str:
    """The line of ``refresher import`` that brings grant NUMBER."""
    return json.dumps(
        {
            "name": f"g{number}",
            "client": "bench",
            "refresh_token": refresh_token(number, 0),
            "access_token": "a" * ACCESS_TOKEN_BYTES,
            "expires_at": int(time.time() + LIFETIME),
        }
    )


def seed(template: Path, folder: Path, count: int, due: Due) -> int:
    """Put a vault with COUNT grants into FOLDER; the version that each of them has.

    Args:
        template: a folder whose vault holds the one grant that an import brought.
    """
    shutil.copy(template / KEY, folder / KEY)
    shutil.copy(template / VAULT, folder / VAULT)
    with closing(sqlite3.connect(folder / VAULT)) as connection:
        connection.execute("PRAGMA synchronous=OFF")  # it is not yet anybody's vault
        first, rows = copies(connection, folder / KEY, count, due)
        spent = _rows(connection, "SELECT * FROM adopted_seeds")[0]
        connection.execute("DELETE FROM grants")
        connection.execute("DELETE FROM adopted_seeds")
        while batch := list(islice(rows, AT_ONCE)):
            _insert(connection, "grants", batch)
            seeds = [
                spent | {"fingerprint": row["refresh_token_fingerprint"], "grant_name": row["name"]}
                for row in batch
            ]
            _insert(connection, "adopted_seeds", seeds)
            connection.commit()
    version: int = first["version"]
    return version


def copies(
    connection: sqlite3.Connection, key: Path, count: int, due: Due
) -> tuple[Row, Iterator[Row]]:
    """The one grant of a vault, which CONNECTION is to, and COUNT rows that are like it."""
    keyring = Keyring.load(key)
    first = _rows(connection, "SELECT * FROM grants")[0]
    sealed = connection.execute("SELECT value FROM facts WHERE name = ?", (FINGERPRINT_KEY,))
    fingerprint_of = Fingerprinter(
        keyring.open(sealed.fetchone()[0], Place("vault", FINGERPRINT_KEY))
    )
    return first, (_copy(first, number, keyring, fingerprint_of, due) for number in range(count))


def make_due(folder: Path, count: int, begin: float, seconds: float) -> None:
    """Let the first COUNT grants of the vault in FOLDER be due from BEGIN on, over SECONDS.

    All others are due later, well before their tokens end: else a daemon would take them for
    dated by another clock. No daemon may have the vault.
    """
    with closing(sqlite3.connect(folder / VAULT)) as connection:
        later = time.time() + LATER
        connection.execute(
            "UPDATE grants SET due_at = ? WHERE id > ? AND due_at < ?",
            (later, count, later - LATER / 4),
        )
        connection.execute(
            "UPDATE grants SET due_at = ? + (id - 1) * ? WHERE id <= ?",
            (begin, seconds / count, count),
        )
        connection.commit()
    _sync(folder / VAULT)


def _sync(path: Path) -> None:
    """Have the file PATH on its disk: a commit would wait for a million rows of ours there."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _copy(
    first: Row, number: int, keyring: Keyring, fingerprint_of: Fingerprinter, due: Due
) -> Row:
    """The row of grant NUMBER, as the import of FIRST would have written it."""
    uid, name, now = f"{number:032x}", f"g{number}", time.time()
    bound = (name, first["client"], first["authorization_serial"])
    presented = refresh_token(number, 0)
    token = json.dumps(["a" * ACCESS_TOKEN_BYTES, {}])
    return first | {
        "id": number + 1,
        "uid": uid,
        "name": name,
        "refresh_token_sealed": keyring.seal(presented.encode(), Place(uid, REFRESH_TOKEN, bound)),
        "refresh_token_fingerprint": fingerprint_of(Secret(presented)),
        "token_sealed": keyring.seal(token.encode(), Place(uid, ACCESS_TOKEN, bound)),
        "issued_at": now - AGE,
        "expires_at": now - AGE + LIFETIME,
        "due_at": due(number),
    }


def _rows(connection: sqlite3.Connection, statement: str) -> list[Row]:
    found = connection.execute(statement)
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[Row]) -> None:
    names = list(rows[0])
    places = ", ".join(f":{name}" for name in names)
    statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})"  # noqa: S608  our own
    connection.executemany(statement, rows)
