"""What every peer is told, and the store of those that keep one.

The store is what people write by hand: a row for each grant, committed with
``synchronous=FULL`` before the token is published.
"""

import json
import sqlite3
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLIENT_ID, CLIENT_SECRET = "bench", "bench-secret"


@dataclass(frozen=True)
class Work:
    """What a peer works on, until it is ended."""

    token_url: str
    redis_url: str
    database: str
    grants: list[str]
    """Refresh tokens; a grant's number is its place."""
    in_flight: int
    stores: bool

    def share(self, worker: int) -> list[int]:
        """The grants of one of ``in_flight`` workers: no grant is two workers'."""
        return list(range(worker, len(self.grants), self.in_flight))


def read_work() -> Work:
    """What the file says that the command line names."""
    return Work(**json.loads(Path(sys.argv[1]).read_text()))


class Store:
    """The refresh tokens of a script by hand, in SQLite."""

    def __init__(self, work: Work) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(work.database, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute(
            "CREATE TABLE grants (id INTEGER PRIMARY KEY, refresh_token TEXT, access_token TEXT, "
            "expires_at REAL)"
        )
        self._connection.executemany(
            "INSERT INTO grants (id, refresh_token) VALUES (?, ?)", enumerate(work.grants)
        )
        self._connection.commit()

    def refresh_token(self, number: int) -> str:
        """The refresh token to present for grant NUMBER."""
        with self._lock:
            found = self._connection.execute(
                "SELECT refresh_token FROM grants WHERE id = ?", (number,)
            )
            token: str = found.fetchone()[0]
            return token

    def keep(self, number: int, token: dict[str, Any]) -> None:
        """Write what came for grant NUMBER, durably."""
        row = (
            token["refresh_token"],
            token["access_token"],
            time.time() + token["expires_in"],
            number,
        )
        with self._lock:
            self._connection.execute(
                "UPDATE grants SET refresh_token = ?, access_token = ?, expires_at = ? "
                "WHERE id = ?",
                row,
            )
            self._connection.commit()


class Memory:
    """The refresh tokens of a peer that only refreshes: lost with the process."""

    def __init__(self, work: Work) -> None:
        self._tokens = list(work.grants)

    def refresh_token(self, number: int) -> str:
        """The refresh token to present for grant NUMBER."""
        return self._tokens[number]

    def keep(self, number: int, token: dict[str, Any]) -> None:
        """Remember what came for grant NUMBER."""
        self._tokens[number] = token["refresh_token"]


def store_of(work: Work) -> Store | Memory:
    """Where a peer keeps its refresh tokens."""
    return Store(work) if work.stores else Memory(work)
