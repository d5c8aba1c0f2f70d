"""One event after the other, each with a daemon, a vault and servers of its own.

Tokens are refreshed all the time. What counts as current is what the vault says; where consumers
are sent is what the sentinels, or the other nodes of the cluster, say.
"""

import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import exceptions
from redis.crc import key_slot

from refresher.publication.keys import Keys
from tests.bench.processes import Daemon, Ground
from tests.bench.seeding import LATER, VAULT
from tests.support.many_servers import ValkeyCluster, Watched, ask, running
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until

KEYS = Keys()

DOWN_AFTER, NODE_TIMEOUT = 1000, 2000
"""Milliseconds of silence after which sentinels, and nodes, count a master as dead."""

RATE = 50
"""Refreshes a second."""

BEFORE, AFTER = 3.0, 15.0
"""Seconds of refreshes before the event; and after it: a demoted master is one for ten."""

PUBLISHED_WITHIN = 600.0
"""Seconds until everything is published at first."""

PATIENCE = 120.0
"""Seconds after which what is not readable counts as never coming."""

Versions = dict[str, int]


@dataclass(frozen=True)
class Measured:
    """What one event brought; seconds."""

    named: float
    """From the event until consumers were sent to another master."""
    after_event: float
    """From the event until every token that was current when it was named can be read there."""
    after_naming: float
    missing: int
    """Tokens that were missing or older there when it was named."""
    regressions: int
    """Reads at one master of a version below one that was read there before."""
    absent: int
    """Current tokens that were not readable at the end."""

    @property
    def is_well(self) -> bool:
        """Whether the promises hold, whatever the time."""
        return not (self.regressions or self.absent)


class Reads:
    """What can be read at each master, and whether it ever went back."""

    def __init__(self, names: Iterable[str]) -> None:
        self._keys = {name: KEYS.token(name) for name in names}
        self._slots = {name: key_slot(key.encode()) for name, key in self._keys.items()}
        self._highest: dict[tuple[int, str], int] = {}
        self.regressions = 0

    def at(
        self, owners: Mapping[int, Valkey] | Valkey, only: Iterable[str] | None = None
    ) -> Versions:
        """The version of each token at its master: the one, or the one that has its slot."""
        by_server: dict[int, tuple[Valkey, list[str]]] = {}
        for name in self._slots if only is None else only:
            server = owners if isinstance(owners, Valkey) else owners[self._slots[name]]
            by_server.setdefault(server.port, (server, []))[1].append(name)
        found: Versions = {}
        for server, names in by_server.values():
            found |= self._read(server, names)
        return found

    def _read(self, server: Valkey, names: list[str]) -> Versions:
        with server.client() as client:
            pipe = client.pipeline(transaction=False)
            for name in names:
                pipe.execute_command("HGET", self._keys[name], "version")
            try:
                replies: Any = pipe.execute(raise_on_error=False)
            except exceptions.ConnectionError:
                return {}
        found: Versions = {}
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, str):
                found[name] = version = int(reply)
                before = self._highest.get((server.port, name), 0)
                self.regressions += version < before
                self._highest[server.port, name] = version
        return found


def measure(
    ground: Ground,
    servers: Watched | ValkeyCluster,
    count: int,
    end: Callable[[], object],
    owners: Callable[[], Mapping[int, Valkey] | Valkey | None],
) -> Measured:
    """END the place of a master of SERVERS that hold COUNT tokens.

    Args:
        owners: where consumers are sent once there is another master; None until then.
    """
    with (
        ground.endpoint() as endpoint,
        running(servers),
        ground.daemon(endpoint, servers, count, lambda _: time.time() + LATER) as daemon,
    ):
        seconds = BEFORE + AFTER + 60
        _make_due(daemon.folder, min(count, int(RATE * seconds)), time.time() + 5, seconds)
        daemon.start(ground.cores.measured)
        daemon.await_ready()
        wait_until(
            lambda: list(daemon.lines("mirror.rebuilt")),
            description="everything is published",
            within=PUBLISHED_WITHIN,
        )
        time.sleep(BEFORE)
        return _after(daemon, count, end, owners)


def _make_due(folder: Path, count: int, begin: float, seconds: float) -> None:
    """Let COUNT grants be due from BEGIN on, those that a walk over all comes to last."""
    with closing(sqlite3.connect(folder / VAULT)) as vault:
        vault.execute(
            "UPDATE grants SET due_at = ? + (SELECT max(id) FROM grants) * ? - id * ? "
            "WHERE id > (SELECT max(id) FROM grants) - ?",
            (begin, seconds / count, seconds / count, count),
        )
        vault.commit()


