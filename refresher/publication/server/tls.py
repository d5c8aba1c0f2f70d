"""The certificates and keys of a ``rediss://`` URL, read again when their files change.

redis-py reads them once for each of its connections, which outlive many reconnects.
"""

import ssl
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.asyncio.connection import RedisSSLContext, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from refresher.logs import Event, emit
from refresher.publication.server.faults import TLS_FILES

Stamp = tuple[int, ...]

SETTING = "redis.url"
"""What log lines name: the files stand in its query."""


class TLSFiles:
    """The TLS context of one server, as its files were when they could last be used."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._stamps: list[Stamp] = []
        self._is_failing = False

    def context(self, options: RedisSSLContext) -> ssl.SSLContext:
        """The context of OPTIONS, made again if a file of theirs is another than last time.

        Raises:
            ConnectionError: of redis-py, if there is none yet and a file cannot be used.
        """
        files = (options.ca_certs, options.certfile, options.keyfile)
        try:
            stamps = [_stamp(Path(file)) for file in files if file]
            if self._context is None or stamps != self._stamps:
                self._make(options, stamps)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            if self._context is None:
                raise RedisConnectionError(TLS_FILES) from error
            if not self._is_failing:
                emit(Event.SECRET_DOUBTED, setting=SETTING, reason=f"{TLS_FILES}: {_why(error)}")
            self._is_failing = True
        else:
            self._is_failing = False
        assert self._context is not None
        return self._context

    def _make(self, options: RedisSSLContext, stamps: list[Stamp]) -> None:
        options.context = None
        made = options.get()
        if self._context is not None:
            emit(Event.SECRET_REPLACED, setting=SETTING)
        self._context, self._stamps = made, stamps


class TLSConnection(SSLConnection):
    """A connection that asks FILES for its context at each connect."""

    def __init__(self, *, files: TLSFiles, **options: Any) -> None:
        super().__init__(**options)
        self._files = files

    def _connection_arguments(self) -> Mapping[str, Any]:
        self.ssl_context.context = self._files.context(self.ssl_context)
        arguments: Mapping[str, Any] = super()._connection_arguments()
        return arguments


def _stamp(file: Path) -> Stamp:
    """Which file it is and when it was changed.

    Raises:
        ValueError: it is none; to read a FIFO would stop the loop.
    """
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("one is no regular file")
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _why(error: OSError | ValueError) -> str:
    """Why the files cannot be used, without a word of what is in them."""
    if isinstance(error, ssl.SSLError):
        return "they hold no certificates, or a key that does not fit"
    return str(error.strerror if isinstance(error, OSError) else error)
