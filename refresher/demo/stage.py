"""What the demo runs on: a private Valkey, the sandbox, and the real daemon in its own process."""

import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL

import anyio
import anyio.abc

from refresher.clock import SystemClock
from refresher.demo.private_server import PrivateValkey
from refresher.errors import ControlUnavailable, RefresherError
from refresher.ops.control_client import ControlClient
from refresher.ops.protocol import JSON
from refresher.sandbox.faults import DropAfter, Fault, RetryAfter, Slow, Status, spread
from refresher.sandbox.options import SandboxOptions
from refresher.sandbox.server import Sandbox
from refresher.vault.sealing import write_key_file

LIFETIME = 20.0
"""Seconds the sandbox's access tokens live: a refresh every ten."""

GRACE = 30
"""Seconds the sandbox answers a refresh token again after its rotation."""

REDIRECT_URI = "http://127.0.0.1/callback/demo"
"""Of the one client; every client has a path of its own."""

FAULTS: tuple[Fault, ...] = (
    Status(code=503),
    RetryAfter(seconds=1),
    DropAfter(),
    Slow(seconds=2.0, after_processing=True),
)
"""What ``--faults`` deals out: overload, throttling, a lost answer, a slow one."""

FAULT_EVERY = 6
"""One exchange in so many meets a fault."""

PLANNED = 20_000
"""Exchanges the plan of faults is made for: more than any demo sees."""

START_WITHIN = 15.0
"""Seconds the daemon may take to answer on its control socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything that runs."""

    folder: Path
    config: Path
    log: Path
    redis_url: str
    sandbox: Sandbox
    control: ControlClient
    families: dict[str, str]
    """Grant name to the sandbox's family."""


@asynccontextmanager
async def staged(*, grants: int, with_faults: bool) -> AsyncIterator[Stage]:
    """Start everything, with GRANTS grants already published; stop everything at the end."""
    valkey = PrivateValkey()
    options = SandboxOptions(
        access_token_lifetime=LIFETIME,
        rotation="grace",
        grace_seconds=GRACE,
        redirect_uris=(REDIRECT_URI,),
    )
    with tempfile.TemporaryDirectory(prefix="refresher-demo-") as name:
        folder = Path(name)
        valkey.start()
        try:
            async with Sandbox(options) as sandbox:
                config = _write_settings(folder, valkey.url, sandbox)
                async with _daemon(folder, config):
                    control = ControlClient(folder / "refresher.sock")
                    await _until_it_answers(control, folder / "daemon.log")
                    families = await _import(control, sandbox, grants)
                    if with_faults:
                        plan = spread(FAULTS, every=FAULT_EVERY, exchanges=PLANNED)
                        sandbox.faults.enqueue(*plan)
                    yield Stage(
                        folder=folder,
                        config=config,
                        log=folder / "daemon.log",
                        redis_url=valkey.url,
                        sandbox=sandbox,
                        control=control,
                        families=families,
                    )
        finally:
            valkey.stop()


def _write_settings(folder: Path, redis_url: str, sandbox: Sandbox) -> Path:
    write_key_file(folder / "refresher.key")
    config = folder / "refresher.toml"
    config.touch(0o600)
    config.write_text(
        f"""
[vault]
path = "refresher.db"
[redis]
url = "{redis_url}"
[log]
format = "json"
[clients.demo]
description = "the sandbox's application"
authorization_endpoint = "{sandbox.base_url}/authorize"
token_endpoint = "{sandbox.base_url}/token"
redirect_uris = ["{REDIRECT_URI}"]
client_id = "{sandbox.options.client_id}"
client_secret = "{sandbox.options.client_secret}"
rotation = "grace({GRACE})"
"""
    )
    return config


@asynccontextmanager
async def _daemon(folder: Path, config: Path) -> AsyncIterator[anyio.abc.Process]:
    command = [sys.executable, "-m", "refresher", "--config", str(config), "run"]
    with (folder / "daemon.log").open("wb") as output:
        process = await anyio.open_process(command, stdin=DEVNULL, stdout=output, stderr=output)
        try:
            yield process
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.terminate()
                await process.wait()


async def _until_it_answers(control: ControlClient, log: Path) -> None:
    with anyio.move_on_after(START_WITHIN):
        while True:
            try:
                await control.call("ping", answer_within=START_WITHIN)
            except ControlUnavailable:
                await anyio.sleep(0.05)
            else:
                return
    said = await anyio.Path(log).read_text()
    raise RefresherError(f"the daemon did not start: {said[-2000:]}")


async def _import(control: ControlClient, sandbox: Sandbox, count: int) -> dict[str, str]:
    """Mint grants as another system would have, and hand them over."""
    clock = SystemClock()
    families = {}
    lines: list[JSON] = []
    for number in range(1, count + 1):
        name = f"demo-{number}"
        minted = sandbox.mint(subject=f"account-{number}", scope="read")
        families[name] = minted.family_id
        lines.append(
            {"name": name, "client": "demo", "refresh_token": minted.refresh_token,
             "access_token": minted.access_token, "expires_at": clock.now() + LIFETIME,
             "labels": {"access": "full"}}
        )  # fmt: skip
    await control.call("import", grants=lines)
    return families
