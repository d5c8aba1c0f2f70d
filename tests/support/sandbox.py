"""The sandbox beside tests that are not async: a process of its own, or a thread of ours."""

import json
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from refresher.sandbox import Sandbox, SandboxOptions
from refresher.sandbox.exchange_log import ExchangeRecord
from tests.support.forked import ForkedProcess
from tests.support.waiting import PATIENCE, wait_until

P = ParamSpec("P")
T = TypeVar("T")


SANDBOX = (sys.executable, "-m", "refresher", "sandbox", "--json", "--port", "0")
"""The command of a sandbox whose first line names its address."""


class SandboxProcess:
    """An authorization server on loopback, ended with ``stop``.

    Args:
        options: fields of ``SandboxOptions``.
    """

    def __init__(self, **options: Any) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-")
        log = Path(self._folder.name) / "log"
        self._process = ForkedProcess(
            [*SANDBOX[3:], "--options-json", json.dumps(options)], log=log
        )
        wait_until(
            lambda: log.read_text().endswith("\n"), description="the sandbox tells its address"
        )
        self.base_url: str = json.loads(log.read_text())["base_url"]

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)
        self._folder.cleanup()

    def mint(self, count: int) -> list[dict[str, Any]]:
        """COUNT new grants of the application that exists from the start."""
        answer: dict[str, Any] = self.ask("/_sandbox/grants", {"count": count})
        grants: list[dict[str, Any]] = answer["grants"]
        return grants

    def log(self, *, after: int = 0) -> list[ExchangeRecord]:
        """Every token request so far, without the first AFTER."""
        return [ExchangeRecord(**record) for record in self.ask(f"/_sandbox/log?after={after}")]

    def families(self) -> list[dict[str, Any]]:
        """Every family and whether it was revoked."""
        families: list[dict[str, Any]] = self.ask("/_sandbox/families")
        return families

    def ask(self, path: str, body: Any = None) -> Any:
        """GET, or POST with BODY as JSON."""
        request = urllib.request.Request(  # noqa: S310  loopback
            self.base_url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310  loopback
            return json.loads(response.read())


class SandboxThread:
    """A sandbox that runs in a thread, where everything about it can be asked and changed."""

    def __init__(self, sandbox: Sandbox, portal: BlockingPortal) -> None:
        self.sandbox = sandbox
        self._portal = portal

    def call(self, operation: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run OPERATION, a method of the sandbox or a part of it, in the sandbox's thread."""
        return self._portal.call(lambda: operation(*arguments, **named))

    @contextmanager
    def away(self) -> Iterator[None]:
        """Refuse connections in the block; everything the server knows stays."""
        with self._portal.wrap_async_context_manager(self.sandbox.unreachable()):
            yield

    def refresh_tokens(self, count: int) -> list[str]:
        """The refresh tokens of COUNT new grants."""
        return [self.call(self.sandbox.mint).refresh_token for _ in range(count)]


@contextmanager
def sandbox_thread(options: SandboxOptions) -> Iterator[SandboxThread]:
    """An authorization server on loopback until the block ends."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(Sandbox(options)) as sandbox,
    ):
        yield SandboxThread(sandbox, portal)
