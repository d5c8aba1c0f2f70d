"""The pipeline against what people write by hand in Python.

A minimal script on aiohttp, Authlib on a current httpx and requests-oauthlib commit each
refresh with ``synchronous=FULL`` in a row of SQLite, then SET and PUBLISH. None of them has
an intent, sealing, a status, events or repair. One Authlib only refreshes and keeps nothing.
"""

from collections.abc import Callable, Mapping

from tests.bench import ratios
from tests.bench.contenders import Peer, compare
from tests.bench.session import Found, Session

TITLE = "the pipeline / what people write by hand in Python"

GOALS = {"script": 1.3, "authlib": 4.0, "requests_oauthlib": 4.0, "authlib_refresh_only": 2.0}


def measure(session: Session) -> Found:
    """The ratio to each peer, with as many requests in flight as suit it best."""
    python = session.environments.python()
    peers: Mapping[str, Callable[[], Peer]] = {
        "script": lambda: Peer.of(python, "by_hand", in_flight=64, stores=True),
        "authlib": lambda: Peer.of(python, "authlib_client", in_flight=16, stores=True),
        "requests_oauthlib": lambda: Peer.of(python, "requests_client", in_flight=64, stores=True),
        "authlib_refresh_only": lambda: Peer.of(python, "authlib_client", in_flight=16),
    }
    found = compare(session, peers)
    return Found(
        [ratios.row(name.replace("_", " "), found[name], goal) for name, goal in GOALS.items()],
        {name: ratios.data(found[name]) for name in GOALS},
        [ratios.bar(name.replace("_", " "), found[name], goal) for name, goal in GOALS.items()],
        "pipeline / peer, by CPU",
    )
