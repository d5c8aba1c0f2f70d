"""The private Valkey of demo and tests leaves nothing behind."""

import subprocess
import sys
from pathlib import Path

import pytest

from refresher.demo.private_server import PrivateServerError, PrivateValkey
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

STARTER = """
import sys
from refresher.demo.private_server import PrivateValkey
server = PrivateValkey()
server.start()
print(server.port, flush=True)
sys.stdin.read()
"""


def start_and_kill_the_starter(folder: Path) -> PrivateValkey:
    """The server of a process that was killed once the server answered."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTER],
        env={"TMPDIR": str(folder)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as starter:
        assert starter.stdout is not None
        server = PrivateValkey()
        server.port = int(starter.stdout.readline())
        assert server._answers()
        starter.kill()
    return server


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds a child's life")
async def test_it_dies_with_a_killed_starter(tmp_path: Path) -> None:
    server = start_and_kill_the_starter(tmp_path)
    await eventually(lambda: not server._answers(), "its end")


def test_it_restarts_empty_on_the_same_port(valkey: Valkey) -> None:
    port = valkey.port
    with valkey.client() as client:
        client.set("key", "value")
    valkey.restart()
    assert valkey.port == port
    with valkey.client() as client:
        assert client.dbsize() == 0


def test_a_failed_start_says_why() -> None:
    server = PrivateValkey("--maxmemory", "lots")
    with pytest.raises(PrivateServerError, match="did not start"):
        server.start()
    assert server.pid is None
