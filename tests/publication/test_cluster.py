"""The slots of a cluster move, and its masters change, while tokens are refreshed."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from redis.crc import key_slot
from redis.exceptions import ResponseError

from refresher.errors import PublicationUnavailable
from refresher.logs import Event
from refresher.publication.publisher import Publisher
from refresher.publication.server.connection import Address, Command, Server
from tests.publication.many_world import Work, at_work, consumed
from tests.publication.world import CLOCK, KEYS, lines_of, publication
from tests.support.many_servers import SLOTS, ValkeyCluster, ask, identity, running
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

GRANTS = 200

FIRST = SLOTS // 3
"""The first slot that is not the first master's."""


def slot_of(name: str) -> int:
    """The slot of the token of NAME."""
    return key_slot(KEYS.token(name).encode())


def owners(cluster: ValkeyCluster, asked: Valkey) -> list[Valkey]:
    """The masters as ASKED sees them."""
    slots: Any = ask(asked, "CLUSTER", "SLOTS")
    ports = {int(entry[2][1]) for entry in slots}
    return [node for node in cluster.nodes if node.port in ports]


def reshard(source: Valkey, target: Valkey, slot: int, *others: Valkey) -> None:
    """Move SLOT with its keys, one by one, as ``redis-cli --cluster reshard`` does."""
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", identity(source))
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", identity(target))
    while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
        ask(source, "MIGRATE", "127.0.0.1", target.port, keys[0], 0, 5000, "REPLACE")
    for node in (target, source, *others):
        ask(node, "CLUSTER", "SETSLOT", slot, "NODE", identity(target))


async def promoted(cluster: ValkeyCluster, number: int) -> None:
    """Wait until a replica has its master's place."""
    replica, third = cluster.replicas[number], cluster.masters[2]
    await eventually(lambda: replica in owners(cluster, third), "the replica took over")


async def all_current(cluster: ValkeyCluster, work: Work, asked: Valkey) -> None:
    await work.all_current_at(lambda: owners(cluster, asked))
    work.go()


async def test_every_current_token_is_where_its_slot_is() -> None:
    """Slots move, a replica is promoted by order, and a master dies."""
    with running(ValkeyCluster()) as cluster:
        first, second, third = cluster.masters
        async with at_work(cluster.url, GRANTS) as (work, lines):
            at_first = [name for name in work.versions if slot_of(name) < FIRST]
            async with consumed(work, cluster.url, at_first[-1]) as heard:
                for name in at_first[:20]:
                    await anyio.to_thread.run_sync(reshard, first, second, slot_of(name), third)
                await all_current(cluster, work, third)
                await eventually(lambda: lines_of(lines, Event.REDIS_MOVED), "the slots rest")
                lost = [line["reason"] for line in lines_of(lines, Event.REDIS_LOST)]
                assert all("no answer in time" in reason for reason in lost)  # a busy machine

                ask(cluster.replicas[1], "CLUSTER", "FAILOVER")
                await promoted(cluster, 1)
                await all_current(cluster, work, third)

                first.kill()
                await promoted(cluster, 0)
                await all_current(cluster, work, third)
                work.rest()
        assert work.regressions == 0
        assert None not in heard
        moved = [line["reason"] for line in lines_of(lines, Event.REDIS_MOVED)]
        assert "its slots have moved" in moved


async def test_a_node_that_gets_its_first_slot_is_a_master() -> None:
    with running(ValkeyCluster(masters=1, replicas=1)) as cluster:
        (first,) = cluster.masters
        async with at_work(cluster.url, GRANTS) as (work, lines):
            added = cluster.add()
            for name in list(work.versions)[:5]:
                await anyio.to_thread.run_sync(reshard, first, added, slot_of(name))
            await all_current(cluster, work, first)
        assert "masters" in lines_of(lines, Event.REDIS_MOVED)[0]["reason"]
        assert work.regressions == 0


async def test_no_status_says_what_its_event_has_not_said(shared_valkey: Valkey) -> None:
    """In a cluster the stream may be at a server that takes nothing now."""

    class WithoutStream(Server):
        is_divided = True

        async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
            refusal = ResponseError("NOREPLICAS Not enough good replicas to write.")
            others = [command for command in commands if command[0] != "XADD"]
            replies = iter(await super().pipeline(others))
            return [refusal if one[0] == "XADD" else next(replies) for one in commands]

    row = publication()
    server = WithoutStream(Address(url=shared_valkey.url))
    publisher = Publisher(server=server, keys=KEYS, clock=CLOCK)
    try:
        with pytest.raises(PublicationUnavailable, match="too few replicas"):
            await publisher.publish([row], now=CLOCK.now())
    finally:
        await server.aclose()
    with shared_valkey.client() as client:
        assert client.exists(KEYS.token("acme"))
        assert not client.exists(KEYS.status("acme"))
