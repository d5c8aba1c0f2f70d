"""What a look at Redis finds, and that it leaves nothing behind."""

from typing import Any

import pytest

from refresher.clock import SystemClock
from refresher.demo.private_server import free_port
from refresher.domain.findings import Finding, Level
from refresher.domain.secret import Secret
from refresher.publication.server.connection import Address
from refresher.publication.server.opening import open_server
from refresher.publication.server.probing import probe
from tests.publication.test_rights import ALL, WHO, allow
from tests.publication.world import KEYS
from tests.support.valkey import Valkey


async def found(url: str, *, ahead: float = 0.0, **who: Any) -> list[Finding]:
    class Clock(SystemClock):
        def now(self) -> float:
            return super().now() + ahead

    server = open_server(Address(url=url, **who))
    try:
        findings = [one async for one in probe(server, KEYS, Clock())]
    finally:
        await server.aclose()
    assert all((one.mend is None) is (one.level is Level.GOOD) for one in findings)
    assert "secret" not in str(findings)
    return findings


def bad(findings: list[Finding]) -> list[str]:
    return [one.text for one in findings if one.level is not Level.GOOD]


async def test_a_redis_that_is_well(shared_valkey: Valkey) -> None:
    findings = await found(shared_valkey.url)
    assert bad(findings) == []
    assert findings[0].text.startswith("answers, version ")
    assert len(findings) == 4
    with shared_valkey.client() as client:
        assert client.keys("*") == []


async def test_an_event_is_not_added_to_a_stream_that_is_there(shared_valkey: Valkey) -> None:
    with shared_valkey.client() as client:
        client.xadd(KEYS.events, {"state": "fresh"})
        client.set(KEYS.token("acme"), "kept")
        await found(shared_valkey.url)
        assert client.xlen(KEYS.events) == 1
        assert set(client.keys("*")) == {KEYS.events, KEYS.token("acme")}


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (["-hset"], ["forbids hset: add +hset"]),
        (["-publish", "-xadd"], ["forbids xadd: add +xadd", "forbids publish: add +publish"]),
        (["-evalsha"], ["forbids evalsha: add +evalsha"]),
        (["resetchannels"], ["forbids its channels: add &PREFIX*"]),
        (["resetkeys", "~other:*"], ["forbids its keys: add ~PREFIX*"]),
        (["-client|tracking"], ["refuses CLIENT TRACKING"]),
    ],
)
async def test_a_right_that_is_missing(valkey: Valkey, rules: list[str], told: list[str]) -> None:
    allow(valkey, *rules)
    who: dict[str, Any] = WHO
    texts = bad(await found(valkey.url, **who))
    assert len(texts) == len(told)
    for text, part in zip(texts, told, strict=True):
        assert part in text


async def test_a_password_that_is_wrong_or_missing(valkey: Valkey) -> None:
    allow(valkey, *ALL)
    with valkey.client() as client:
        [text] = bad(await found(valkey.url, username="daemon", password=Secret("wrong-secret")))
        assert text == "Redis does not accept the user name and password"
        client.execute_command("ACL", "SETUSER", "default", "resetpass")
    [text] = bad(await found(valkey.url))
    assert text == "Redis asks for a password and none is configured"


async def test_nobody_there() -> None:
    [one] = await found(f"redis://127.0.0.1:{free_port()}")
    assert (one.level, one.text) == (Level.PROBLEM, "connection refused")
    assert "check redis.url" in str(one.mend)


async def test_a_memory_that_evicts_and_a_clock_that_is_off(valkey: Valkey) -> None:
    with valkey.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    texts = bad(await found(valkey.url, ahead=600))
    assert texts == [
        "maxmemory-policy allkeys-lru evicts tokens before anything without a TTL",
        "its clock is 10 min behind ours",
    ]
