"""Commands as bytes: the same that redis-py makes of them."""

import pytest
from redis.asyncio import Connection

from refresher.publication.server.packing import PackingConnection

COMMANDS: list[tuple[str | bytes | int, ...]] = [
    ("PING",),
    ("EVALSHA", "ab" * 20, 1, "refresher:token:acme", "version", 1_800_000_000_000, "", -1),
    ("HSET", "k", "scope", "日本 \r\n$3", "bytes", b"\xff\r\n\x00"),
    ("HSET", "k", "large", "x" * 100_000),
    ("SET", "k", ""),
]


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_a_command_is_what_the_library_makes_of_it(command: tuple[str | bytes | int, ...]) -> None:
    library = b"".join(Connection().pack_command(*command))
    assert b"".join(PackingConnection().pack_command(*command)) == library


def test_many_commands_are_one_after_the_other() -> None:
    library = b"".join(Connection().pack_commands(COMMANDS))
    assert b"".join(PackingConnection().pack_commands(COMMANDS)) == library
