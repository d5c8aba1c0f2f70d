"""A daemon that knows an issuer and nothing else, beside a server written by others."""

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from tests.foreign.provider import FOLDER, NODE_MODULES, REDIRECT_URI, node_modules
from tests.support.daemon import DaemonProcess
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import wait_until
from tests.system.browser import LoginCommand, parameters

__all__ = ["valkey"]

pytestmark = pytest.mark.foreign

CLIENTS = """
[clients.open]
issuer = "{issuer}"
initial_access_token = {{ file = "iat.secret" }}
redirect_uris = ["{redirect_uri}/open"]
scope = "openid"
rotation = "strict"
{more}
[clients.bound]
issuer = "{issuer}"
client_id = "bound"
client_secret = {{ file = "client.secret" }}
redirect_uris = ["{redirect_uri}"]
scope = "openid"
"""


@dataclass(frozen=True, slots=True)
class OpenProvider:
    """The running server, and what it says it did."""

    log: Path
    initial_access_token: str
    client_secret: str

    def said(self, *events: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines(keepends=True)
        known = [json.loads(line) for line in lines if line[0] == "{" and line[-1] == "\n"]
        return [line for line in known if not events or line["event"] in events]

    @property
    def issuer(self) -> str:
        return str(self.said("listening")[0]["issuer"])

    async def consent(self, url: str) -> str:
        """Be the person's browser; give the address it was redirected to at last."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            for _ in range(10):
                async with browser.get(url, allow_redirects=False) as page:
                    assert page.status in {302, 303}, await page.text()
                    url = page.headers["Location"]
                if url.startswith(REDIRECT_URI):
                    return url
                if url.startswith("/"):
                    url = self.issuer + url
        pytest.fail("the provider redirects for ever")


@contextmanager
def running(folder: Path) -> Iterator[OpenProvider]:
    folder.mkdir()
    for name in ("open.mjs", "package.json"):
        shutil.copy(FOLDER / name, folder)
    (folder / "node_modules").symlink_to(node_modules("oidc-provider"))
    log, complaints = folder / "provider.log", folder / "provider.err"
    provider = OpenProvider(log, secrets.token_urlsafe(24), secrets.token_urlsafe(24))
    node = shutil.which("node")
    assert node is not None, "the foreign tests need node"
    with log.open("wb") as output, complaints.open("wb") as errors:
        process = subprocess.Popen(
            [node, "open.mjs", REDIRECT_URI],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "CLIENT_SECRET": provider.client_secret,
                "INITIAL_ACCESS_TOKEN": provider.initial_access_token,
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
    try:
        wait_until(
            lambda: provider.said("listening") or process.poll() is not None,
            description="the provider listens",
        )
        assert provider.said("listening"), complaints.read_text()
        yield provider
    finally:
        process.kill()
        process.wait()


@contextmanager
def installed(
    folder: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, more: str = ""
) -> Iterator[tuple[DaemonProcess, OpenProvider]]:
    """A daemon whose clients name the issuer, and a bit MORE."""
    with running(folder / "provider") as provider:
        # The daemon would take it for a key of the settings that it does not know.
        monkeypatch.delenv(NODE_MODULES)
        home = folder / "installation"
        home.mkdir()
        for name, value in (
            ("iat", provider.initial_access_token),
            ("client", provider.client_secret),
        ):
            (home / f"{name}.secret").touch(0o600)
            (home / f"{name}.secret").write_text(value)
        clients = CLIENTS.format(issuer=provider.issuer, redirect_uri=REDIRECT_URI, more=more)
        daemon = DaemonProcess(home)
        daemon.prepare(redis_url=valkey.url, clients=clients)
        daemon.start()
        yield daemon, provider
        assert daemon.stop() == 0
        text = daemon.log.read_text()
        assert provider.initial_access_token not in text
        for line in provider.said():
            for name in ("value", "secret", "id"):
                assert line.get(name) is None or line[name] not in text


@pytest.mark.parametrize(
    ("more", "method"),
    [
        ("", "client_secret_basic"),
        ('client_authentication = "client_secret_post"', "client_secret_post"),
        ('client_authentication = "none"', "none"),
    ],
)
def test_an_issuer_and_an_initial_access_token_are_enough(
    tmp_path: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch, more: str, method: str
) -> None:
    with installed(tmp_path, valkey, monkeypatch, more) as (daemon, provider):
        daemon.command("register", "open")
        [made] = provider.said("registered")
        assert (method == "none") is (made.get("secret") is None)
        login = LoginCommand(daemon, "acme", "--client", "open", "--no-browser")
        assert parameters(login.url).keys() == {"client_id", "request_uri"}
        assert parameters(login.url)["client_id"] == made["id"]
        login.finish(anyio.run(provider.consent, login.url) + "\n")
        assert len(provider.said("pushed")) == 1
        before = len(provider.said("refresh_token.saved"))
        daemon.command("refresh", "acme")
        with valkey.client() as redis:
            wait_until(
                lambda: (
                    len(provider.said("refresh_token.saved")) > before
                    and redis.hget("refresher:token:acme", "access_token")
                    == provider.said("access_token.saved")[-1]["value"]
                ),
                description="the refreshed token is published",
            )
        told = json.loads(daemon.command("status", "--json").stdout)["clients"]
        [known] = [one for one in told if one["client"] == "open"]
        assert (known["issuer"], known["client_authentication"]) == (provider.issuer, method)
        assert known["require_pushed_authorization_requests"]
        assert known["doubts"] == []
        assert not provider.said("server_error")


def test_a_wrong_initial_access_token_is_named(
    tmp_path: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed(tmp_path, valkey, monkeypatch) as (daemon, provider):
        (daemon.folder / "iat.secret").write_text("another-one")
        daemon.hang_up()
        wait_until(lambda: daemon.events("settings.reloaded"), description="it is read again")
        refused = daemon.command("register", "open", check=1)
        assert "initial_access_token" in refused.stderr
        assert provider.said("registered") == []


def test_a_client_whose_tokens_are_bound_is_told_so(
    tmp_path: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    with installed(tmp_path, valkey, monkeypatch) as (daemon, provider):
        login = LoginCommand(daemon, "acme", "--client", "bound", "--no-browser")
        said = login.finish(anyio.run(provider.consent, login.url) + "\n", code=1)
        assert "DPoP" in said
