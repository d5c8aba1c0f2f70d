"""A person at a browser: starts a login, consents or not, and pastes what the bar shows."""

import html
import os
import re
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.support.daemon import DaemonProcess
from tests.support.waiting import PATIENCE, wait_until


class LoginCommand:
    """``refresher login`` as it waits for consent.

    Args:
        browser: what opens a URL on this desktop; ``true`` opens nothing.
        is_listed: it has a command line of its own for whoever lists processes.
    """

    def __init__(
        self,
        daemon: DaemonProcess,
        *arguments: str,
        browser: str | Path = "true",
        is_listed: bool = False,
    ) -> None:
        place = Path(tempfile.mkdtemp(dir=daemon.folder, prefix="login-"))
        self._log, keyboard = place / "login.log", place / "keyboard"
        os.mkfifo(keyboard)
        self._keyboard = keyboard.open("r+b", buffering=0)
        environment = {"BROWSER": str(browser)}
        begin = daemon.spawn if is_listed else daemon.fork
        self._process = begin(
            "login", *arguments, environment=environment, stdin=keyboard, log=self._log
        )
        wait_until(
            lambda: self.has_ended or self._urls(),
            description="the login shows an authorization URL",
        )
        assert self._urls(), self.said
        self.url = self._urls()[0]
        """What the person is asked to open."""

    @property
    def said(self) -> str:
        """Everything it has written."""
        return self._log.read_text()

    def finish(self, pasted: str = "", *, code: int = 0) -> str:
        """Paste something and see the command end with CODE; gives everything it said."""
        with self._keyboard:
            self._keyboard.write(pasted.encode())
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        assert "Traceback" not in self.said, self.said
        assert self._process.returncode == code, self.said
        return self.said

    @property
    def has_ended(self) -> bool:
        """It waits no more."""
        return self._process.poll() is not None

    def _urls(self) -> list[str]:
        return [line.strip() for line in self.said.splitlines() if line.startswith("  http")]


class Browser:
    """What opens addresses on this desktop: shows the page it was given, and stays open.

    Args:
        folder: where it keeps what it was given.
    """

    def __init__(self, folder: Path) -> None:
        self._given, self._page, self._closed = (
            folder / name for name in ("given", "page", "closed")
        )
        self.program = folder / "browser"
        self.program.write_text(
            f'#!/bin/sh\ncat "${{1#file://}}" > {self._page}\necho "$@" > {self._given}\n'
            f"while [ ! -e {self._closed} ]; do sleep 0.05; done\n"
        )
        self.program.chmod(0o755)

    def leads_to(self) -> str:
        """Where the page that it was given leads at once."""
        wait_until(
            lambda: self._given.exists() and self._given.read_text().strip(),
            description="the browser is opened",
        )
        found = re.search('http-equiv="refresh" content="0; url=(.*?)"', self._page.read_text())
        assert found is not None
        return html.unescape(found[1])

    def close(self) -> None:
        """End it, if it still runs."""
        self._closed.touch()


def parameters(url: str) -> dict[str, str]:
    """The parameters of URL's query."""
    return dict(parse_qsl(urlsplit(url).query))


def with_parameters(url: str, **changes: str) -> str:
    """URL with other parameters."""
    query = urlencode({**parameters(url), **changes})
    return urlsplit(url)._replace(query=query).geturl()


def visit(url: str) -> str:
    """The page URL leads to, in the end."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:  # noqa: S310  loopback
        text: str = response.read().decode()
        return text


def where_it_leads(url: str) -> str:
    """The address a browser is redirected to, which nobody has to serve."""
    opener = urllib.request.build_opener(_Staying)
    with opener.open(url, timeout=PATIENCE) as answer:
        assert answer.status == 302, answer.read()
        return str(answer.headers["Location"])


class _Staying(urllib.request.HTTPErrorProcessor):
    """Hands every answer over as it is."""

    def http_response(self, _: object, response: Any) -> Any:
        return response
