"""The snippets of the page for consumers, run against what the daemon writes."""

import ast
import re
from typing import Any

import anyio
import pytest

from tests.pages.reading import ROOT, blocks_of
from tests.publication.world import CANARY, CLOCK, KEYS, publication, publishing
from tests.support.valkey import Valkey
from tests.support.waiting import eventually

NAME = "acme-billing"
PAGE = ROOT / "deploy/consumers/README.md"


def snippet(language: str, word: str, valkey: Valkey) -> str:
    """The one block of LANGUAGE with WORD, for VALKEY."""
    [script] = [block for block in blocks_of(language, PAGE.read_text()) if word in block]
    return script.replace("redis://127.0.0.1:6379/0", valkey.url)


async def test_redis_py_reads_and_rejects(shared_valkey: Valkey) -> None:
    async with publishing(shared_valkey.url) as publisher:
        await publisher.publish([publication(NAME, version=7)], now=CLOCK.now())
    script = snippet("python", "import redis\n", shared_valkey)
    names: dict[str, Any] = {}
    exec(script, names)  # noqa: S102  our README
    names["connection"].close()
    assert names["headers"] == {"Authorization": f"Bearer {CANARY}-7"}
    with shared_valkey.client() as client:
        assert client.get(KEYS.rejected(NAME)) == "7"
        client.delete(KEYS.token(NAME))
    names = {}
    exec(script, names)  # noqa: S102  our README
    names["connection"].close()
    assert "headers" not in names


async def test_the_readers_snippet_follows_a_token(
    shared_valkey: Valkey, capsys: pytest.CaptureFixture[str]
) -> None:
    script = snippet("python", "TokenReader", shared_valkey)
    code = compile(script, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names: dict[str, Any] = {}
    said: list[str] = []

    def says(line: str) -> bool:
        said.extend(capsys.readouterr().out.splitlines())
        return said[-1:] == [line]

    async with publishing(shared_valkey.url) as publisher, anyio.create_task_group() as group:
        await publisher.publish([publication(NAME, version=7)], now=CLOCK.now())

        async def run() -> None:
            await eval(code, names)  # noqa: S307  our README

        group.start_soon(run)
        await eventually(lambda: says("version 7"), "the token")
        with shared_valkey.client() as client:
            assert client.get(KEYS.rejected(NAME)) == "7"
            client.delete(KEYS.token(NAME))
            client.publish(KEYS.token(NAME), '{"version":7,"state":"removed"}')
        await eventually(lambda: says("gone"), "the word that it has gone")
        group.cancel_scope.cancel()
    await names["tokens"].aclose()
    assert names["headers"] == {"Authorization": f"Bearer {CANARY}-7"}


def test_the_shell_reads_and_rejects(shared_valkey: Valkey) -> None:
    """What redis-cli is given; it is not asked to be installed."""
    script = snippet("sh", "redis-cli", shared_valkey)
    commands = re.findall(r"^redis-cli (?!SUBSCRIBE|XREAD)(.+)$", script, flags=re.MULTILINE)
    with shared_valkey.client() as client:
        for command in commands:
            client.execute_command(*(word.strip("'") for word in command.split()))
        assert client.get(KEYS.rejected(NAME)) == "1795000000000"
        assert client.xlen(KEYS.requests) == 1
