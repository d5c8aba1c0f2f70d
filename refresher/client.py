"""Read the access tokens that refresher publishes, from Python.

This file needs ``redis`` and nothing else of refresher: it may be copied::

    from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
    from refresher.client import TokenReader

    tokens = TokenReader(Redis.from_url("redis://localhost"))

    token = await tokens.get("acme")
    if token is None:
        ...  # no valid token just now: HGETALL refresher:status:acme says why
    response = await api.get(url, headers={"Authorization": token.authorization})
    if response.status == 401:
        await tokens.reject("acme", token)  # refreshed once, however many ask

A token that can be read is valid: its key ends with it. So read it whenever one is
needed (one round trip, about 0.2 ms), or follow it with ``watch``.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from redis import exceptions
from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

RECONNECT_AFTER = 0.5
"""Seconds before a lost subscription is made again."""

ANSWER_TIME = 5.0
"""Seconds one read may take while a token is followed."""

SENTINEL_TIME = 1.0
"""Seconds a sentinel may take before the next one is asked."""

RETRIES = 5
"""Times a command is sent again to whatever master there is then."""

REJECTED_LIFE = 300
"""Seconds for which a rejected version waits for a daemon that is away."""

LABEL = "label."

NAMED = frozenset({"access_token", "token_type", "expires_at", "issued_at", "version", "scope"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One published access token. Its repr does not show it."""

    access_token: str = field(repr=False)
    token_type: str
    """As the authorization server sent it, usually ``Bearer``."""
    version: int
    """Grows with every token of the grant."""
    expires_at: int | None
    """Unix seconds; None for a static token without an end."""
    scope: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the operator noted for the grant."""
    extras: Mapping[str, str] = field(default_factory=dict)
    """What else the provider said, such as ``instance_url``."""

    @property
    def is_over(self) -> bool:
        """Whether this token has ended by the clock here."""
        return self.expires_at is not None and self.expires_at <= time.time()

    @property
    def authorization(self) -> str:
        """The value of an ``Authorization`` header (RFC 6750 2.1)."""
        kind = "Bearer" if self.token_type.lower() == "bearer" else self.token_type
        return f"{kind} {self.access_token}"


class TokenReader:
    """Reads what refresher publishes under one prefix.

    Args:
        redis: any client of ``redis.asyncio``, of a cluster and by sentinels too, with or
            without ``decode_responses``.
        prefix: as in the daemon's settings.
    """

    def __init__(self, redis: Redis | RedisCluster, prefix: str = "refresher:") -> None:
        self._redis: Any = redis  # their methods have no common type
        self._prefix = prefix

    @classmethod
    def from_url(cls, url: str, prefix: str = "refresher:") -> "TokenReader":
        """A reader with a client of its own; close it with ``aclose``.

        Args:
            url: as in the daemon's settings, ``redis+sentinel://HOST,HOST/MASTER`` and
                ``redis+cluster://HOST,HOST`` too.

        Raises:
            ValueError: for a URL that cannot be read.
        """
        return cls(_client(url), prefix)

    async def aclose(self) -> None:
        """Close the client this reader uses."""
        await self._redis.aclose()
        sentinel: Sentinel | None = getattr(
            getattr(self._redis, "connection_pool", None), "sentinel_manager", None
        )
        for one in sentinel.sentinels if sentinel else ():
            await one.aclose()

    async def get(self, name: str) -> Token | None:
        """The current access token of grant NAME, or None when there is no valid one."""
        fields: Mapping[Any, Any] = await self._redis.hgetall(f"{self._prefix}token:{name}")
        return _token({_text(key): _text(value) for key, value in fields.items()})

    async def watch(self, name: str) -> AsyncGenerator[Token | None, None]:
        """Every new token of grant NAME, the current one first, and None when it has gone.

        Messages are only hints and are lost while a connection is: the key is read after
        each one, after each subscription, and at the end of the token. A version is yielded
        once, and never one below the last. A lost connection is made anew for as long as it
        takes; a token that ends meanwhile has gone.

        Raises:
            redis.RedisError: for what waiting does not mend: a wrong password, an ACL.
        """
        held: Token | None = None
        while True:
            try:
                # It also finds out where the key is, which a subscription to a cluster does not.
                await asyncio.wait_for(self.get(name), ANSWER_TIME)
                async with self._redis.pubsub() as subscription:
                    await subscription.subscribe(f"{self._prefix}token:{name}")
                    while True:
                        message = await subscription.get_message(timeout=_until_end(held))
                        if _is_outdated(message, held):
                            continue
                        found = await asyncio.wait_for(self.get(name), ANSWER_TIME)
                        if _is_news(found, held):
                            held = found
                            yield held
                        elif message is None:
                            await asyncio.sleep(RECONNECT_AFTER)  # our clock is ahead of Redis'
            except (exceptions.AuthenticationError, exceptions.AuthorizationError):
                raise  # although redis-py calls them connection errors
            except (exceptions.ConnectionError, exceptions.TimeoutError, TimeoutError):
                await asyncio.sleep(RECONNECT_AFTER)
            if held is not None and held.is_over:
                held = None
                yield None

    async def reject(self, name: str, token: Token) -> None:
        """Say that a server did not accept TOKEN: refresher refreshes it once.

        A version that is no longer current is ignored, so everybody who got a 401 may say
        so. Wait for the next token with ``watch``, or read again a little later; the field
        ``request`` of the status says what became of it.
        """
        key = f"{self._prefix}rejected:{name}"
        await self._redis.set(key, token.version, ex=REJECTED_LIFE)


def _client(url: str) -> Redis | RedisCluster:
    """A client for URL."""
    parts = urlsplit(url)
    scheme, _, layout = parts.scheme.partition("+")
    if not layout:
        return Redis.from_url(url)
    userinfo, at, hosts = parts.netloc.rpartition("@")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    ours = {name: query.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    options: dict[str, Any] = dict(
        parse_url(f"{scheme}://{userinfo}{at}localhost/?{urlencode(query)}")
    )
    del options["host"]
    options["ssl"] = options.pop("connection_class", None) is not None
    places = [urlsplit(f"//{host}") for host in hosts.split(",")]
    if layout == "cluster":
        nodes = [ClusterNode(one.hostname or "localhost", one.port or 6379) for one in places]
        return RedisCluster(startup_nodes=nodes, **options)
    if layout != "sentinel":
        raise ValueError("write redis://, redis+sentinel:// or redis+cluster://")
    name, _, db = unquote(parts.path.strip("/")).partition("/")
    sentinel = Sentinel(  # type: ignore[no-untyped-call]  # of redis-py
        [(one.hostname or "localhost", one.port or 26379) for one in places],
        sentinel_kwargs={**options, **ours, "socket_timeout": SENTINEL_TIME},
        **options,
    )
    # Without it the first command after a failover would fail.
    retry = Retry(ExponentialBackoff(cap=1.0, base=0.1), RETRIES)
    master: Redis = sentinel.master_for(name, db=int(db or 0), retry=retry)
    return master


def _until_end(held: Token | None) -> float | None:
    """Seconds to wait for a message; None waits for ever."""
    if held is None or held.expires_at is None:
        return None
    return max(0.0, held.expires_at - time.time())


def _is_outdated(message: Mapping[str, Any] | None, held: Token | None) -> bool:
    """Whether MESSAGE is about a version below the one that is held."""
    if held is None or message is None or message["type"] != "message":
        return False
    try:
        return int(json.loads(message["data"])["version"]) < held.version
    except (ValueError, TypeError, KeyError):
        return False  # a hint all the same


def _is_news(found: Token | None, held: Token | None) -> bool:
    if found is None or held is None:
        return found is not held
    return found.version > held.version


def _token(fields: Mapping[str, str]) -> Token | None:
    if "access_token" not in fields:
        return None
    return Token(
        access_token=fields["access_token"],
        token_type=fields.get("token_type", "Bearer"),
        version=int(fields["version"]),
        expires_at=int(fields["expires_at"]) if "expires_at" in fields else None,
        scope=tuple(fields.get("scope", "").split()),
        labels={
            key.removeprefix(LABEL): value for key, value in fields.items() if key.startswith(LABEL)
        },
        extras={
            key: value
            for key, value in fields.items()
            if key not in NAMED and not key.startswith(LABEL)
        },
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
