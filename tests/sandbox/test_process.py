"""The sandbox as a process: the line it prints, its control endpoints, its end."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from click.testing import CliRunner

from refresher.cli.entry import cli
from refresher.cli.sandbox import settings_of
from refresher.domain.outcomes import Refreshed
from refresher.domain.renewal import RefreshToken
from refresher.domain.secret import Secret
from refresher.oauth.patience import Patience
from refresher.oauth.token_endpoint import TokenEndpoint
from refresher.sandbox import Sandbox, SandboxOptions
from refresher.settings import template
from refresher.settings.loading import load
from tests.sandbox.wire import get, post
from tests.support.sandbox import SANDBOX

CLIENT = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}


@asynccontextmanager
async def sandbox_process(*arguments: str) -> AsyncIterator[tuple[str, Process]]:
    """A running sandbox: its base URL and its process, ended at the latest here."""
    command = [sys.executable, "-W", "error", *SANDBOX[1:], *arguments]
    async with await anyio.open_process(command, stderr=subprocess.PIPE) as process:
        try:
            with anyio.fail_after(20.0):
                assert process.stdout is not None
                line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 4096)
            yield json.loads(line)["base_url"], process
        finally:
            if process.returncode is None:
                process.kill()


async def control(base_url: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = await post(f"{base_url}/_sandbox/{name}", json.dumps(body))
    assert reply.status == 200, reply.body
    return reply.json


async def test_a_process_is_steered_and_terminated() -> None:
    options = {"rotation": "grace", "grace_seconds": 5, "access_token_lifetime": 9}
    async with sandbox_process("--options-json", json.dumps(options)) as running:
        base_url, process = running
        minted = await control(base_url, "grants", {"subject": "guest", "scope": "read"})
        form = {
            "grant_type": "refresh_token",
            "refresh_token": minted["refresh_token"],
            **CLIENT,
        }
        faults = {"families": {minted["family_id"]: [{"kind": "drop_after"}, None]}}
        await control(base_url, "faults", faults)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await post(f"{base_url}/token", form)
        reply = await post(f"{base_url}/token", form)
        assert reply.json["expires_in"] == 9

        dropped, answered = json.loads((await get(f"{base_url}/_sandbox/log")).body)
        assert (dropped["fault"], dropped["answered_at"]) == ("drop_after", None)
        assert (answered["status"], answered["subject"]) == (200, "guest")
        later = json.loads((await get(f"{base_url}/_sandbox/log", query={"after": "1"})).body)
        assert later == [answered]
        stats = (await get(f"{base_url}/_sandbox/stats")).json
        assert stats["injected"] == {"drop_after": 1}
        assert stats["token_requests"] == 2

        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(10.0):
            assert await process.wait() == 0
        assert process.stderr is not None
        assert [chunk async for chunk in process.stderr] == []


async def test_the_control_endpoints_do_the_rest() -> None:
    async with sandbox_process("--options-json", '{"dialect": "survilla"}') as (base_url, _):
        many = await control(base_url, "grants", {"count": 3})
        assert len({grant["family_id"] for grant in many["grants"]}) == 3
        application = await control(
            base_url, "applications", {"client_secret": "s", "policy": {"rotation": "none"}}
        )
        minted = await control(base_url, "grants", {"client_id": application["client_id"]})
        await control(base_url, "revocations", {"family_id": minted["family_id"]})
        families = json.loads((await get(f"{base_url}/_sandbox/families")).body)
        assert [family["revoked_because"] is not None for family in families] == [
            False,
            False,
            False,
            True,
        ]
        everything = (await get(f"{base_url}/_sandbox/log")).body
        assert minted["refresh_token"].encode() not in everything

        await control(base_url, "faults", {"mix": {"chances": [[1.0, {"kind": "status"}]]}})
        query = {"grant_type": "refresh_token", "refresh_token": minted["refresh_token"]}
        assert (await post(f"{base_url}/oauth2/token", query=query)).status == 503
        await control(base_url, "faults", {"mix": {"chances": []}, "latency": [0.0, 0.001]})
        assert (await post(f"{base_url}/oauth2/token", query=query)).status == 401


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        pytest.param("grants", {"client_id": "nobody"}, 404, id="unknown client"),
        pytest.param("grants", {"colour": "red"}, 400, id="unknown member"),
        pytest.param("revocations", {"family_id": "none"}, 404, id="unknown family"),
        pytest.param("faults", {"queue": [{"kind": "flood"}]}, 400, id="unknown fault"),
    ],
)
async def test_a_wrong_order_is_refused(name: str, body: dict[str, Any], status: int) -> None:
    async with Sandbox() as sandbox:
        reply = await post(f"{sandbox.base_url}/_sandbox/{name}", json.dumps(body))
    assert reply.status == status


def test_options_come_from_text_or_file(tmp_path: Path) -> None:
    text = '{"rotation": "until_used", "latency": [0.1, 0.2], "mix": {"chances": []}}'
    file = tmp_path / "options.json"
    file.write_text(text)
    inline = SandboxOptions.from_json_or_file(text)
    assert inline == SandboxOptions.from_json_or_file(str(file))
    assert (inline.rotation, inline.latency) == ("until_used", (0.1, 0.2))


def test_an_option_wins_over_the_json_and_that_over_the_default() -> None:
    text, below = '{"port": 4711, "client_id": "mine"}', {"client_id": "other", "seed": 5}
    options = SandboxOptions.from_json_or_file(text, below=below, above={"port": 4712})
    assert (options.port, options.client_id, options.seed) == (4712, "mine", 5)


def test_the_survilla_dialect_brings_its_defaults() -> None:
    read = SandboxOptions.from_json_or_file
    assert read('{"dialect": "survilla"}') == SandboxOptions.survilla()
    changed = read('{"dialect": "survilla", "parameters_in": "either"}')
    assert changed == SandboxOptions.survilla(parameters_in="either")


async def test_a_port_that_is_taken_is_a_line() -> None:
    async with Sandbox() as taken:
        port = taken.base_url.rpartition(":")[2]
        command = [sys.executable, "-m", "refresher", "sandbox", "--port", port]
        with anyio.fail_after(30.0):
            done = await anyio.run_process(command, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("refresher: the sandbox cannot listen: ")
    assert f"('127.0.0.1', {port})" in line


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "99999"),
        ("--rotation", "sometimes"),
        *(("--options-json", text) for text in ("{", "[]", '{"colour": "red"}', "/no/such/file")),
        ("--options-json", '{"rotation": "sometimes"}'),
    ],
)
def test_bad_options_end_with_status_two(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, ["sandbox", *arguments])
    assert done.exit_code == 2
    assert "Error: Invalid value for" in done.output


def test_help_names_every_field() -> None:
    told = CliRunner().invoke(cli, ["sandbox", "--help"]).output
    assert {field.name for field in fields(SandboxOptions)} <= set(re.findall(r"\w+", told))
    assert {"--port", "--redis", "--rotation", "--lifetime"} <= set(re.findall(r"--\w+", told))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="by the book"),
        pytest.param({"rotation": "grace", "grace_seconds": 7.5}, id="grace"),
        pytest.param({"parameters_in": "query", "redirect_parameter": "redirect_url"}, id="query"),
        pytest.param({"dialect": "survilla"}, id="survilla"),
    ],
)
async def test_what_it_prints_are_settings_that_work(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """The very client of the printed tables refreshes a grant of that server."""
    given = SandboxOptions.from_json_or_file(json.dumps(options), below={"port": 0})
    async with Sandbox(given) as server:
        file = tmp_path / "refresher.toml"
        file.write_text(template() + "\n" + settings_of(server))
        file.chmod(0o600)
        loaded = load(file, environment={})
        client = loaded.settings.clients["sandbox"]
        assert [seed.client for seed in loaded.settings.seeds] == ["sandbox"]
        async with TokenEndpoint() as endpoint:
            sent = RefreshToken(Secret(server.mint().refresh_token))
            outcome = await endpoint.refresh(client, sent, patience=Patience(20.0))
        assert isinstance(outcome, Refreshed)
