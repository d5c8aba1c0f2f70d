"""Grants without a redirect beside an authorization server written by others."""

import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.foreign.provider import FOLDER, NODE_MODULES, node_modules
from tests.support.daemon import DaemonProcess
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import PATIENCE, wait_until
from tests.system.browser import LoginCommand

__all__ = ["valkey"]

pytestmark = pytest.mark.foreign

SETTINGS = """
[clients.service]
token_endpoint = "{issuer}/token"
client_id = "service"
client_secret = {{ file = "service.secret" }}

[clients.tv]
token_endpoint = "{issuer}/token"
device_authorization_endpoint = "{issuer}/device/auth"
client_id = "tv"
client_authentication = "none"
scope = ["openid", "offline_access"]
rotation = "strict"

[grants.service]
client = "service"
grant_type = "client_credentials"
scope = "read"
resource = "https://api.example/"

[grants.sofa]
client = "tv"
"""


@contextmanager
def running(folder: Path, client_secret: str) -> Iterator[str]:
    """Run the server in FOLDER until the block ends; gives its issuer."""
    node = shutil.which("node")
    assert node is not None, "the foreign tests need node"
    for name in ("kinds.mjs", "package.json"):
        shutil.copy(FOLDER / name, folder)
    (folder / "node_modules").symlink_to(node_modules("oidc-provider"))
    with (folder / "provider.err").open("wb") as errors:
        process = subprocess.Popen(
            [node, "kinds.mjs"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "CLIENT_SECRET": client_secret},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith(b"{"):
                yield json.loads(line)["issuer"]
                break
        else:
            pytest.fail((folder / "provider.err").read_text())
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE)
        process.stdout.close()


@pytest.fixture
def daemon(
    tmp_path: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DaemonProcess]:
    for name in ("provider", "installation"):
        (tmp_path / name).mkdir()
    daemon = DaemonProcess(tmp_path / "installation")
    secret = secrets.token_urlsafe(24)
    (daemon.folder / "service.secret").touch(0o600)
    (daemon.folder / "service.secret").write_text(secret)
    with running(tmp_path / "provider", secret) as issuer:
        # The daemon would take it for a key of the settings that it does not know.
        monkeypatch.delenv(NODE_MODULES)
        daemon.prepare(redis_url=valkey.url, clients=SETTINGS.format(issuer=issuer))
        daemon.start()
        yield daemon
        assert daemon.stop() == 0


def published(valkey: Valkey, name: str, *, above: int = 0) -> dict[str, str]:
    """What consumers read of NAME, once its version is above ABOVE."""
    found: dict[str, str] = {}

    def is_there() -> bool:
        with valkey.client() as redis:
            found.clear()
            found.update(redis.hgetall(f"refresher:token:{name}"))
        return int(found.get("version", 0)) > above

    wait_until(is_there, description=f"{name} is published above {above}")
    return found


def test_a_client_gets_a_token_of_its_own(daemon: DaemonProcess, valkey: Valkey) -> None:
    first = published(valkey, "service")
    assert first["scope"] == "read"
    daemon.command("refresh", "service")
    second = published(valkey, "service", above=int(first["version"]))
    assert second["access_token"] != first["access_token"]


async def test_a_code_on_another_machine_authorizes_a_grant(
    daemon: DaemonProcess, valkey: Valkey
) -> None:
    login = LoginCommand(daemon, "sofa")
    [address] = [word for word in login.said.split() if "user_code=" in word]
    await consent(address)
    assert "sofa: authorized" in login.finish()
    first = published(valkey, "sofa")
    daemon.command("refresh", "sofa")
    published(valkey, "sofa", above=int(first["version"]))


async def consent(address: str) -> None:
    """Be the browser of another machine, where somebody has opened ADDRESS."""
    # Cookies of an IP address are refused by default.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        async with browser.get(address) as page:
            text = await page.text()
        for _ in range(3):
            form = fields(text) | {"confirm": "yes"}
            async with browser.post(address.partition("?")[0], data=form) as page:
                text = await page.text()
                assert page.status == 200, text
            if "Sign-in Success" in text:
                return
    pytest.fail(text)


def fields(page: str) -> dict[str, Any]:
    """What the form on PAGE would send."""
    inputs = re.findall(r"<input[^>]*>", page)
    pairs = [
        (re.search(r'name="([^"]*)"', one), re.search(r'value="([^"]*)"', one)) for one in inputs
    ]
    return {name[1]: value[1] for name, value in pairs if name and value}