def _after(
    daemon: Daemon,
    count: int,
    end: Callable[[], object],
    owners: Callable[[], Mapping[int, Valkey] | Valkey | None],
) -> Measured:
    reads = Reads(f"g{number}" for number in range(count))
    end()
    ended = time.monotonic()
    while (place := owners()) is None:
        assert time.monotonic() - ended < PATIENCE, "nobody took the master's place"
        time.sleep(0.01)
    named = time.monotonic()
    wanted = current(daemon.folder)
    # To read all of them takes a while, in which what is missing would come back unseen.
    newer = {name: version for name, version in wanted.items() if version > daemon.version}
    behind = missing = len(_behind(newer, reads.at(place, newer)))
    while behind:
        assert time.monotonic() - named < PATIENCE, f"{behind} tokens are not readable"
        behind = len(_behind(newer, reads.at(owners() or place, newer)))
    readable = time.monotonic()
    while _behind(wanted, reads.at(owners() or place)):
        assert time.monotonic() - named < PATIENCE, "old tokens are not readable"
        readable = time.monotonic()
    while time.monotonic() - ended < AFTER:
        reads.at(owners() or place)
    absent: list[str] = []

    def is_current() -> bool:
        absent[:] = _behind(current(daemon.folder), reads.at(owners() or place))
        return not absent

    deadline = time.monotonic() + PATIENCE
    while not is_current() and time.monotonic() < deadline:
        time.sleep(0.05)
    return Measured(
        named=named - ended,
        after_event=readable - ended,
        after_naming=readable - named,
        missing=missing,
        regressions=reads.regressions,
        absent=len(absent),
    )


def _behind(wanted: Versions, found: Versions) -> list[str]:
    """Tokens of WANTED that FOUND has not, or has an older one of."""
    return [name for name, version in wanted.items() if found.get(name, 0) < version]


def current(folder: Path) -> Versions:
    """What the vault in FOLDER says now."""
    with closing(sqlite3.connect(f"file:{folder / VAULT}?mode=ro", uri=True)) as vault:
        return dict(vault.execute("SELECT name, version FROM grants"))


def sentinel_event(ground: Ground, count: int, end: Callable[[Watched], object]) -> Measured:
    """END the place of the master that sentinels watch."""
    watched = Watched(down_after=DOWN_AFTER)

    def named() -> Valkey | None:
        """Where the first sentinel that knows better sends consumers."""
        ports = {watched.named(sentinel) for sentinel in watched.sentinels}
        others = ports - {watched.servers[0].port}
        return watched.at(others.pop()) if others else None

    return measure(ground, watched, count, lambda: end(watched), named)


def cluster_event(ground: Ground, count: int, end: Callable[[ValkeyCluster], object]) -> Measured:
    """END the place of the first master of a cluster."""
    cluster = ValkeyCluster(node_timeout=NODE_TIMEOUT)

    def owners() -> Mapping[int, Valkey] | None:
        """Who has each slot as the last master says, once the first has none."""
        nodes = {node.port: node for node in cluster.nodes}
        slots: Any = ask(cluster.masters[-1], "CLUSTER", "SLOTS")
        found = {
            slot: nodes[int(master[1])]
            for first, last, master, *_ in slots
            for slot in range(first, last + 1)
        }
        is_replaced = cluster.masters[0] not in found.values()
        return found if is_replaced else None

    return measure(ground, cluster, count, lambda: end(cluster), owners)


EVENTS: Mapping[str, Callable[[Ground, int], Measured]] = {
    "SENTINEL FAILOVER": lambda ground, count: sentinel_event(ground, count, Watched.fail_over),
    "Sentinel, kill -9": lambda ground, count: sentinel_event(
        ground, count, lambda watched: watched.servers[0].kill()
    ),
    "CLUSTER FAILOVER": lambda ground, count: cluster_event(
        ground, count, lambda cluster: ask(cluster.replicas[0], "CLUSTER", "FAILOVER")
    ),
    "Cluster, kill -9": lambda ground, count: cluster_event(
        ground, count, lambda cluster: cluster.masters[0].kill()
    ),
}
"""What can happen to a master."""


def ground() -> Ground:
    """A ground without the peers' environment: nothing here is compared with them."""
    return Ground(Path(sys.executable))
