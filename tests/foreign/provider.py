"""Starts the npm ``oidc-provider``, an authorization server written by others."""

import json
import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import anyio
import pytest

from tests.support.waiting import wait_until

FOLDER = Path(__file__).parent / "oidc_provider"
NODE_MODULES = "REFRESHER_FOREIGN_NODE_MODULES"
CLIENT_ID = "refresher:foreign"
REDIRECT_URI = "http://127.0.0.1:8765/callback"
START_WITHIN = 20.0


@dataclass(frozen=True, slots=True)
class Provider:
    """The running server and what it says it did."""

    client_secret: str
    log: Path
    issuer: str = ""
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    userinfo_endpoint: str = ""
    revocation_endpoint: str = ""
    introspection_endpoint: str = ""

    def values(self, *events: str) -> list[str]:
        """The codes and tokens that met one of EVENTS, oldest first."""
        return [line["value"] for line in self.said() if line["event"] in events]

    def said(self) -> list[dict[str, Any]]:
        """Every event so far; the library's own notices are not JSON."""
        lines = self.log.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line[0] == "{" and line[-1] == "\n"]

    async def consent(self, authorization_url: str) -> str:
        """Be the person's browser; give the address it was redirected to at last."""
        # Cookies of an IP address are refused by default.
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as browser:
            address = authorization_url
            for _ in range(10):
                async with browser.get(address, allow_redirects=False) as page:
                    assert page.status in {302, 303}, await page.text()
                    address = page.headers["Location"]
                if address.startswith(REDIRECT_URI):
                    return address
                if address.startswith("/"):
                    address = self.issuer + address
        pytest.fail("the provider redirects for ever")

    async def accepts(self, access_token: str) -> bool:
        """Whether the resource server takes ACCESS_TOKEN."""
        headers = {"Authorization": f"Bearer {access_token}"}
        async with (
            aiohttp.ClientSession() as http,
            http.get(self.userinfo_endpoint, headers=headers) as answer,
        ):
            return answer.status == 200

    async def revoke(self, refresh_token: str) -> None:
        """Take the whole grant back, as a person does in the provider's user interface."""
        # RFC 6749 2.3.1: each part is form-encoded first.
        pair = f"{quote_plus(CLIENT_ID)}:{quote_plus(self.client_secret)}"
        auth = f"Basic {b64encode(pair.encode()).decode()}"
        form = {"token": refresh_token, "token_type_hint": "refresh_token"}
        async with (
            aiohttp.ClientSession(headers={"Authorization": auth}) as http,
            http.post(self.revocation_endpoint, data=form) as answer,
        ):
            assert answer.status == 200, await answer.text()


def node_modules(package: str) -> Path:
    """Where the npm PACKAGE of these tests is; missing is a failure, never a skip."""
    given = os.environ.get(NODE_MODULES)
    if given is None:
        pytest.fail(
            f"{NODE_MODULES} is not set: run .ci/run, or `npm install` in a copy of "
            f"{FOLDER.relative_to(FOLDER.parents[2])} and name its node_modules"
        )
    path = Path(given).resolve()
    if not (path / package).is_dir():
        pytest.fail(f"{NODE_MODULES} names {path}, which holds no {package}")
    return path


@contextmanager
def running_provider(
    folder: Path, client_secret: str, *, redirect_uri: str = REDIRECT_URI, **options: Any
) -> Iterator[Provider]:
    """Run the server in FOLDER until the block ends; ``server.mjs`` says what OPTIONS are."""
    node = shutil.which("node")
    assert node is not None, "the foreign tests need node"
    for name in ("server.mjs", "package.json"):
        shutil.copy(FOLDER / name, folder)
    (folder / "node_modules").symlink_to(node_modules("oidc-provider"))
    log, complaints = folder / "provider.log", folder / "provider.err"
    with log.open("wb") as output, complaints.open("wb") as errors:
        process = subprocess.Popen(
            [node, "server.mjs", "0", redirect_uri],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "CLIENT_SECRET": client_secret,
                "OPTIONS": json.dumps(options),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
        )
    try:
        provider = Provider(client_secret, log)
        wait_until(
            lambda: provider.said() or process.poll() is not None,
            description="the provider listens",
        )
        assert provider.said(), complaints.read_text()
        yield replace(provider, **anyio.run(_discover, provider.said()[0]["issuer"]))
    finally:
        process.kill()
        process.wait()


async def _discover(issuer: str) -> dict[str, Any]:
    """The endpoints the server publishes (OpenID Connect Discovery 1.0, section 4)."""
    async with (
        aiohttp.ClientSession() as http,
        # With a certificate that the test made itself.
        http.get(f"{issuer}/.well-known/openid-configuration", ssl=False) as answer,
    ):
        found = await answer.json()
    return {endpoint.name: found[endpoint.name] for endpoint in fields(Provider)[2:]}
