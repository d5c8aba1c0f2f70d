"""The pages' snippets for Node and the shell, run by Node and with redis-cli."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from refresher.publication.keys import Keys
from tests.foreign.provider import node_modules
from tests.pages.reading import README, ROOT, blocks_of
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import wait_until

__all__ = ["valkey"]

pytestmark = pytest.mark.foreign

PAGE = ROOT / "deploy/consumers/README.md"
KEYS = Keys()
NAME = "acme-billing"

HARNESS = """
const say = () => console.log(JSON.stringify({ at: Date.now() / 1000, token: current() ?? null }));
setInterval(say, 20);
process.stdin.on('data', () => reject());
"""
"""Says all the time what the snippet would use, and rejects it when told to."""


class Snippet:
    """The program of the snippet, and what it said last."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.said: list[tuple[float, str | None]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            self.said.append((told["at"], told["token"]))

    def says(self, token: str | None) -> bool:
        return bool(self.said) and self.said[-1][1] == token

    def await_token(self, token: str | None) -> None:
        def has_said() -> bool:
            assert self.process.poll() is None, "the snippet has ended"
            return self.says(token)

        wait_until(has_said, description=f"the snippet uses {token}")


def program(folder: Path, page: Path, url: str, rest: str) -> list[str]:
    """The command that runs the snippet of PAGE and then the REST, on the Redis of URL."""
    [script] = blocks_of("js", page.read_text())
    file = folder / "consumer.mjs"
    file.write_text(script.replace("redis://127.0.0.1:6379/0", url) + rest)
    (folder / "node_modules").symlink_to(node_modules("redis"))
    node = shutil.which("node")
    assert node is not None, "the foreign tests need node"
    return [node, str(file)]


@contextmanager
def running(folder: Path, url: str) -> Iterator[Snippet]:
    """The snippet for Node, reading the Redis of URL."""
    process = subprocess.Popen(
        program(folder, PAGE, url, HARNESS),
        cwd=folder,
        env={"PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield Snippet(process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


def publish(valkey: Valkey, version: int, life: float = 60.0) -> float:
    """What the daemon writes; when the token ends."""
    key, ends_at = KEYS.token(NAME), int(time.time() + life)
    fields = {"access_token": f"at-{version}", "version": version, "expires_at": ends_at}
    with valkey.client() as client:
        client.hset(key, mapping=fields)
        client.expireat(key, ends_at)
        client.publish(key, json.dumps(fields))
    return ends_at


def test_node_follows_the_token_through_a_restart(valkey: Valkey, tmp_path: Path) -> None:
    publish(valkey, 1)
    with running(tmp_path, valkey.url) as snippet:
        snippet.await_token("at-1")
        publish(valkey, 2)
        snippet.await_token("at-2")
        valkey.kill()
        snippet.await_token("at-2")
        valkey.start()
        snippet.await_token(None)  # read again, although nobody said anything
        publish(valkey, 3)
        snippet.await_token("at-3")
        assert snippet.process.stdin is not None
        snippet.process.stdin.write(b"\n")
        snippet.process.stdin.flush()
        with valkey.client() as client:
            key = KEYS.rejected(NAME)
            wait_until(lambda: client.get(key) == "3", description="the rejection")
            assert 0 < client.ttl(key) <= 300


def test_node_hears_that_the_token_has_gone(valkey: Valkey, tmp_path: Path) -> None:
    publish(valkey, 5)
    with running(tmp_path, valkey.url) as snippet, valkey.client() as client:
        snippet.await_token("at-5")
        client.delete(KEYS.token(NAME))
        client.publish(KEYS.token(NAME), json.dumps({"version": 4, "state": "expired"}))
        time.sleep(0.2)
        assert snippet.says("at-5"), "an older message says nothing"
        client.publish(KEYS.token(NAME), json.dumps({"version": 5, "state": "removed"}))
        snippet.await_token(None)


@pytest.mark.parametrize("redis_is", ["there", "gone"])
def test_node_uses_no_token_past_its_end(valkey: Valkey, tmp_path: Path, redis_is: str) -> None:
    ends_at = publish(valkey, 1, life=3.0)
    with running(tmp_path, valkey.url) as snippet:
        snippet.await_token("at-1")
        if redis_is == "gone":
            valkey.kill()
        snippet.await_token(None)
        assert [at for at, token in snippet.said if token == "at-1" and at > ends_at] == []


def test_node_reads_as_the_top_page_says(valkey: Valkey, tmp_path: Path) -> None:
    with valkey.client() as client:
        client.hset(KEYS.token("practice"), mapping={"access_token": "at-9"})
    command = program(tmp_path, README, valkey.url, "console.log(accessToken); redis.destroy();")
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "at-9\n"


def shell(script: str, folder: Path, url: str) -> subprocess.Popen[str]:
    """SCRIPT in a shell whose redis-cli speaks to the Redis of URL."""
    program = shutil.which("redis-cli")
    assert program is not None, "the foreign tests need redis-cli"
    wrapper = folder / "bin" / "redis-cli"
    wrapper.parent.mkdir(exist_ok=True)
    wrapper.write_text(f'#!/bin/sh\nexec {program} -u {url} "$@"\n')
    wrapper.chmod(0o755)
    return subprocess.Popen(
        ["/bin/sh", "-euc", script],
        env={"PATH": f"{wrapper.parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_shells_lines_do_what_they_say(valkey: Valkey, tmp_path: Path) -> None:
    [script] = (block for block in blocks_of("sh", PAGE.read_text()) if "HGET " in block)
    plain = [line for line in script.splitlines() if not re.search("SUBSCRIBE|XREAD", line)]
    [subscribe] = re.findall("^.+ SUBSCRIBE .+$", script, re.MULTILINE)
    [follow] = re.findall("^.+ XREAD .+$", script, re.MULTILINE)
    publish(valkey, 7)
    with shell("\n".join(plain), tmp_path, valkey.url) as done, valkey.client() as client:
        told, _ = done.communicate(timeout=60)
        assert done.returncode == 0
        assert told.splitlines()[0] == "at-7"
        assert client.get(KEYS.rejected(NAME)) == "1795000000000"
        assert client.xlen(KEYS.requests) == 1
    with (
        shell(subscribe, tmp_path, valkey.url) as listener,
        shell(follow, tmp_path, valkey.url) as reader,
        valkey.client() as client,
    ):
        assert listener.stdout is not None
        wait_until(lambda: client.pubsub_numsub(KEYS.token(NAME))[0][1], description="it listens")
        publish(valkey, 8)
        while "at-8" not in listener.stdout.readline():
            pass
        listener.kill()
        wait_until(
            lambda: client.info("clients")["blocked_clients"], description="it waits for events"
        )
        client.xadd(KEYS.events, {"event": "published", "grant": NAME})
        assert "published" in reader.communicate(timeout=60)[0]


def test_the_top_pages_shell_reads_the_token(valkey: Valkey, tmp_path: Path) -> None:
    [line] = re.findall(r"^TOKEN=\$\(redis-cli .+\)$", README.read_text(), re.MULTILINE)
    with valkey.client() as client:
        client.hset(KEYS.token("practice"), mapping={"access_token": "at-9"})
    with shell(f'{line}; echo "$TOKEN"', tmp_path, valkey.url) as done:
        assert done.communicate(timeout=60)[0] == "at-9\n"
