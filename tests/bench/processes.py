"""What a figure starts: token endpoint, Valkey, the daemon, and a peer; each on its core."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from refresher.demo.private_server import PrivateValkey, free_port
from refresher.vault.sealing import write_key_file
from tests.bench.database import SharedVault
from tests.bench.ground import ROOT, Cores, TooLate, on_core
from tests.bench.peers.endpoint import refresh_token
from tests.bench.peers.work import Work
from tests.bench.seeding import KEY, VAULT, Due, import_line, seed
from tests.bench.servers import Endpoint
from tests.support.waiting import wait_until

SETTINGS = """
[vault]
path = "{vault}"
{vault_url}
[redis]
url = "{redis_url}"
[http]
listen = "127.0.0.1:{health_port}"
[log]
format = "json"
[daemon]
workers = {in_flight}
[clients.bench]
authorization_endpoint = "{base_url}/authorize"
token_endpoint = "{base_url}/token"
redirect_uris = ["http://127.0.0.1/callback/bench"]
client_id = "bench"
client_secret = "bench-secret"
rotation = "strict"
concurrency = {concurrency}
"""


class Published(Protocol):
    """Where a daemon publishes."""

    @property
    def url(self) -> str:
        """For its settings."""


class Daemon:
    """The real daemon, as anybody starts it, on a vault with many grants.

    Args:
        version: that all of its grants had before it was started.
        vault_url: of the PostgreSQL that its vault lies in; None has it in a file.
        beside: daemons that share the limits of its client, itself among them.
    """

    def __init__(
        self,
        folder: Path,
        base_url: str,
        redis_url: str,
        in_flight: int,
        version: int = 0,
        *,
        vault_url: str | None = None,
        beside: int = 1,
    ) -> None:
        self.folder = folder
        self.version = version
        self.health_port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._before = 0
        """Bytes that earlier daemons have logged."""
        self.config = folder / "refresher.toml"
        self.config.touch(0o600)
        self.config.write_text(
            SETTINGS.format(
                vault=VAULT,
                vault_url="" if vault_url is None else f'url = "{vault_url}"',
                redis_url=redis_url,
                health_port=self.health_port,
                in_flight=in_flight,
                concurrency=in_flight * beside,
                base_url=base_url,
            )
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def command(self, *arguments: str) -> list[str]:
        """A command line of refresher on this daemon's settings."""
        return [sys.executable, "-m", "refresher", "--config", str(self.config), *arguments]

    def start(self, core: int) -> None:
        """Start it on CORE alone."""
        with self._log.open("ab") as log, on_core(core):
            self._before = log.tell()
            self._process = subprocess.Popen(
                self.command("run"), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def await_ready(self, within: float = 60.0) -> None:
        """Return when it says that it is ready.

        Raises:
            AssertionError: it ended, or is not ready WITHIN seconds.
        """

        def is_ready() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()[-2_000:]
            return b'"daemon.ready"' in self._log.read_bytes()[self._before :]

        wait_until(is_ready, within=within, description="the daemon is ready")

    def start_before(self, at: float, core: int) -> None:
        """Start it on CORE, and return at the wall time AT.

        Raises:
            TooLate: it became ready after that, and was ended in order.
        """
        self.start(core)
        self.await_ready()
        if time.time() > at:
            self.end()
            raise TooLate("the daemon was ready too late")
        time.sleep(at - time.time())

    def lines(self, event: str) -> Iterator[dict[str, Any]]:
        """The log lines of EVENT so far, of the daemon that was started last."""
        with self._log.open() as log:
            log.seek(self._before)
            for line in log:
                if event in line and line.startswith("{"):
                    found: dict[str, Any] = json.loads(line)
                    yield found

    def hang_up(self) -> None:
        """SIGHUP: read the settings again."""
        os.kill(self.pid, signal.SIGHUP)

    def end(self) -> None:
        """End it in order, so that another can go on with the vault."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """Kill it if it runs: nobody goes on with its vault."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def _log(self) -> Path:
        return self.folder / "daemon.log"


def written_at(line: Mapping[str, Any]) -> float:
    """The wall time of a log LINE."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()


class Ground:
    """One session: the cores, the environments' Python, and how many are in flight.

    Args:
        python: has uvloop and the peers.
    """

    def __init__(self, python: Path, *, in_flight: int = 64) -> None:
        self.cores = Cores.of_this_machine()
        self.python = python
        self.in_flight = in_flight
        self._folder = tempfile.TemporaryDirectory(prefix="refresher-bench-")
        self._template: Path | None = None
        self._usable = os.sched_getaffinity(0)
        # This program looks on and must not take part; what it starts runs where it does.
        os.sched_setaffinity(0, {self.cores.others})

    def close(self) -> None:
        """Remove everything that was written, and run anywhere again."""
        os.sched_setaffinity(0, self._usable)
        self._folder.cleanup()

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for one contender."""
        folder = Path(tempfile.mkdtemp(dir=self._folder.name))
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    @contextmanager
    def servers(self) -> Iterator[tuple[Endpoint, PrivateValkey]]:
        """A token endpoint and a Valkey, both new."""
        valkey = PrivateValkey()
        valkey.start()
        try:
            with self.endpoint() as endpoint:
                yield endpoint, valkey
        finally:
            valkey.stop()

    @contextmanager
    def endpoint(self) -> Iterator[Endpoint]:
        """A token endpoint, new."""
        self.template()  # it takes a while: before anybody draws an instant
        endpoint = Endpoint(self.python)
        try:
            yield endpoint
        finally:
            endpoint.stop()

    @contextmanager
    def daemon(
        self, endpoint: Endpoint, valkey: Published, count: int, due: Due
    ) -> Iterator[Daemon]:
        """A daemon that is not started, on a vault with COUNT grants that are DUE."""
        with self.folder() as folder:
            version = seed(self.template(), folder, count, due)
            daemon = Daemon(folder, endpoint.base_url, valkey.url, self.in_flight, version)
            try:
                yield daemon
            finally:
                daemon.stop()

    @contextmanager
    def replica(
        self, endpoint: Endpoint, valkey: Published, vault: SharedVault, *, beside: int = 1
    ) -> Iterator[Daemon]:
        """A daemon that is not started, on a vault that BESIDE share, each with all in flight."""
        with self.folder() as folder:
            shutil.copy(self.template() / KEY, folder / KEY)
            where = (endpoint.base_url, valkey.url, self.in_flight, vault.version)
            daemon = Daemon(folder, *where, vault_url=vault.url, beside=beside)
            try:
                yield daemon
            finally:
                daemon.stop()

    @contextmanager
    def peer(
        self,
        command: Sequence[str],
        endpoint: Endpoint,
        valkey: PrivateValkey,
        *,
        grants: int,
        in_flight: int,
        stores: bool,
    ) -> Iterator[int]:
        """A running peer; its process id.

        Args:
            command: the path of its work is added.
        """
        with self.folder() as folder:
            work = Work(
                token_url=f"{endpoint.base_url}/token",
                redis_url=valkey.url,
                database=str(folder / "peer.db"),
                grants=[refresh_token(number, 0) for number in range(grants)],
                in_flight=in_flight,
                stores=stores,
            )
            (folder / "work.json").write_text(json.dumps(asdict(work)))
            log = folder / "peer.log"
            with log.open("wb") as output, on_core(self.cores.measured):
                process = subprocess.Popen(
                    [*command, str(folder / "work.json")], cwd=ROOT, stdout=output, stderr=output
                )
            try:
                yield process.pid
                assert process.poll() is None, log.read_text()[-2_000:]
            finally:
                process.kill()
                process.wait()

    def template(self) -> Path:
        """A folder whose vault has the one grant that a real import brought."""
        if self._template is None:
            self._template = Path(self._folder.name) / "template"
            self._template.mkdir()
            write_key_file(self._template / KEY)
            nobody = "127.0.0.1:1"
            alone = Daemon(
                self._template, f"http://{nobody}", f"redis://{nobody}/0", self.in_flight
            )
            command = alone.command("import", "-")
            subprocess.run(
                command, input=import_line(0), text=True, check=True, capture_output=True
            )
        return self._template
