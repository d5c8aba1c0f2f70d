"""The pipeline against Go: x/oauth2 with SQLite and go-redis, and without any store.

With a store it does what the scripts of figure 2 do, a commit each. It runs on one core, as
everything that is measured here.
"""

from collections.abc import Callable, Mapping

from tests.bench import ratios
from tests.bench.contenders import Peer, compare
from tests.bench.session import Found, Session

TITLE = "the pipeline / Go's x/oauth2"

GOALS = {"go_store": 0.5, "go": 0.10}


def measure(session: Session) -> Found:
    """The ratio to each peer; what cannot be built here says so."""

    def built(*, stores: bool) -> Peer:
        return Peer([str(session.environments.go_peer())], 64, stores)

    peers: Mapping[str, Callable[[], Peer]] = {
        "go_store": lambda: built(stores=True),
        "go": lambda: built(stores=False),
    }
    found = compare(session, peers)
    names = {"go_store": "Go with SQLite and go-redis", "go": "Go without a store"}
    return Found(
        [ratios.row(names[name], found[name], goal) for name, goal in GOALS.items()],
        {name: ratios.data(found[name]) for name in GOALS},
        [ratios.bar(names[name], found[name], goal) for name, goal in GOALS.items()],
        "pipeline / peer, by CPU",
    )
