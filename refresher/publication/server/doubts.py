"""Settings of a Redis that make it lose tokens while every write succeeds."""

from collections.abc import Iterator, Mapping

from refresher.logs import Event, emit
from refresher.publication.server.clock import Offset
from refresher.publication.server.connection import Server
from refresher.publication.server.info import read_info

CLOCK_TOLERANCE = 2.0
"""Seconds of difference between the clocks that pass without a warning."""


class Doubts:
    """Warns once of each doubt, and again if it went and came back."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()

    async def examine(self, offsets: Mapping[Server, Offset]) -> None:
        """Look at the OFFSETS of the masters' clocks, and at their INFO.

        Raises:
            PublicationUnavailable: when Redis cannot be asked.
        """
        found: dict[tuple[str, str], dict[str, object]] = {}
        for server, offset in offsets.items():
            if abs(offset.seconds) - offset.uncertainty > CLOCK_TOLERANCE:
                reason = "its clock differs from ours; replicas expire keys by their own clock"
                found[server.where, reason] = {"offset_s": round(offset.seconds, 3)}
            for reason in losses(await read_info(server, "memory", "stats")):
                found[server.where, reason] = {}
        for where, reason in found.keys() - self._known:
            emit(Event.REDIS_DOUBTED, server=where, reason=reason, **found[where, reason])
        self._known = set(found)


def losses(info: dict[str, str]) -> Iterator[str]:
    """How the server with this INFO loses tokens while every write succeeds."""
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction" and int(info.get("maxmemory", 0)) > 0:
        yield f"maxmemory-policy {policy} evicts tokens before anything without a TTL"
    if int(info.get("evicted_keys", 0)) > 0:
        yield "it has evicted keys"
