"""The certificates and keys of a ``rediss://`` URL, read again when their files change.

redis-py reads them once for each of its connections, which outlive many reconnects. They
are looked at in a thread: a file system that hangs costs one connection a moment, and not
the loop its turn.
"""

import ssl
import stat
from pathlib import Path
from typing import Any

import anyio
from redis.asyncio.connection import RedisSSLContext, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from refresher.logs import Event, emit
from refresher.publication.server.faults import TLS_FILES
from refresher.threads import in_thread_of_its_own

Stamp = tuple[int, ...]

SILENT = "they did not answer in time"

SETTING = "redis.url"
"""What log lines name: the files stand in its query."""


LOOK_WITHIN = 1.0
"""Seconds a file system may take: less than a connection may."""


class TLSFiles:
    """The TLS context of one server, as its files were when they could last be used."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None
        self._stamps: list[Stamp] = []
        self._is_failing = False
        self._looking = anyio.Lock()
        self._is_stuck = False
        """Whether a thread has not come back from the files yet."""

    async def context(self, options: RedisSSLContext) -> ssl.SSLContext:
        """The context of OPTIONS, made again if a file of theirs is another than last time.

        Raises:
            ConnectionError: of redis-py, if there is none yet and a file cannot be used.
        """
        async with self._looking:
            try:
                await self._look(options)
            except (OSError, ValueError, RuntimeError) as error:  # an SSLError is an OSError
                if self._context is None:
                    raise RedisConnectionError(TLS_FILES) from error
                if not self._is_failing:
                    reason = f"{TLS_FILES}: {_why(error)}"
                    emit(Event.SECRET_DOUBTED, setting=SETTING, reason=reason)
                self._is_failing = True
            else:
                self._is_failing = False
        assert self._context is not None
        return self._context

    async def _look(self, options: RedisSSLContext) -> None:
        """Take over what the files hold if they changed.

        Raises:
            OSError: they cannot be read in time.
            ValueError: one is no file.
            RuntimeError: no thread can be started.
        """
        named = (options.ca_certs, options.certfile, options.keyfile)
        files = [Path(file) for file in named if file]
        seen = None if self._context is None else self._stamps

        def look() -> tuple[list[Stamp], ssl.SSLContext | None]:
            try:
                stamps = [_stamp(file) for file in files]
                if stamps == seen:
                    return stamps, None
                options.context = None
                return stamps, options.get()
            finally:
                self._is_stuck = False

        if self._is_stuck:
            raise TimeoutError(SILENT)
        self._is_stuck = True
        try:
            with anyio.fail_after(LOOK_WITHIN):
                stamps, made = await in_thread_of_its_own(look)
        except TimeoutError:
            raise TimeoutError(SILENT) from None
        except RuntimeError:
            self._is_stuck = False
            raise
        if made is not None:
            if self._context is not None:
                emit(Event.SECRET_REPLACED, setting=SETTING)
            self._context, self._stamps = made, stamps


class TLSConnection(SSLConnection):
    """A connection that asks FILES for its context at each connect."""

    def __init__(self, *, files: TLSFiles, **options: Any) -> None:
        super().__init__(**options)
        self._files = files

    async def _connect(self) -> None:
        self.ssl_context.context = await self._files.context(self.ssl_context)
        await super()._connect()  # type: ignore[no-untyped-call]  # of redis-py


def _stamp(file: Path) -> Stamp:
    """Which file it is and when it was changed.

    Raises:
        ValueError: it is none; to read a FIFO would never end.
    """
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("one is no regular file")
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _why(error: OSError | ValueError | RuntimeError) -> str:
    """Why the files cannot be used, without a word of what is in them."""
    if isinstance(error, ssl.SSLError):
        return "they hold no certificates, or a key that does not fit"
    return str((isinstance(error, OSError) and error.strerror) or error)
