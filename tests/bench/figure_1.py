"""Durable refreshes a second on one core, the whole pipeline, against the bare loop.

The pipeline claims, exchanges, adopts, seals, commits with ``synchronous=FULL``, publishes to
a real Valkey and writes a JSON line for each refresh. The bare loop does nothing but the POST.
"""

from tests.bench import ratios
from tests.bench.contenders import Peer, compare
from tests.bench.session import Found, Session

TITLE = "the pipeline / a bare aiohttp loop on uvloop"

GOAL = 0.25


def measure(session: Session) -> Found:
    """The ratio, both with as many requests in flight."""
    bare = Peer.of(session.environments.python(), "bare_loop", in_flight=session.ground.in_flight)
    found = compare(session, {"bare": lambda: bare})["bare"]
    return Found(
        [ratios.row("bare loop", found, GOAL)],
        ratios.data(found),
        [ratios.bar("bare loop", found, GOAL)],
        "pipeline / bare loop, by CPU",
    )
