"""The whole daemon beside an OpenID-certified authorization server written by others."""

import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_plus

import anyio
import pytest
from redis import Redis

from tests.foreign.provider import (
    CLIENT_ID,
    NODE_MODULES,
    REDIRECT_URI,
    Provider,
    running_provider,
)
from tests.support.daemon import DaemonProcess
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import wait_until

__all__ = ["valkey"]

pytestmark = pytest.mark.foreign

CLIENT = """
[clients.acme]
authorization_endpoint = "{authorization_endpoint}"
token_endpoint = "{token_endpoint}"
redirect_uris = ["{redirect_uri}"]
client_id = "{client_id}"
client_secret = {{ file = "acme.secret" }}
scope = "openid"
rotation = "strict"
[grants.acme]
client = "acme"
"""


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    folder = tmp_path / "provider"
    folder.mkdir()
    # Form-encoding matters inside HTTP Basic (RFC 6749 2.3.1), so it must change the secret.
    with running_provider(folder, f"{secrets.token_urlsafe(24)}:+/% &=x") as provider:
        # The daemon would take it for a key of the settings that it does not know.
        monkeypatch.delenv(NODE_MODULES)
        yield provider


@pytest.fixture
def daemon(tmp_path: Path, valkey: Valkey, provider: Provider) -> Iterator[DaemonProcess]:
    folder = tmp_path / "installation"
    folder.mkdir()
    (folder / "acme.secret").touch(0o600)
    (folder / "acme.secret").write_text(provider.client_secret)
    clients = CLIENT.format(
        authorization_endpoint=provider.authorization_endpoint,
        token_endpoint=provider.token_endpoint,
        redirect_uri=REDIRECT_URI,
        client_id=CLIENT_ID,
    )
    daemon = DaemonProcess(folder)
    daemon.prepare(redis_url=valkey.url, clients=clients)
    daemon.start()
    yield daemon
    assert daemon.stop() == 0


@pytest.fixture
def redis(valkey: Valkey) -> Iterator[Redis]:
    with valkey.client() as client:
        yield client


def test_tokens_stay_fresh_through_rotations(
    daemon: DaemonProcess, provider: Provider, redis: Redis
) -> None:
    log_in(daemon, provider)
    tokens = [until_published(redis, after="0")]
    assert anyio.run(provider.accepts, tokens[-1]["access_token"])
    for _ in range(2):
        tokens.append(until_published(redis, after=tokens[-1]["version"]))
        assert anyio.run(provider.accepts, tokens[-1]["access_token"])
    daemon.stop()

    assert len({token["access_token"] for token in tokens}) == len(tokens)
    refresh_tokens = provider.values("refresh_token.saved")
    assert len(set(refresh_tokens)) == len(tokens)
    assert provider.values("refresh_token.consumed") == refresh_tokens[:-1]
    assert not {"grant.revoked", "server_error"} & {line["event"] for line in provider.said()}
    assert_nothing_leaked(daemon, provider, redis)


def test_login_mends_a_revoked_grant(
    daemon: DaemonProcess, provider: Provider, redis: Redis
) -> None:
    log_in(daemon, provider)
    before = until_published(redis, after="0")

    anyio.run(provider.revoke, provider.values("refresh_token.saved")[-1])
    daemon.command("refresh", "acme")
    until_reason(redis, "refused:invalid_grant")  # doubted: the server served this one before
    told = daemon.command("status", "--json", check=None)
    assert "refresher login acme" in told.stdout

    log_in(daemon, provider)
    until_state(redis, "fresh")
    after = until_published(redis, after=before["version"])
    assert anyio.run(provider.accepts, after["access_token"])
    assert_nothing_leaked(daemon, provider, redis)


def log_in(daemon: DaemonProcess, provider: Provider) -> None:
    """Log in as on a remote machine: open the printed address, paste back where it led."""
    command = ["--config", str(daemon.config), "login", "acme", "--no-browser"]
    with (
        daemon.log.open("a") as log,
        subprocess.Popen(
            [sys.executable, "-m", "refresher", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            log.write(line)
            if found := re.search(r"https?://\S+", line):
                break
        else:
            pytest.fail("login printed no address to open")
        pasted = anyio.run(provider.consent, found[0])
        rest, _ = process.communicate(f"{pasted}\n", timeout=30)
        log.write(rest)
        assert process.returncode == 0, rest


def until_published(redis: Redis, *, after: str) -> dict[str, str]:
    """The published token once its version is greater than AFTER."""
    token: dict[str, str] = {}

    def is_newer() -> bool:
        token.update({str(k): str(v) for k, v in redis.hgetall("refresher:token:acme").items()})
        return int(token.get("version", 0)) > int(after)

    wait_until(is_newer, description=f"a version after {after} is published")
    return token


def until_state(redis: Redis, state: str) -> None:
    """Wait until consumers see that the grant is in STATE."""
    wait_until(
        lambda: redis.hget("refresher:status:acme", "state") == state,
        description=f"the grant is {state}",
    )


def until_reason(redis: Redis, reason: str) -> None:
    """Wait until consumers see that the grant has REASON."""
    wait_until(
        lambda: redis.hget("refresher:status:acme", "reason") == reason,
        description=f"the grant is {reason}",
    )


def assert_nothing_leaked(daemon: DaemonProcess, provider: Provider, redis: Redis) -> None:
    """No secret is in what was printed or in the vault, no refresh token in Redis."""
    refresh_tokens = provider.values("refresh_token.saved")
    others = provider.values("authorization_code.saved", "access_token.saved")
    assert len(refresh_tokens) > 1
    assert len(others) > 1
    canaries = {
        *(*refresh_tokens, *others),
        *(provider.client_secret, quote_plus(provider.client_secret)),
    }
    printed = daemon.log.read_text()
    assert daemon.events("grant.authorized")
    assert [canary for canary in canaries if canary in printed] == []

    stored = b"".join(path.read_bytes() for path in daemon.folder.glob("refresher.db*"))
    assert b"acme" in stored
    assert [canary for canary in canaries if canary.encode() in stored] == []

    published = {
        str(value)
        for kind in ("token", "status")
        for value in redis.hgetall(f"refresher:{kind}:acme").values()
    }
    assert published.isdisjoint(refresh_tokens)
