"""``refresher providers measure`` as a person runs it, against a sandbox."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from refresher.cli.measured import entry_lines, settings_to_paste
from refresher.domain.clients import Revocation
from refresher.domain.quirks import Placement
from refresher.domain.secret import Secret
from refresher.oauth.measuring.judgement import conclude
from refresher.providers import read_entry
from refresher.settings import load
from tests.oauth.measuring.test_judgement import LENIENT, evidence
from tests.support import browsing
from tests.support.clients import make_client
from tests.support.sandbox import SandboxProcess
from tests.support.waiting import PATIENCE, wait_until

REDIRECT_URI = "http://127.0.0.1/callback"


@contextmanager
def sandbox(**options: Any) -> Iterator[SandboxProcess]:
    running = SandboxProcess(redirect_uris=[REDIRECT_URI], access_token_lifetime=600.0, **options)
    try:
        yield running
    finally:
        running.stop()


def written(folder: Path, server: SandboxProcess) -> Path:
    """Settings with a client of SERVER, and nothing that was measured."""
    file = folder / "refresher.toml"
    file.write_text(
        "[clients.acme]\n"
        f'authorization_endpoint = "{server.base_url}/authorize"\n'
        f'token_endpoint = "{server.base_url}/token"\n'
        'client_id = "sandbox-client"\n'
        'client_secret = "sandbox-secret"\n'
        f'redirect_uris = ["{REDIRECT_URI}"]\n'
    )
    file.chmod(0o600)
    return file


def start(file: Path, *options: str, browser: str = browsing.COMMAND) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "refresher", "--config", file, "providers", "measure", *options],
        cwd=file.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "BROWSER": browser},
    )


def test_everything_is_told_and_what_it_prints_can_be_pasted(tmp_path: Path) -> None:
    with sandbox(rotation="strict", openness={"pushes": "required"}) as server:
        file = written(tmp_path, server)
        file.write_text(
            file.read_text() + "require_pushed_authorization_requests = true\n"
            f'pushed_authorization_request_endpoint = "{server.base_url}/par"\n'
        )
        probe = f"{server.base_url}/resource"
        running = start(file, "acme", "--wait", "1s", "--probe", probe, "--json")
        out, told = running.communicate(timeout=PATIENCE)
        assert running.returncode == 0, told
        families = server.families()
    found = json.loads(out)
    assert found["rotation"] == "strict"
    assert found["logins"] == len(families) == 2
    assert found["left_at_the_provider"] == 0
    assert all(family["revoked_at"] is not None for family in families)
    assert "1 to 5 logins" in told
    assert "nothing is left at the provider" in told
    assert list(tmp_path.glob("*.db*")) == []  # nothing is kept, and no vault is needed
    for secret in ("rt-family", "at-family", "sandbox-secret"):
        assert secret not in out + told

    entry = read_entry("acme", found["entry"])
    assert str(entry.facts.rotation) == "strict"
    assert entry.facts.reuse_kills_grant is True
    assert entry.facts.kills_access_token is False
    assert entry.settings.revocation_endpoint == "/revoke"
    file.write_text(file.read_text() + found["settings"].partition("\n")[2])
    client = load(file, environment={}).settings.clients["acme"]
    assert str(client.quirks.rotation) == "strict"


def test_a_client_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "refresher.toml").touch(0o600)
    running = start(tmp_path / "refresher.toml", "acme")
    _, told = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1
    assert "there is no client acme in the settings: there are none" in told


def test_a_person_may_paste_and_reads_a_table(tmp_path: Path) -> None:
    with sandbox(rotation="none") as server:
        running = start(written(tmp_path, server), "acme", "--wait", "1s", "--no-browser")
        told = []
        assert running.stderr is not None
        assert running.stdin is not None
        for line in running.stderr:
            told.append(line)
            if line.startswith("  http"):
                running.stdin.write(browsing.follow(line.strip(), until=REDIRECT_URI) + "\n")
                running.stdin.flush()
        out, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, told
    assert "rotation:                         none" in out
    assert "cannot tell" in out  # without anything that tells whether an access token lives
    assert 'rotation = "none"' in out


def test_ctrl_c_revokes_what_it_made(tmp_path: Path) -> None:
    with sandbox(rotation="grace", grace_seconds=300.0) as server:
        running = start(written(tmp_path, server), "acme", "--wait", "10m")
        assert running.stderr is not None
        for line in running.stderr:
            if "again and again" in line:
                break
        wait_until(lambda: len(server.log()) > 12, description="it measures the window")
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=PATIENCE)
        families = server.families()
    assert running.returncode == 130, told
    assert "nothing is left at the provider" in told
    assert "stopped" in told
    assert all(family["revoked_at"] is not None for family in families)


def test_an_entry_of_a_server_on_https_names_its_source_and_its_quirks() -> None:
    client = make_client(
        "acme books",
        token_endpoint="https://auth.acme.example/token",
        authorization_endpoint="https://auth.acme.example/authorize",
        client_secret=Secret("not shown"),
        placement=Placement.JSON,
        token_headers={"Notion-Version": 'of "today"'},
        revocation=Revocation(endpoint="https://auth.acme.example/revoke"),
    )
    seen = evidence(*LENIENT)
    conclusion = conclude(seen)
    lines = entry_lines(client, None, conclusion, seen, today=date(2026, 11, 26))
    text = "\n".join(lines)
    assert "not shown" not in text
    entry = read_entry("acme", text)
    assert entry.statements["placement"] is Placement.JSON
    assert entry.statements["token_headers"] == {"Notion-Version": 'of "today"'}
    assert entry.statements["revocation_endpoint"] == "https://auth.acme.example/revoke"
    (source,) = entry.sources
    assert source.measured
    assert "rotation" in source.says
    pasted = list(settings_to_paste(client, conclusion))
    assert pasted[0] == '[clients."acme books"]'
