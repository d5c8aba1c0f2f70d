"""URLs that name several Redis servers as one: by the sentinels of a master, or as a cluster.

``redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST.../MASTER[/DB][?OPTION=...]`` and
``redis+cluster://[USER:PASSWORD@]HOST[:PORT],HOST...[?OPTION=...]``; with ``rediss+`` every
connection uses TLS. One URL says it all, so that settings, variables and the consumers' client
need one value. Other programs for Python read the same forms.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import SplitResult, parse_qs, unquote, urlencode, urlsplit

SENTINEL_USERNAME, SENTINEL_PASSWORD = "sentinel_username", "sentinel_password"
"""Options of a URL: who we are at the sentinels. What stands elsewhere is for the data."""

APART = frozenset({SENTINEL_USERNAME, SENTINEL_PASSWORD})


class Layout(StrEnum):
    """How several servers hold one set of keys."""

    SENTINEL = "sentinel"
    """One holds all, and sentinels know which."""
    CLUSTER = "cluster"
    """Each holds some of the slots."""


PORTS = {Layout.SENTINEL: 26379, Layout.CLUSTER: 6379}
"""Where they listen unless the URL says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyServers:
    """What such a URL says."""

    layout: Layout
    scheme: str
    """``redis`` or ``rediss``: how each server is spoken to."""
    hosts: tuple[tuple[str, int], ...]
    master: str
    """The name by which sentinels know the master; empty for a cluster."""
    db: str
    userinfo: str = field(repr=False)
    """As it stands in the URL, with the ``@``; may hold a password."""
    query: Mapping[str, str] = field(repr=False)
    """Options for each connection; may hold the password of a key."""
    sentinel: tuple[str, str] = field(repr=False)
    """User and password at the sentinels; both empty where they ask for none."""

    @property
    def shown(self) -> str:
        """The servers for people, without credentials and options."""
        hosts = ",".join(located(*host) for host in self.hosts)
        if self.layout is Layout.CLUSTER:
            return f"cluster of {hosts}"
        return f"{self.master} of the sentinels {hosts}"

    def url_of(self, host: str, port: int) -> str:
        """The URL of one server that holds data, with user and password."""
        return f"{self.scheme}://{self.userinfo}{located(host, port)}/{self.db}{self._options}"

    def sentinel_url_of(self, host: str, port: int) -> str:
        """The URL of one sentinel, without user and password."""
        return f"{self.scheme}://{located(host, port)}/{self._options}"

    @property
    def _options(self) -> str:
        return f"?{urlencode(self.query)}" if self.query else ""


def is_many(url: str) -> bool:
    """Whether URL means to name several servers."""
    return "+" in url.partition("://")[0]


def read_many(url: str) -> ManyServers:
    """What URL, which ``is_many``, says.

    Raises:
        ValueError: says what is wrong and never quotes URL.
    """
    parts = urlsplit(url)
    scheme, _, word = parts.scheme.partition("+")
    if scheme not in {"redis", "rediss"} or word not in set(Layout):
        raise ValueError(
            "is not a Redis URL: write redis+sentinel:// or redis+cluster://, or rediss+... for TLS"
        )
    layout = Layout(word)
    userinfo, at, hosts = parts.netloc.rpartition("@")
    options = {
        name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()
    }
    if "db" in options:
        raise ValueError("has the option db: write /MASTER/DB, and nothing for a cluster")
    if layout is Layout.CLUSTER and APART & options.keys():
        raise ValueError(f"has {min(APART & options.keys())}, which is for sentinels")
    master, db = _path(parts, layout)
    return ManyServers(
        layout=layout,
        scheme=scheme,
        hosts=tuple(_host(host, layout) for host in hosts.split(",")),
        master=master,
        db=db,
        userinfo=userinfo + at,
        query={name: value for name, value in options.items() if name not in APART},
        sentinel=(options.get(SENTINEL_USERNAME, ""), options.get(SENTINEL_PASSWORD, "")),
    )


def located(host: str, port: int) -> str:
    """HOST and PORT as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(text: str, layout: Layout) -> tuple[str, int]:
    try:
        one = urlsplit(f"//{text}")
        host, port = one.hostname, one.port
    except ValueError:
        host = port = None
    if not host:
        raise ValueError(f"has a host that cannot be read: write HOST:PORT,HOST:PORT ({layout})")
    return host, port or PORTS[layout]


def _path(parts: SplitResult, layout: Layout) -> tuple[str, str]:
    """Name of the master and number of the database."""
    steps = [unquote(step) for step in parts.path.strip("/").split("/")]
    if layout is Layout.CLUSTER:
        if steps not in ([""], ["0"]):
            raise ValueError("has a path: a cluster has one database, and no master's name")
        return "", "0"
    if not steps[0]:
        raise ValueError(
            "has no name of a master: write redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB"
        )
    if len(steps) > 2 or (steps[1:] and not steps[1].isdecimal()):  # noqa: PLR2004  name, number
        raise ValueError("has a path other than /MASTER or /MASTER/DB, where DB is a number")
    return steps[0], steps[1] if steps[1:] else "0"
