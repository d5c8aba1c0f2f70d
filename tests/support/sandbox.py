"""The sandbox as a process of its own, for tests that kill and signal processes."""

import json
import subprocess
import sys
import urllib.request
from typing import Any

from refresher.sandbox.exchange_log import ExchangeRecord


class SandboxProcess:
    """An authorization server on loopback, ended with ``stop``.

    Args:
        options: fields of ``SandboxOptions``.
    """

    def __init__(self, **options: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "refresher.sandbox", "--options-json", json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.base_url: str = json.loads(self._process.stdout.readline())["base_url"]

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(timeout=20)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def mint(self, count: int) -> list[dict[str, Any]]:
        """COUNT new grants of the application that exists from the start."""
        answer: dict[str, Any] = self.ask("/_sandbox/grants", {"count": count})
        grants: list[dict[str, Any]] = answer["grants"]
        return grants

    def log(self) -> list[ExchangeRecord]:
        """Every token request so far."""
        return [ExchangeRecord(**record) for record in self.ask("/_sandbox/log")]

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
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310  loopback
            return json.loads(response.read())
