"""Several Valkeys that belong together: a master with replicas and sentinels, and a cluster."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from redis import Redis, exceptions

from refresher.demo.private_server import PrivateValkey, free_port
from tests.support.valkey import Valkey
from tests.support.waiting import wait_until

NAME = "mymaster"
"""What the sentinels call the master."""

SILENT = 3000
"""Milliseconds of silence after which a server counts as dead: a busy machine takes its time."""

SLOTS = 16384

AT_ONCE = ("--repl-diskless-sync-delay", "0")
"""No wait for more replicas before one gets its master's keys."""


def ask(server: PrivateValkey, *command: str | int) -> Any:
    """What SERVER answers to COMMAND."""
    with Redis.from_url(server.url, socket_timeout=10.0) as client:
        return client.execute_command(*command)


class Watched:
    """One master with replicas, and sentinels that watch it."""

    def __init__(self, *, replicas: int = 2, sentinels: int = 3, down_after: int = SILENT) -> None:
        self._down_after = down_after
        self.servers = [Valkey(*AT_ONCE) for _ in range(1 + replicas)]
        self.sentinels = [PrivateValkey("--sentinel", file=True) for _ in range(sentinels)]

    @property
    def url(self) -> str:
        """Where the master is found."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}"

    def start(self) -> None:
        """Start all, and wait until every sentinel knows the others and the replicas."""
        master, *replicas = self.servers
        for server in self.servers:
            server.start()
        for replica in replicas:
            ask(replica, "REPLICAOF", "127.0.0.1", master.port)
        wait_until(lambda: all(map(is_in_step, replicas)), description="replicas in step")
        for sentinel in self.sentinels:
            sentinel.start()
            quorum = len(self.sentinels) // 2 + 1
            ask(sentinel, "SENTINEL", "MONITOR", NAME, "127.0.0.1", master.port, quorum)
            ask(sentinel, "SENTINEL", "SET", NAME, "down-after-milliseconds", self._down_after)
            ask(sentinel, "SENTINEL", "SET", NAME, "failover-timeout", 5000)
        wait_until(self._is_known, description="sentinels that know each other and the replicas")

    def stop(self) -> None:
        """End all."""
        for one in (*self.sentinels, *self.servers):
            one.stop()

    def master(self) -> Valkey:
        """The server that the newest of the sentinels names."""
        told = [self._details(sentinel) for sentinel in self.sentinels]
        newest = max(told, key=lambda one: int(one["config-epoch"]))
        return self.at(int(newest["port"]))

    def at(self, port: int) -> Valkey:
        """The server that listens on PORT."""
        return next(one for one in self.servers if one.port == port)

    def fail_over(self, *options: str) -> None:
        """Order another master, as an operator does."""
        order = partial(ask, self.sentinels[0], "SENTINEL", "FAILOVER", NAME, *options)
        wait_until(partial(answered, order), description="a sentinel that may fail over")

    def named(self, sentinel: PrivateValkey) -> int:
        """The port of the master that consumers of SENTINEL are sent to."""
        _, port = ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return int(port)

    def _details(self, sentinel: PrivateValkey) -> dict[str, str]:
        found: dict[str, str] = {}
        with Redis.from_url(sentinel.url, decode_responses=True) as client:
            reply: Any = client.execute_command("SENTINEL", "MASTER", NAME)
        found = (
            dict(reply)
            if isinstance(reply, dict)
            else dict(zip(reply[::2], reply[1::2], strict=True))
        )
        _, found["port"] = ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return found

    def _is_known(self) -> bool:
        details = [self._details(sentinel) for sentinel in self.sentinels]
        return all(
            int(one["num-slaves"]) == len(self.servers) - 1
            and int(one["num-other-sentinels"]) == len(self.sentinels) - 1
            for one in details
        )


class ValkeyCluster:
    """Some masters that share the slots, each with a replica."""

    def __init__(
        self,
        masters: int = 3,
        *,
        replicas: int = 3,
        node_timeout: int = SILENT,
        options: Sequence[str] = (),
    ) -> None:
        self._timeout = node_timeout
        self._options = options
        self.masters = [self.node() for _ in range(masters)]
        self.replicas = [self.node() for _ in range(replicas)]

    def node(self) -> Valkey:
        """One more, not started and not met."""
        return Valkey(
            *("--cluster-enabled", "yes", "--cluster-port", str(free_port())),
            *("--cluster-node-timeout", str(self._timeout), *AT_ONCE, *self._options),
        )

    @property
    def url(self) -> str:
        """Where two of its nodes are."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in (self.masters[0], self.replicas[-1]))
        return f"redis+cluster://{hosts}"

    @property
    def nodes(self) -> list[Valkey]:
        """All."""
        return [*self.masters, *self.replicas]

    def start(self) -> None:
        """Start all, and wait until each knows who has which slots."""
        for node in self.nodes:
            node.start()
        for number, master in enumerate(self.masters):
            first, following = (SLOTS * at // len(self.masters) for at in (number, number + 1))
            ask(master, "CLUSTER", "ADDSLOTSRANGE", first, following - 1)
            ask(master, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            self.meet(node)
        for master, replica in zip(self.masters, self.replicas, strict=True):
            replicate = partial(ask, replica, "CLUSTER", "REPLICATE", identity(master))
            wait_until(partial(answered, replicate), description="a replica that knows its master")
        wait_until(lambda: all(map(self._is_whole, self.nodes)), description="a whole cluster")
        wait_until(lambda: all(map(is_in_step, self.replicas)), description="replicas in step")

    def stop(self) -> None:
        """End all."""
        for node in self.nodes:
            node.stop()

    def add(self) -> Valkey:
        """One more node, which knows the others and has no slot."""
        node = self.node()
        self.masters.append(node)
        node.start()
        self.meet(node)
        wait_until(
            lambda: all(met(one) == len(self.nodes) for one in self.nodes),
            description="nodes that know each other",
        )
        wait_until(lambda: is_ok(node), description="a node that takes keys")
        return node

    def meet(self, node: Valkey) -> None:
        """Introduce NODE to the first master."""
        bus = node._options[node._options.index("--cluster-port") + 1]
        ask(self.masters[0], "CLUSTER", "MEET", "127.0.0.1", node.port, bus)

    def _is_whole(self, node: Valkey) -> bool:
        slots: Any = ask(node, "CLUSTER", "SLOTS")
        covered = sum(int(entry[1]) - int(entry[0]) + 1 for entry in slots)
        is_replicated = sum(len(entry) - 3 for entry in slots) == len(self.replicas)
        return bool(covered == SLOTS and is_replicated and is_ok(node))


def identity(node: Valkey) -> str:
    """The id of NODE in its cluster."""
    found: Any = ask(node, "CLUSTER", "MYID")
    return str(found.decode())


def is_ok(node: Valkey) -> bool:
    """Whether NODE takes commands."""
    return b"cluster_state:ok" in ask(node, "CLUSTER", "INFO")


def met(node: Valkey) -> int:
    """How many nodes NODE knows, itself too."""
    lines = ask(node, "CLUSTER", "NODES").decode().splitlines()
    return sum("handshake" not in line for line in lines)


def is_in_step(replica: PrivateValkey) -> bool:
    """Whether REPLICA has its master's keys."""
    role: Any = ask(replica, "ROLE")
    return bool(role[0] == b"slave" and role[3] == b"connected")


def answered(call: Callable[[], object]) -> bool:
    """Whether CALL is not refused: what has to be known first may not be yet."""
    try:
        call()
    except exceptions.ResponseError:
        return False
    return True


@contextmanager
def running(servers: Any) -> Iterator[Any]:
    """SERVERS, started and in the end stopped."""
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
