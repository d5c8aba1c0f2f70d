"""One window of the pipeline, and one of a peer: what figures 1 to 3 measure in turn."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench.ground import (
    NotMeasured,
    Ratio,
    TooLate,
    Window,
    alternate,
    between,
    cpu_seconds,
    in_time,
    ratio,
)
from tests.bench.processes import Ground
from tests.bench.servers import Readers, look_when
from tests.bench.session import Session

WARM_UP = 0.1
"""The part of the pipeline's work that is done before its window begins."""

PEER_GRANTS = 2_000

PEER_WARM_UP = 200
"""Answers a peer has had when its window begins."""


@dataclass(frozen=True)
class Peer:
    """A program that the daemon is compared with."""

    command: Sequence[str]
    in_flight: int
    """Requests at once: what suits it best."""
    stores: bool = False

    @classmethod
    def of(cls, python: Path, module: str, *, in_flight: int, stores: bool = False) -> "Peer":
        """One of Python's peers, by its module's name."""
        return cls([str(python), "-m", f"tests.bench.peers.{module}"], in_flight, stores)


def pipeline(ground: Ground, grants: int) -> Window:
    """The real daemon with GRANTS due at once.

    The window ends when the last new token can be read from Redis: what is committed or
    published late is counted, not hidden.
    """
    return in_time(lambda lead: _pipeline(ground, grants, lead))


def _pipeline(ground: Ground, grants: int, lead: float) -> Window:
    with ground.servers() as (endpoint, valkey):
        at = time.time() + lead
        with (
            ground.daemon(endpoint, valkey, grants, lambda _: at) as daemon,
            Readers(valkey, daemon.version) as readers,
        ):
            daemon.start_before(at, ground.cores.measured)
            first = look_when(endpoint, daemon.pid, endpoint.answered, int(grants * WARM_UP))
            if first.answers > grants / 2:
                raise TooLate("half of the work was done before the first look")
            return between(
                first, look_when(endpoint, daemon.pid, lambda: len(readers.renewed), grants)
            )


def peer(ground: Ground, contender: Peer, seconds: float) -> Window:
    """A peer for SECONDS of its CPU, once it has warmed up: a busy machine makes that longer."""
    with (
        ground.servers() as (endpoint, valkey),
        ground.peer(
            contender.command,
            endpoint,
            valkey,
            grants=PEER_GRANTS,
            in_flight=contender.in_flight,
            stores=contender.stores,
        ) as pid,
    ):
        first = look_when(endpoint, pid, endpoint.answered, PEER_WARM_UP)
        last = look_when(endpoint, pid, lambda: cpu_seconds(pid), first.cpu + seconds)
        return between(first, last)


def compare(session: Session, peers: Mapping[str, Callable[[], Peer]]) -> dict[str, Ratio | str]:
    """The pipeline against each of PEERS, all measured in turn; or why one could not be."""
    ground, depth = session.ground, session.depth
    found: dict[str, Ratio | str] = {}
    contenders: dict[str, Callable[[], Window]] = {
        "refresher": partial(pipeline, ground, depth.grants)
    }
    for name, make in peers.items():
        try:
            contenders[name] = partial(peer, ground, make(), depth.peer_cpu)
        except NotMeasured as reason:
            found[name] = str(reason)
    windows = alternate(contenders, depth.rounds, session.progress)
    ours = windows.pop("refresher")
    return found | {name: ratio(ours, theirs) for name, theirs in windows.items()}
