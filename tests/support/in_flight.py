"""Many exchanges in flight when something breaks, then ``kill -9``: what was lost by it.

Half of the grants belong to a server that rotates strictly and ends a family that sees an
old refresh token again, so that no loss can hide; the other half to one with a grace window.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refresher.sandbox.exchange_log import ExchangeRecord
from tests.support.daemon import CLIENT, DaemonProcess
from tests.support.sandbox import SandboxProcess
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until

GRANTS = 64

LATENCY = (2.0, 4.5)
"""Seconds an answer takes, so that all requests are out together and answers spread."""

SAFE_AFTER = 2.5
"""Seconds from an answer's last byte until nothing may lose it."""

ON_THE_WIRE = 0.5
"""Seconds an answer that left the server may take to be read, on a machine under load."""


@dataclass(slots=True)
class InFlight:
    """A daemon with GRANTS exchanges in flight; a context manager's value."""

    daemon: DaemonProcess
    valkey: Valkey
    servers: dict[str, SandboxProcess]
    start: Callable[[], None]
    """Starts the daemon that can be made to fail."""
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    """The grant of each family, by its server."""
    _before: dict[str, int] = field(default_factory=dict)
    _seen: dict[str, int] = field(default_factory=dict)

    def open_exchanges(self) -> None:
        """Return when every grant has a request out that is not answered."""
        for name, server in self.servers.items():
            minted = server.mint(GRANTS // len(self.servers))
            lines = []
            for number, one in enumerate(minted):
                grant = f"{name}-{number}"
                self.names[name, one["family_id"]] = grant
                lines.append({"name": grant, "client": name, "refresh_token": one["refresh_token"]})
            self.daemon.command("import", "-", text="\n".join(map(json.dumps, lines)))
        self.await_published()
        self._before = {name: self.version(name) for name in self.names.values()}
        self._seen = {name: len(server.log()) for name, server in self.servers.items()}
        with self.valkey.client() as redis:
            for name, version in self._before.items():
                redis.xadd("refresher:requests", {"grant": name, "version": version})
        wait_until(lambda: len(self.exchanges()) >= GRANTS, description="every request is out")

    def exchanges(self) -> dict[str, ExchangeRecord]:
        """The first request of each grant since all were asked for a new token."""
        found: dict[str, ExchangeRecord] = {}
        for server_name, server in self.servers.items():
            for record in server.log(after=self._seen[server_name]):
                found.setdefault(self.names[server_name, record.family_id or ""], record)
        return found

    def answered(self) -> dict[str, float]:
        """When the answer to each of them left its server."""
        exchanges = self.exchanges().items()
        return {name: one.answered_at for name, one in exchanges if one.answered_at is not None}

    def await_answers(self, share: float) -> None:
        """Return when SHARE of the answers have left their servers."""
        wait_until(
            lambda: len(self.answered()) >= share * GRANTS,
            description="the answers have left",
        )

    def kill(self) -> set[str]:
        """``kill -9``; the grants whose answers had come long enough before it."""
        self.daemon.kill()
        long_ago = self.daemon.kills[-1] - SAFE_AFTER - ON_THE_WIRE
        return {name for name, at in self.answered().items() if at <= long_ago}

    def kill_and_see_nothing_lost(self, fault: Path) -> None:
        """Kill it when some answers are old enough and others not; end FAULT, and start again."""

        def are_enough() -> bool:
            old_enough = time.time() - SAFE_AFTER - ON_THE_WIRE
            return sum(at < old_enough for at in self.answered().values()) > GRANTS // 4

        wait_until(are_enough, description="a quarter of the answers is old enough")
        safe = self.kill()
        fault.unlink()
        self.start()
        self.await_settled()
        assert safe
        assert not self.lost() & safe
        self.await_published(*safe, newer=True)

    def await_settled(self) -> None:
        """Return when every grant that had an exchange is fresh with a new token, or lost."""

        def is_settled(grant: dict[str, Any]) -> bool:
            if grant["name"] not in self._before:
                return True
            if grant["state"] == "reauthorization_required":
                return True
            is_new = grant["version"] > self._before[grant["name"]]
            return is_new and grant["state"] == "fresh" and not grant["exchange_open"]

        def all_are() -> bool:
            answer = self.daemon.command("status", "--json", check=None)
            return all(map(is_settled, json.loads(answer.stdout)["grants"]))

        wait_until(all_are, every=0.5, description="every grant is fresh or lost")

    def lost(self) -> set[str]:
        """Grants that need a person, by the servers' word and by the daemon's."""
        revoked = {
            self.names[name, family["family_id"]]
            for name, server in self.servers.items()
            for family in server.ask("/_sandbox/families")
            if family["revoked_at"] is not None
        }
        told = {line["grant"]: line["reason"] for line in self.daemon.events("grant.lost")}
        assert set(told) == revoked
        assert all(reason.startswith("rotation_lost") for reason in told.values()), told
        return revoked

    def await_published(self, *names: str, newer: bool = False) -> None:
        """Return when NAMES, or all grants, have a token that consumers can read."""

        def all_have() -> bool:
            wanted = names or tuple(self.names.values())
            return all(self.version(one) > (self._before[one] if newer else 0) for one in wanted)

        wait_until(all_have, every=0.2, description="every token is published")

    def version(self, name: str) -> int:
        """Of the token that consumers read now; 0 when there is none."""
        with self.valkey.client() as redis:
            return int(redis.hget(f"refresher:token:{name}", "version") or 0)

    def change_row(self, name: str, column: str, value: str | None) -> None:
        """Change the vault behind the daemon's back."""
        path = self.daemon.folder / "refresher.db"
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as vault:
            vault.execute(f"UPDATE grants SET {column} = ? WHERE name = ?", (value, name))  # noqa: S608  a column of ours

    def truncate_log(self) -> None:
        """Empty SQLite's log: what was written into it once takes writes on a full disk too."""
        path = self.daemon.folder / "refresher.db"
        with closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as vault:
            vault.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def await_unready(self, within: float = 5.0) -> None:
        """Not ready within seconds, and alive all the same."""
        began = time.monotonic()
        while self.daemon.command("health", "--ready", check=None).returncode == 0:
            assert time.monotonic() - began < within + 3.0, "it stays ready"
        assert self.daemon.command("health").stdout == "ok\n"


@contextmanager
def in_flight(
    folder: Path,
    start: Callable[[DaemonProcess], None],
    *,
    host: str = "127.0.0.1",
    others: Sequence[str] = (),
) -> Iterator[InFlight]:
    """A daemon started by START, and the servers it knows.

    Args:
        host: how the token endpoints are named.
        others: hosts of further token endpoints, each of a client called as its host.
    """
    valkey, daemon = Valkey(), DaemonProcess(folder)
    valkey.start()
    common: dict[str, Any] = {"latency": LATENCY, "access_token_lifetime": 3600.0}
    servers = {
        "strict": SandboxProcess(rotation="strict", **common),
        "lenient": SandboxProcess(rotation="grace", grace_seconds=60.0, **common),
    }
    rotations = {"strict": "strict", "lenient": "grace(60)"}
    clients = [
        CLIENT.format(
            name=name,
            base_url=server.base_url.replace("127.0.0.1", host),
            client_id="sandbox-client",
            client_secret="sandbox-secret",
            rotation=rotations[name],
            more=f"concurrency = {GRANTS}",
        )
        for name, server in servers.items()
    ]
    clients += [
        CLIENT.format(
            name=other,
            base_url=f"http://{other}",
            client_id="sandbox-client",
            client_secret="sandbox-secret",
            rotation="strict",
            more="allow_plain_http = true",
        )
        for other in others
    ]
    daemon.prepare(redis_url=valkey.url, clients="\n".join(clients))
    try:
        flight = InFlight(daemon, valkey, servers, lambda: start(daemon))
        flight.start()
        yield flight
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        for server in servers.values():
            server.stop()
        valkey.stop()
