"""Whatever becomes of the reader of the log, tokens go on being refreshed, and the end comes."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from refresher.sandbox import SandboxOptions
from tests.canary import Canary
from tests.support.waiting import wait_until
from tests.system.world import World, new_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    canary = Canary()
    options = SandboxOptions(client_secret=canary.plant("client-secret"))
    with new_world(tmp_path, canary, options) as world:
        world.daemon.prepare(redis_url=world.valkey.url, clients=world.client("box"))
        yield world


@pytest.fixture(params=["full pipe", "broken pipe", "full disk", "closed"])
def output(request: pytest.FixtureRequest) -> Iterator[int | None]:
    """Where stdout and stderr lead; None: they are closed."""
    if request.param == "closed":
        yield None
        return
    if request.param == "full disk":
        end = os.open("/dev/full", os.O_WRONLY)
        yield end
        os.close(end)
        return
    reader, end = os.pipe()
    os.set_blocking(end, False)
    with suppress(BlockingIOError):
        while True:
            os.write(end, b"\n" * 1000)
    os.set_blocking(end, True)
    if request.param == "broken pipe":
        os.close(reader)
    yield end
    os.close(end)
    if request.param == "full pipe":
        os.close(reader)


def test_refreshing_goes_on_whoever_reads(world: World, output: int | None) -> None:
    program = [*world.daemon.program, "run"]
    if output is None:
        program = ["/bin/sh", "-c", 'exec "$@" >&- 2>&-', "sh", *program]
    process = world.daemon.process = subprocess.Popen(program, stdout=output, stderr=output)
    vault = world.daemon.folder / "refresher.db"
    socket = world.daemon.folder / "refresher.sock"
    wait_until(socket.exists, description="the daemon is ready")
    minted = world.server.call(world.server.sandbox.mint)
    world.import_grants({"name": "g", "client": "box", "refresh_token": minted.refresh_token})
    wait_until(lambda: world.token("g"), description="g is published")
    process.terminate()
    assert process.wait(30) == 0
    assert vault.read_bytes().startswith(b"SQLite format 3")
