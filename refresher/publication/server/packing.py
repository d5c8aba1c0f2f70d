"""How commands become bytes (the Redis protocol, RESP): what redis-py does, in one pass.

Every refresh sends some ten commands of up to forty words, and the library's way, which looks
at each word for what it may be and copies all that came before, takes as long as the rest of
a publication.
"""

from collections.abc import Iterable

from redis.asyncio import Connection, UnixDomainSocketConnection
from redis.typing import EncodableT

from refresher.publication.server.tls import TLSConnection


class _Packing:
    """Words are text, bytes or numbers; a command is never one word with spaces in it."""

    def pack_command(self, *words: EncodableT) -> list[bytes]:
        return self.pack_commands([words])

    def pack_commands(self, commands: Iterable[Iterable[EncodableT]]) -> list[bytes]:
        parts: list[bytes] = []
        for command in commands:
            words = [w if isinstance(w, bytes) else str(w).encode() for w in command]
            parts.append(b"*%d\r\n" % len(words))
            parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
        return [b"".join(parts)]


class PackingConnection(_Packing, Connection):
    """A connection in the clear."""


class PackingUnixConnection(_Packing, UnixDomainSocketConnection):
    """A connection to a socket of this machine."""


class PackingTLSConnection(_Packing, TLSConnection):
    """A connection by TLS."""
