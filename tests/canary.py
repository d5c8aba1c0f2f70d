"""G5 from outside: secrets that were planted or issued are searched for where none may be."""

import base64
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from redis import Redis

KEPT = 16
"""Characters from a secret's end that betray it; shorter secrets would be found by chance."""

_WORD = re.compile(rb"[A-Za-z0-9+/_=-]{16,}")

_BLANK = bytes(512)
"""Most of a rescue file is nothing yet, and no word goes through it."""

_CONFIGURATION = {".toml", ".key", ".secret"}
"""Where an operator put secrets, and nobody else looks."""

_TOKENS = "refresher:token:"


class Canary:
    """Plants secrets, learns of those a server issued, and finds where they came out."""

    def __init__(self) -> None:
        self._planted: list[str] = []
        self._issuers: list[Callable[[], Iterable[str]]] = []

    def plant(self, what: str) -> str:
        """A secret that exists once, named after WHAT it is."""
        self.add(f"canary-{what}-{secrets.token_urlsafe(24)}")
        return self._planted[-1]

    def add(self, secret: str) -> None:
        """SECRET must not come out either."""
        assert len(secret) >= KEPT
        self._planted.append(secret)

    def watch(self, issuer: Callable[[], Iterable[str]]) -> None:
        """Nothing that ISSUER lists may come out."""
        self._issuers.append(issuer)

    def found_in(self, content: bytes) -> set[str]:
        """The secrets CONTENT holds, as they are or in base64, by their first characters."""
        return _found(self._marks(), content)

    def leaks(self, folder: Path, redis: Redis) -> list[str]:
        """Where secrets came out: files below FOLDER (logs, outputs, the vault), and Redis."""
        places = [
            (str(path.relative_to(folder)), path.read_bytes())
            for path in folder.rglob("*")
            if path.is_file() and path.suffix not in _CONFIGURATION
        ]
        places += _redis_places(redis)
        marks = self._marks()
        return [
            f"{place} holds {secret}..."
            for place, content in places
            for secret in sorted(_found(marks, content))
        ]

    def _marks(self) -> dict[bytes, str]:
        issued = [secret for issuer in self._issuers for secret in issuer()]
        return {
            form[-KEPT:]: secret[:20]
            for secret in (*self._planted, *issued)
            for form in _forms(secret.encode())
        }


def _found(marks: dict[bytes, str], content: bytes) -> set[str]:
    return {
        marks[word[at : at + KEPT]]
        for word in _words(content)
        for at in range(len(word) - KEPT + 1)
        if word[at : at + KEPT] in marks
    }


def _words(content: bytes) -> set[bytes]:
    """What in CONTENT could hold a secret."""
    return {word for part in content.split(_BLANK) if part for word in _WORD.findall(part)}


def _forms(secret: bytes) -> Iterator[bytes]:
    """SECRET itself and what base64 makes of it after 0, 1 or 2 other bytes."""
    yield secret
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret)
        yield encoded.rstrip(b"=")[:-1]  # the last character depends on what follows


def _redis_places(redis: Redis) -> list[tuple[str, bytes]]:
    """Every key and value in REDIS, but for the access tokens that are there to be read."""
    client: Any = redis  # redis-py leaves the replies of synchronous clients open
    places = []
    for key in client.scan_iter(count=1000):
        match client.type(key):
            case "hash":
                fields = client.hgetall(key)
                if key.startswith(_TOKENS):
                    del fields["access_token"]
                value: object = fields
            case "stream":
                value = client.xrange(key)
            case "string":
                value = client.get(key)
            case "none":
                continue  # it ended since it was listed
            case other:
                raise AssertionError(f"{key} is a {other}, which no contract names")
        places.append((f"redis {key}", f"{key} {value}".encode()))
    return places
