"""Independent servers as a client of ours meets them, and the way through all it does there."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refresher.demo.private_server import free_port
from refresher.domain.clients import Client, Endpoints, Revocation
from refresher.domain.logins import AwaitedAnswer
from refresher.domain.outcomes import Outcome, Refreshed, TokenAnswer
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth import authorization, revocation
from refresher.oauth.measuring.liveness import Liveness, Places
from refresher.oauth.patience import Patience
from refresher.oauth.revocation import RevocationResult
from refresher.oauth.token_endpoint import TokenEndpoint
from tests.foreign.provider import NODE_MODULES
from tests.support import browsing
from tests.support.clients import changed
from tests.support.waiting import PATIENCE, wait_until

FOLDER = Path(__file__).parent / "django_toolkit"

CLIENT_ID = "refresher:foreign"
CLIENT_SECRET = "s3:cret+/% &=x"
"""Form-encoding matters inside HTTP Basic (RFC 6749 2.3.1), so it must change the secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """A running server by its endpoints, and where its redirects lead."""

    authorization: str
    token: str
    revocation: str
    introspection: str
    redirect_uri: str

    def client(self, **told: Any) -> Client:
        """A client of it, as the keys TOLD say."""
        client = Client(
            name="acme",
            client_id=CLIENT_ID,
            endpoints=Endpoints(
                token=self.token,
                authorization=self.authorization,
                revocation=Revocation(endpoint=self.revocation),
            ),
            redirect_uris=(self.redirect_uri,),
        )
        return changed(client, **{"client_secret": Secret(CLIENT_SECRET), **told})

    def settings(self, **told: str) -> str:
        """The same in TOML, with no more than a person types who knows nothing of the server."""
        keys = {
            "authorization_endpoint": self.authorization,
            "token_endpoint": self.token,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            **told,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
        return "\n".join([
            "[clients.acme]", *lines, f"redirect_uris = [{json.dumps(self.redirect_uri)}]", ""
        ])  # fmt: skip


@contextmanager
def toolkit(folder: Path, **oauth2: Any) -> Iterator[Met]:
    """Run ``django-oauth-toolkit`` in FOLDER; OAUTH2 are keys of its own settings."""
    port, redirect_uri = free_port(), f"http://127.0.0.1:{free_port()}/callback"
    options = {
        "port": port,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uri": redirect_uri,
        "oauth2": oauth2,
    }
    (folder / "options.json").write_text(json.dumps(options))
    output, complaints = folder / "server.log", folder / "server.err"
    with output.open("wb") as out, complaints.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, FOLDER / "server.py", folder], stdout=out, stderr=errors
        )
    try:
        wait_until(
            lambda: output.read_text() or process.poll() is not None,
            description="the toolkit listens",
        )
        assert process.poll() is None, complaints.read_text()
        base = f"http://127.0.0.1:{port}/o"
        yield Met(
            authorization=f"{base}/authorize/",
            token=f"{base}/token/",
            revocation=f"{base}/revoke_token/",
            introspection=f"{base}/introspect/",
            redirect_uri=redirect_uri,
        )
    finally:
        process.kill()
        process.wait()


def consented(client: Client) -> tuple[AwaitedAnswer, authorization.Callback]:
    """A login as far as its code."""
    uri = client.redirect_uris[0]
    request = authorization.begin(client, redirect_uri=uri, scope=client.scope)
    landed = browsing.follow(request.url, until=uri)
    return request.awaited, authorization.read_callback(request.awaited, landed)


async def logged_in(endpoint: TokenEndpoint, client: Client, **changes: Any) -> Outcome:
    """What the code of a login brings; CHANGES are made to the request that redeems it."""
    awaited, callback = consented(client)
    asked: dict[str, Any] = {
        "redirect_uri": awaited.redirect_uri,
        "code_verifier": awaited.code_verifier,
        **changes,
    }
    return await endpoint.redeem(client, callback.code, **asked, patience=Patience(PATIENCE))


async def refreshed(endpoint: TokenEndpoint, client: Client, token: Secret | None) -> Outcome:
    """What a refresh with TOKEN brings."""
    assert token is not None
    return await endpoint.refresh(client, RefreshToken(token), patience=Patience(PATIENCE))


async def walked(met: Met, client: Client) -> None:
    """Login, introspection, refresh with rotation, and revocation, each as it must be."""
    async with TokenEndpoint() as endpoint:
        first = answer_of(await logged_in(endpoint, client))
        second = answer_of(await refreshed(endpoint, client, first.refresh_token))
        assert second.refresh_token not in {None, first.refresh_token}
        assert second.access_token not in {None, first.access_token}
        assert second.access_token is not None
        places = Places(introspection=met.introspection)
        looks = Liveness(endpoint=endpoint, client=client, places=places)
        assert await looks.lives(second.access_token) is True
        result = await revocation.revoke(
            endpoint,
            client,
            refresh_token=second.refresh_token,
            access_token=None,
            deadline=PATIENCE,
        )
        assert result is RevocationResult.REVOKED
        assert await looks.lives(second.access_token) is False
        assert not isinstance(await refreshed(endpoint, client, second.refresh_token), Refreshed)


def answer_of(outcome: Outcome) -> TokenAnswer:
    """The tokens that came."""
    assert isinstance(outcome, Refreshed), outcome
    return outcome.answer


def measured(folder: Path, settings: str, *, wait: str) -> dict[str, Any]:
    """What ``refresher providers measure`` says, with a browser that consents to everything."""
    file = folder / "refresher.toml"
    file.write_text(settings)
    file.chmod(0o600)
    environment = {name: value for name, value in os.environ.items() if name != NODE_MODULES}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "refresher", "--config", file),
            *("providers", "measure", "acme", "--wait", wait, "--timeout", "60s", "--json"),
        ],
        env={**environment, "BROWSER": browsing.COMMAND},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE * 2,
    )
    assert done.returncode == 0, done.stderr
    assert "nothing is left at the provider" in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def value(found: dict[str, Any], question: str) -> Any:
    """What FOUND says of QUESTION."""
    return next(each["value"] for each in found["findings"] if each["question"] == question)
